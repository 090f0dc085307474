//! Programs that reap from the ring by themselves.

use std::os::fd::RawFd;

use crate::{
    aio::{self, Iocb},
    ring::Ring,
};

/// Submits this many reads in one call.
fn submit_reads(ctx: u64, fd: RawFd, count: usize) {
    let mut buffer = 0;
    let mut iocbs: Vec<Iocb> =
        (1..=count as u64).map(|it| aio::pread(fd, &mut buffer, it)).collect();
    assert_eq!(aio::submit(ctx, &mut iocbs), count as i64, "io_submit");
}

/// Everything is reaped from the ring, and io_getevents is never called.
pub fn from_the_ring() {
    let ctx = aio::setup(8);
    let (ring, fd) = (Ring::of(ctx), aio::zero());
    for _ in 0..10 {
        submit_reads(ctx, fd, 4);
        for data in 1..=4 {
            let event = ring.reap().expect("/dev/zero completes at once");
            assert_eq!((event.data, event.res), (data, 8));
        }
        assert!(ring.reap().is_none(), "no more than that");
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// The process exits with completed reads that nobody has reaped.
pub fn some_left_in_the_ring() {
    let ctx = aio::setup(8);
    let ring = Ring::of(ctx);
    submit_reads(ctx, aio::zero(), 5);
    for data in 1..=2 {
        assert_eq!(ring.reap().map(|it| it.data), Some(data));
    }
}
