//! Polls, and descriptors that are closed before or after they complete.

use std::{os::fd::RawFd, time::Duration};

use crate::{aio, tasks::is_readable_within};

fn close(fd: RawFd) {
    // SAFETY: has no pointers.
    assert_eq!(unsafe { libc::close(fd) }, 0, "close");
}

/// bad-poll-on-closed: a poll of a pipe pends, and its descriptor is closed. Then it completes.
pub fn while_it_pends() {
    let ctx = aio::setup(8);
    let (reader, writer) = aio::pipe();
    assert_eq!(aio::submit(ctx, &mut [aio::poll(reader, 1)]), 1, "io_submit");
    close(reader);
    crate::wait();
    aio::fill(writer);
    assert!(aio::reap(ctx, 1)[0].res > 0, "the request holds the pipe");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// bad-poll-on-reused: polls pend of pipes that have the same number one after the other, for 300 ms each; at most 100.
pub fn one_number_for_all() {
    let ctx = aio::setup(128);
    let (number, _) = aio::pipe();
    let mut polls = [aio::poll(number, 1); 100];
    crate::say("ready");
    for poll in &mut polls {
        let (other, _writer) = aio::pipe();
        // SAFETY: descriptors of ours.
        assert_eq!(unsafe { libc::dup2(other, number) }, number, "dup2");
        close(other);
        assert_eq!(aio::submit(ctx, std::slice::from_mut(poll)), 1, "io_submit");
        if is_readable_within(0, Duration::from_millis(300)) {
            break;
        }
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-poll-on-closed: of polls that pend, one descriptor stays; one is closed after its poll has completed; and one
/// before its poll is cancelled, which takes no time.
pub fn after_it_completed() {
    let ctx = aio::setup(8);
    let (stays, writer) = aio::pipe();
    let (closed, other) = aio::pipe();
    let (early, _other) = aio::pipe();
    let mut polls = [stays, closed, early].map(|it| aio::poll(it, 1));
    assert_eq!(aio::submit(ctx, &mut polls), 3, "io_submit");
    aio::fill(other);
    aio::reap(ctx, 1);
    close(closed);
    close(early);
    let cancelled = aio::cancel(ctx, &raw const polls[2] as u64, &raw mut polls[1] as u64);
    assert_eq!(cancelled, aio::error(libc::EINPROGRESS), "io_cancel");
    aio::reap(ctx, 1);
    // Its number is a copy's, which is the same pipe.
    // SAFETY: descriptors of ours.
    unsafe {
        let copy = libc::dup(stays);
        assert_eq!(libc::dup2(copy, stays), stays, "dup2");
    }
    crate::wait();
    aio::fill(writer);
    aio::reap(ctx, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
