//! Programs that go on whatever they receive, and say what that was.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    aio::{self, IoEvent},
    say,
};

/// Waits in io_getevents without a timeout. Each time it returns: the result, and how many SIGUSR1 there were.
/// Ends with a byte on the standard input.
pub fn interrupted() {
    static SIGNALS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count(_: i32) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler adds to a number; the structure is complete.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let ctx = aio::setup(2);
    assert_eq!(aio::submit(ctx, &mut [aio::poll(0, 9)]), 1, "io_submit");
    say("ready");
    loop {
        let mut events = [IoEvent::default()];
        let ret = aio::getevents(ctx, 1, &mut events, None);
        say(&format!("{ret} {}", SIGNALS.load(Ordering::Relaxed)));
        if ret == 1 {
            return;
        }
    }
}

/// Submits reads without end; ten times a second, how many calls there were, and how many failed.
pub fn submits() {
    let (ctx, file, mut buffer) = (aio::setup(4), aio::zero(), 0);
    let (mut calls, mut failed) = (0u64, 0u64);
    say("ready");
    let mut told = Instant::now();
    loop {
        let ret = aio::submit(ctx, &mut [aio::pread(file, &mut buffer, 1)]);
        calls += 1;
        if ret == 1 {
            aio::reap(ctx, 1);
        } else {
            failed += 1;
        }
        if told.elapsed() > Duration::from_millis(100) {
            told = Instant::now();
            say(&format!("{calls} {failed}"));
        }
    }
}

/// Submits reads until one failed, and then until one is accepted again. Says what each of the two got.
pub fn until_accepted() {
    let (ctx, file, mut buffer) = (aio::setup(4), aio::zero(), 0);
    for is_wanted in [|ret| ret < 0, |ret| ret == 1] {
        loop {
            let ret = aio::submit(ctx, &mut [aio::pread(file, &mut buffer, 1)]);
            if ret == 1 {
                aio::reap(ctx, 1);
            }
            if is_wanted(ret) {
                say(&format!("io_submit {ret}"));
                break;
            }
        }
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
