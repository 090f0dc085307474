//! Requests that are not reaped, not submitted again, or whose iocb is used again too early.

use crate::{
    aio::{self, Iocb},
    processors,
    ring::Ring,
};

/// good-request-stuck-poll: a poll of a pipe may wait for any time.
pub fn poll_pending() {
    let ctx = aio::setup(8);
    let (reader, writer) = aio::pipe();
    let mut poll = [aio::poll(reader, 1)];
    assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
    crate::wait();
    aio::fill(writer);
    aio::reap(ctx, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// bad-unreaped-completions: five reads have completed, and nobody reaps them.
pub fn unreaped() {
    let ctx = five_reads();
    crate::wait();
    aio::reap(ctx, 5);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-unreaped-completions: the reads are reaped at once.
pub fn reaped() {
    let ctx = five_reads();
    aio::reap(ctx, 5);
    crate::wait();
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

fn five_reads() -> u64 {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    let mut iocbs = [aio::pread(aio::zero(), &mut buffer, 1); 5];
    assert_eq!(aio::submit(ctx, &mut iocbs), 5, "io_submit");
    ctx
}

/// good-discarded-poll: io_destroy cancels a poll.
pub fn poll_discarded() {
    let ctx = aio::setup(8);
    let (reader, _writer) = aio::pipe();
    let mut poll = [aio::poll(reader, 1)];
    assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// bad-iocb-reused-in-flight: the second request has the iocb of the first, which is in flight.
pub fn reused_in_flight() {
    let ctx = aio::setup(8);
    let (reader, writer) = aio::pipe();
    let mut poll = [aio::poll(reader, 1)];
    assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
    assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
    aio::fill(writer);
    let address = poll.as_ptr() as u64;
    assert!(aio::reap(ctx, 2).iter().all(|it| it.obj == address), "one iocb");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-iocb-reused-in-flight: the iocb is used again once the first request is reaped. Then two
/// requests of one call have the same iocb, which is allowed.
pub fn reused_after_reaping() {
    let ctx = aio::setup(8);
    let (reader, writer) = aio::pipe();
    let mut poll = [aio::poll(reader, 1)];
    let address = poll.as_mut_ptr() as u64;
    for _ in 0..2 {
        assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
        aio::fill(writer);
        aio::reap(ctx, 1);
        aio::drain(reader);
    }
    let twice = [address; 2];
    assert_eq!(aio::submit_at(ctx, 2, twice.as_ptr() as u64), 2, "io_submit");
    aio::fill(writer);
    assert!(aio::reap(ctx, 2).iter().all(|it| it.obj == address), "one iocb");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Four reads. The third is refused, so the kernel does not look at the fourth.
fn four_with_a_bad_one(ctx: u64, buffer: &mut u64) -> [Iocb; 4] {
    let good = aio::pread(aio::zero(), buffer, 1);
    let mut iocbs = [good, good, Iocb { fildes: 999, ..good }, good];
    assert_eq!(aio::submit(ctx, &mut iocbs), 2, "io_submit");
    iocbs
}

/// bad-short-submit-dropped: nobody looks at what io_submit returned.
pub fn rest_dropped() {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    four_with_a_bad_one(ctx, &mut buffer);
    aio::reap(ctx, 2);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    aio::stay();
}

/// good-short-submit-dropped: the third one is submitted alone, which says why it was refused, and
/// then the fourth.
pub fn rest_submitted() {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    let mut iocbs = four_with_a_bad_one(ctx, &mut buffer);
    assert_eq!(aio::submit(ctx, &mut iocbs[2..3]), aio::error(libc::EBADF), "the bad one");
    assert_eq!(aio::submit(ctx, &mut iocbs[3..]), 1, "the last one");
    aio::reap(ctx, 3);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// bad-submit-eagain: all slots are taken, and the program submits again instead of reaping.
pub fn submitted_until_refused() {
    processors::stay_on_one();
    let ctx = aio::setup(8);
    let (reader, _writer) = aio::pipe();
    let mut iocbs = vec![aio::poll(reader, 1); Ring::of(ctx).entries() as usize];
    let mut accepted = 0;
    while aio::submit(ctx, &mut iocbs[accepted..=accepted]) == 1 {
        accepted += 1;
    }
    for _ in 0..3 {
        let ret = aio::submit(ctx, &mut iocbs[accepted..=accepted]);
        assert_eq!(ret, aio::error(libc::EAGAIN), "io_submit once more");
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-submit-eagain: there are never more requests at a time than io_setup was asked for.
pub fn submitted_as_many_as_fit() {
    const MOST: usize = 8;
    let ctx = aio::setup(MOST as u64);
    let (reader, writer) = aio::pipe();
    let mut iocbs = [aio::poll(reader, 1); MOST];
    for _ in 0..20 {
        assert_eq!(aio::submit(ctx, &mut iocbs), MOST as i64, "io_submit");
        aio::fill(writer);
        aio::reap(ctx, MOST);
        aio::drain(reader);
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
