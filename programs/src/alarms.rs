//! False alarms: programs that do something harmless which a naive tool reports as an error.
//!
//! They need nothing but /proc, /dev and a directory for temporary files, do the same in each run,
//! and end by themselves (only `alarm-local-handle-alive` waits for a line first).
//! `alarm-limit-lowered` lowers a limit of the whole machine for a moment: no other process may
//! call io_setup meanwhile.

mod calls;
mod contexts;
mod reaping;
mod requests;

/// The programs by name.
pub const PROGRAMS: [(&str, fn()); 24] = [
    ("alarm-from-the-ring", reaping::from_the_ring),
    ("alarm-alive-at-exit", contexts::alive_at_exit),
    ("alarm-destroyed-by-another-thread", calls::destroyed_by_another_thread),
    ("alarm-same-handle-in-two-processes", contexts::same_handle_in_two_processes),
    ("alarm-same-handle-again", contexts::same_handle_again),
    ("alarm-moved", contexts::moved),
    ("alarm-moved-before-use", contexts::moved_before_use),
    ("alarm-one-iocb", requests::one_iocb),
    ("alarm-data-is-no-identity", requests::data_is_no_identity),
    ("alarm-errors-as-events", requests::errors_as_events),
    ("alarm-interrupted", calls::interrupted),
    ("alarm-refused-one-dropped", requests::refused_one_dropped),
    ("alarm-probe-at-the-start", contexts::probe_at_the_start),
    ("alarm-nothing-destroyed", calls::nothing_destroyed),
    ("alarm-through-libaio", calls::through_libaio),
    ("alarm-handle-nowhere-to-go", calls::handle_nowhere_to_go),
    ("alarm-limit-lowered", contexts::limit_lowered),
    ("alarm-without-libraries", calls::without_libraries),
    ("alarm-pending-by-design", requests::pending_by_design),
    ("alarm-numbers-that-are-no-lengths", requests::numbers_that_are_no_lengths),
    ("alarm-some-left-in-the-ring", reaping::some_left_in_the_ring),
    ("alarm-refused-below-capacity", requests::refused_below_capacity),
    ("alarm-local-handle", contexts::local_handle),
    ("alarm-local-handle-alive", contexts::local_handle_alive),
];

pub use calls::destroyed_by_another_thread;
pub use contexts::{Engine, unmapped};
