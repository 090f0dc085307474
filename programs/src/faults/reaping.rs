//! How completions are waited for.

use std::time::{Duration, Instant};

use crate::{
    aio::{self, IoEvent, Iocb, Timespec},
    files::Temporary,
    ring::Ring,
    tasks::is_readable_within,
};

/// bad-busy-reaping: takes what is there, and there is nothing, until a line comes; not faster than calls are told.
pub fn polls_all_the_time() {
    while_a_poll_pends(|ctx| {
        for min_nr in [0, 1].into_iter().cycle().take(100) {
            let at_once = (min_nr == 1).then(|| Timespec::millis(0));
            let ret = aio::getevents(ctx, min_nr, &mut [IoEvent::default()], at_once);
            assert_eq!(ret, 0, "io_getevents");
            spin(Duration::from_micros(50));
        }
        Duration::ZERO
    });
}

/// good-busy-reaping: every 5 ms; and as often as it can, but then it takes something.
pub fn polls_now_and_then() {
    let own = aio::setup(8);
    let zero = aio::zero();
    let mut buffer = 0;
    let mut iocb = [aio::pread(zero, &mut buffer, 1)];
    while_a_poll_pends(|ctx| {
        let take = |ctx| {
            let at_once = Some(Timespec::millis(0));
            aio::getevents(ctx, 0, &mut [IoEvent::default()], at_once)
        };
        assert_eq!(take(ctx), 0, "io_getevents");
        for _ in 0..20 {
            assert_eq!(aio::submit(own, &mut iocb), 1, "io_submit");
            assert_eq!(take(own), 1, "io_getevents");
        }
        Duration::from_millis(5)
    });
    assert_eq!(aio::destroy(own), 0, "io_destroy");
}

/// Does this with a context in which a request is in flight, with pauses as long as it says, until a line comes.
fn while_a_poll_pends(mut does: impl FnMut(u64) -> Duration) {
    let ctx = aio::setup(8);
    let (reader, writer) = aio::pipe();
    assert_eq!(aio::submit(ctx, &mut [aio::poll(reader, 1)]), 1, "io_submit");
    crate::say("ready");
    loop {
        let pause = does(ctx);
        if is_readable_within(0, pause) {
            break;
        }
    }
    aio::fill(writer);
    aio::reap(ctx, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// More than are needed: some may be complete at once all the same.
const MANY: usize = 1200;

/// bad-shallow-queue: each request is waited for before the next one is submitted. (They are of a kind that a worker
/// of the kernel does, on every file system, so they are not complete at once.)
pub fn one_at_a_time() {
    let file = Temporary::of(&[7; 64]);
    let ctx = aio::setup(8);
    for _ in 0..MANY {
        assert_eq!(aio::submit(ctx, &mut [sync(&file)]), 1, "io_submit");
        aio::reap(ctx, 1);
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-shallow-queue: two at a time; one, in a context that is made for one; and one, while there is other work to do.
pub fn two_at_a_time() {
    let file = Temporary::of(&[7; 64]);
    let two = aio::setup(8);
    for _ in 0..MANY / 2 {
        assert_eq!(aio::submit(two, &mut [sync(&file), sync(&file)]), 2, "io_submit");
        aio::reap(two, 2);
    }
    let (single, ahead) = (aio::setup(1), aio::setup(8));
    let ring = Ring::of(ahead);
    for ctx in [single, ahead] {
        for _ in 0..MANY {
            assert_eq!(aio::submit(ctx, &mut [sync(&file)]), 1, "io_submit");
            while ctx == ahead && ring.is_empty() {
                std::thread::yield_now();
            }
            aio::reap(ctx, 1);
        }
    }
    for ctx in [two, single, ahead] {
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}

/// Works for so long.
fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn sync(file: &Temporary) -> Iocb {
    Iocb { data: 1, opcode: aio::FDSYNC, fildes: file.fd(), ..Iocb::default() }
}
