//! Public reports and cases from practice, each as a program with one behaviour; docs/dev/cases.md
//! says what is the right output for each. The programs write to standard output what they know to
//! be true, so that a test can compare it.
//!
//! `aio-programs NAME [ARGUMENT]...`. Files are made in the temporary directory (`TMPDIR`) and
//! removed at the end. A program that says `ready` then waits for a line on its standard input, or
//! for its end. A program that cannot have what it needs (a file with O_DIRECT, /dev/fuse) says so,
//! and ends with status 77.

mod again;
mod contexts;
pub mod disk;
mod memory;
mod pools;
mod refused;
mod results;
mod unseen;
mod waiting;

use std::os::fd::RawFd;

use crate::aio::{self, Iocb};

/// A program that takes arguments.
type Program = fn(&[String]);

/// The programs by name.
pub const PROGRAMS: [(&str, Program); 44] = [
    ("append", results::append),
    ("big-ring", pools::big_ring),
    ("busy-reap", waiting::busy_reap),
    ("child-shares", contexts::child_shares),
    ("closed-fd", refused::closed_fd),
    ("double-destroy", contexts::double_destroy),
    ("drop-reuse", again::drop_reuse),
    ("enospc", results::enospc),
    ("eventfd-miss", waiting::eventfd_miss),
    ("exec-self", contexts::exec_self),
    ("exit-waits", waiting::exit_waits),
    ("extending-write", results::extending_write),
    ("fault-file", again::fault_file),
    ("fault-retry", again::fault_retry),
    ("fsync-stale", refused::fsync_stale),
    ("key-cancel", refused::key_cancel),
    ("log-header", unseen::log_header),
    ("loop-setup", contexts::loop_setup),
    ("many", contexts::many),
    ("min-nr-waits", waiting::min_nr_waits),
    ("nowait-write", results::nowait_write),
    ("out-of-reach", refused::out_of_reach),
    ("pending", waiting::pending),
    ("poll-closed", waiting::poll_closed),
    ("reap-fails", again::reap_fails),
    ("reconnect", contexts::reconnect),
    ("refused-others", refused::refused_others),
    ("resfd-file", refused::resfd_file),
    ("retry-cut", again::retry_cut),
    ("retry-exit", again::retry_exit),
    ("retry-pool", again::retry_pool),
    ("reuse-fd", results::reuse_fd),
    ("reuse-number", again::reuse_number),
    ("ring-covered", contexts::ring_covered),
    ("ring-full-drop", pools::ring_full_drop),
    ("ring-full-sync", pools::ring_full_sync),
    ("same-memory", memory::same_memory),
    ("shared-pool", pools::shared_pool),
    ("stuck-read", waiting::stuck_read),
    ("sync-fallback", again::sync_fallback),
    ("sync-read", again::sync_read),
    ("tail-write", results::tail_write),
    ("thread-leaves", waiting::thread_leaves),
    ("unseen-writer", unseen::unseen_writer),
];

const PAGE: u64 = 4096;

/// The argument at this index as a number.
fn number(arguments: &[String], index: usize, default: u64) -> u64 {
    arguments.get(index).map_or(default, |it| it.parse().expect("a number"))
}

fn word(arguments: &[String], index: usize) -> &str {
    arguments.get(index).map_or("", String::as_str)
}

/// A request of `nbytes` bytes.
fn request(opcode: u16, fd: RawFd, buf: *mut u8, nbytes: u64, offset: u64) -> Iocb {
    let offset = offset.cast_signed();
    Iocb { opcode, fildes: fd, buf: buf as u64, nbytes, offset, ..Iocb::default() }
}

/// Submits one request, and reaps it if it was accepted. Gives its result, or as an error what
/// io_submit returned.
fn do_one(ctx: u64, iocb: &mut Iocb) -> Result<i64, i64> {
    match aio::submit(ctx, std::slice::from_mut(iocb)) {
        1 => Ok(aio::reap(ctx, 1)[0].res),
        refused => Err(refused),
    }
}

fn destroy(ctx: u64) {
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Ends a program that cannot have what it needs.
fn cannot_run(why: &str) -> ! {
    crate::say(why);
    std::process::exit(77)
}
