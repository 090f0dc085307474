//! Ways to learn of completions.

use std::time::Instant;

use crate::{
    aio::{self, IoEvent, Timespec},
    ring::Ring,
};

/// Reaps completions from the ring by itself, and never calls io_getevents.
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

/// `batches ASKED REQUESTS BATCH [ring]`: makes REQUESTS reads of /dev/zero, BATCH at a time, in a
/// context for ASKED, and reaps them with io_getevents or from the ring. Says how many there were.
pub fn batches(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<u64>().expect("a number");
    let (asked, requests, batch) = (number(0), number(1), number(2));
    let is_from_ring = arguments.get(3).is_some_and(|it| it == "ring");
    let (ctx, fd) = (aio::setup(asked), aio::zero());
    let ring = Ring::of(ctx);
    let mut buffer = 0;
    let mut done = 0;
    while done < requests {
        let data = done..requests.min(done + batch);
        let mut iocbs: Vec<_> = data.map(|it| aio::pread(fd, &mut buffer, it)).collect();
        assert_eq!(aio::submit(ctx, &mut iocbs), iocbs.len() as i64, "io_submit");
        let events = if is_from_ring {
            iocbs.iter().map(|_| ring.reap().expect("/dev/zero completes at once")).collect()
        } else {
            aio::reap(ctx, iocbs.len())
        };
        assert!(events.iter().zip(done..).all(|(it, data)| (it.data, it.res) == (data, 8)));
        done += events.len() as u64;
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    crate::say(&format!("{done} requests"));
}

/// `large-ring-waits ASKED REQUESTS`: waits with a context for ASKED in which 2,047 requests have
/// completed: more entries than the kernel maps when the ring is touched once. Then makes REQUESTS
/// reads, one after the other.
pub fn large_ring_waits(arguments: &[String]) {
    let number = |at: usize| arguments[at].parse::<u64>().expect("a number");
    let (ctx, fd) = (aio::setup(number(0)), aio::zero());
    let mut buffer = 0;
    let mut one = |data| {
        assert_eq!(aio::submit(ctx, &mut [aio::pread(fd, &mut buffer, data)]), 1, "io_submit");
        assert_eq!(aio::reap(ctx, 1)[0].data, data);
    };
    (0..2047).for_each(&mut one);
    crate::wait();
    (0..number(1)).for_each(&mut one);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Waits this long for a request that does not complete, and says what the call returned.
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

/// Waits in io_getevents until something can be read from standard input, but no longer than this.
pub fn blocked_on_stdin(millis: Option<u64>) {
    let ctx = aio::setup(2);
    assert_eq!(aio::submit(ctx, &mut [aio::poll(0, 9)]), 1, "io_submit");
    let mut events = [IoEvent::default()];
    let timeout = millis.map(|it| Timespec::millis(it as i64));
    assert_eq!(aio::getevents(ctx, 1, &mut events, timeout), 1, "io_getevents");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
