//! Ways to learn of completions.

use std::{
    sync::atomic::{AtomicU32, Ordering, fence},
    time::Instant,
};

use crate::aio::{self, IoEvent, Timespec};

/// Reads completions from the ring itself; io_getevents is never called.
pub fn from_the_ring(count: u64) {
    let ctx = aio::setup(8);
    let fd = aio::zero();
    let mut buffer = 0;
    // SAFETY: the handle is the address of the ring: four numbers, then more, then the entries
    // from byte 32 on.
    let (nr, head, tail) = unsafe {
        let header = ctx as *const AtomicU32;
        (&*header.add(1), &*header.add(2), &*header.add(3))
    };
    for data in 1..=count {
        assert_eq!(aio::submit(ctx, &mut [aio::pread(fd, &mut buffer, data)]), 1, "io_submit");
        let at = head.load(Ordering::Relaxed);
        assert_ne!(at, tail.load(Ordering::Acquire), "/dev/zero completes at once");
        // SAFETY: `at` is below the number of entries.
        let event = unsafe { ((ctx + 32) as *const IoEvent).add(at as usize).read_volatile() };
        assert_eq!((event.data, event.res), (data, 8));
        fence(Ordering::SeqCst);
        head.store((at + 1) % nr.load(Ordering::Relaxed), Ordering::Release);
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
