//! Ways to learn of completions.

use std::time::Instant;

use crate::{
    aio::{self, IoEvent, Timespec},
    ring::Ring,
};

/// Reads completions from the ring itself; io_getevents is never called.
pub fn from_the_ring(count: u64) {
    let ctx = aio::setup(8);
    let fd = aio::zero();
    let mut buffer = 0;
    let ring = Ring::of(ctx);
    for data in 1..=count {
        assert_eq!(aio::submit(ctx, &mut [aio::pread(fd, &mut buffer, data)]), 1, "io_submit");
        let event = ring.reap().expect("/dev/zero completes at once");
        assert_eq!((event.data, event.res), (data, 8));
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Waits this long for a request that does not complete, and says what came of it.
pub fn blocked(millis: u64) {
    let ctx = aio::setup(2);
    let (reader, _writer) = aio::pipe();
    assert_eq!(aio::submit(ctx, &mut [aio::poll(reader, 9)]), 1, "io_submit");
    crate::say("ready");
    let start = Instant::now();
    let mut events = [IoEvent::default()];
    let ret = aio::getevents(ctx, 1, &mut events, Some(Timespec::millis(millis as i64)));
    crate::say(&format!("{ret} {}", start.elapsed().as_millis()));
}

/// Waits until something can be read from the standard input, in io_getevents.
pub fn blocked_on_stdin() {
    let ctx = aio::setup(2);
    assert_eq!(aio::submit(ctx, &mut [aio::poll(0, 9)]), 1, "io_submit");
    let mut events = [IoEvent::default()];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
