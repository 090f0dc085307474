//! False alarms: for each, a program that does the harmless thing which a naive tool misreports. Only
//! `t17`, which looks as harmless, leaks.
//!
//! They need nothing but /proc, /dev and a directory for temporary files, end by themselves (but for
//! `t17` and `t22-alive`, which wait for a line), and do the same in each run. `t15` lowers a limit of
//! the whole machine for a moment: nothing else may call io_setup meanwhile.

mod calls;
mod contexts;
mod reaping;
mod requests;

/// The programs by name.
pub const PROGRAMS: [(&str, fn()); 23] = [
    ("t1", reaping::from_the_ring),
    ("t2", contexts::alive_at_exit),
    ("t3", calls::destroyed_by_another_thread),
    ("t4", contexts::same_handle_in_two_processes),
    ("t5", contexts::same_handle_again),
    ("t6", contexts::moved),
    ("t7", requests::data_is_no_identity),
    ("t8", requests::errors_as_events),
    ("t9", calls::interrupted),
    ("t10", requests::refused_one_dropped),
    ("t11", contexts::probe_at_the_start),
    ("t12", calls::nothing_destroyed),
    ("t13", calls::through_libaio),
    ("t14", calls::handle_nowhere_to_go),
    ("t15", contexts::limit_lowered),
    ("t16", calls::without_libraries),
    ("t17", contexts::unmapped),
    ("t18", requests::pending_by_design),
    ("t19", requests::numbers_that_are_no_lengths),
    ("t20", reaping::some_left_in_the_ring),
    ("t21", requests::refused_below_capacity),
    ("t22", contexts::local_handle),
    ("t22-alive", contexts::local_handle_alive),
];

pub use calls::destroyed_by_another_thread;
pub use contexts::{Engine, unmapped};
