//! Programs that go on whatever they receive, and say what it was.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    aio::{self, IoEvent},
    say,
};

/// Waits in io_getevents for two completions, of which one has come, and says how many it gave.
pub fn partly() {
    let ctx = aio::setup(2);
    let mut byte = 0;
    let mut iocbs = [aio::pread(aio::zero(), &mut byte, 1), aio::poll(0, 9)];
    assert_eq!(aio::submit(ctx, &mut iocbs), 2, "io_submit");
    say("ready");
    let mut events = [IoEvent::default(); 2];
    say(&aio::getevents(ctx, 2, &mut events, None).to_string());
}

/// Waits in io_getevents without a timeout. Each time it returns, says the result, and how many
/// SIGUSR1 there were. Ends when a byte comes on standard input.
pub fn interrupted() {
    static SIGNALS: AtomicU64 = AtomicU64::new(0);
    extern "C" fn count(_: i32) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the handler only adds to an atomic number, and the structure is complete.
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

/// Writes more to a pipe than there is room for, and says what write returned. Nobody reads until a
/// line comes.
pub fn blocked_write() {
    const SIZE: usize = 1 << 20;
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let reading = std::thread::spawn(move || {
        crate::wait_for_a_line();
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut rest).expect("the rest");
    });
    say("ready");
    let written = std::io::Write::write(&mut &writer, &[0; SIZE]).expect("write");
    say(&written.to_string());
    drop(writer);
    reading.join().expect("the reader");
}

/// Sends itself real-time signals until a line comes, while the thread that receives them makes
/// calls. Each signal has as its value how many were sent before it. Says how many were sent, were
/// received, and came out of order.
pub fn signals() {
    static RECEIVED: AtomicU64 = AtomicU64::new(0);
    static WRONG: AtomicU64 = AtomicU64::new(0);
    static IS_LAST: AtomicBool = AtomicBool::new(false);
    extern "C" fn received(_: i32, info: *const libc::siginfo_t, _: *const libc::c_void) {
        // SAFETY: the kernel passes a valid pointer, and sigqueue(3) has set the value.
        let value = unsafe { (*info).si_value() }.sival_ptr as u64;
        if value != RECEIVED.fetch_add(1, Ordering::Relaxed) {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
    }
    extern "C" fn last(_: i32) {
        IS_LAST.store(true, Ordering::Relaxed);
    }
    /// How many signals may be sent and not received yet.
    const MOST: u64 = 64;
    // The last signal has a higher number, so it comes when no other is pending any more:
    // signal(7).
    let (numbered, at_end) = (libc::SIGRTMIN(), libc::SIGRTMIN() + 1);
    let handle = |signal, handler, flags| {
        // SAFETY: the handlers only change atomic numbers, and the structure is complete.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            (action.sa_sigaction, action.sa_flags) = (handler, flags);
            assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
        }
    };
    handle(numbered, received as *const () as usize, libc::SA_SIGINFO | libc::SA_RESTART);
    handle(at_end, last as *const () as usize, libc::SA_RESTART);
    let mask = |how| {
        // SAFETY: the set of signals is a local that lives during the calls.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, numbered);
            libc::sigaddset(&raw mut set, at_end);
            assert_eq!(libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()), 0);
        }
    };
    let send = |signal, value: u64| {
        let value = libc::sigval { sival_ptr: value as *mut libc::c_void };
        // SAFETY: the signal goes to ourselves and has a handler.
        unsafe { libc::sigqueue(libc::getpid(), signal, value) == 0 }
    };
    mask(libc::SIG_BLOCK);
    let is_over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| {
            mask(libc::SIG_UNBLOCK);
            let ctx = aio::setup(4);
            while !IS_LAST.load(Ordering::Relaxed) {
                crate::basic::pair(ctx, 1);
            }
        });
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                let may = sent - RECEIVED.load(Ordering::Relaxed) < MOST;
                if may && send(numbered, sent) {
                    sent += 1;
                } else {
                    std::thread::yield_now();
                }
            }
            while !send(at_end, 0) {
                std::thread::yield_now();
            }
            sent
        });
        crate::wait();
        is_over.store(true, Ordering::Relaxed);
        sender.join().expect("the sender")
    });
    let [received, wrong] = [&RECEIVED, &WRONG].map(|it| it.load(Ordering::Relaxed));
    say(&format!("{sent} {received} {wrong}"));
}

/// Four threads each submit and reap `pairs` reads as fast as they can. Says how many there were in
/// all.
pub fn flood(pairs: u64) {
    static ALL: AtomicU64 = AtomicU64::new(0);
    crate::wait();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let ctx = aio::setup(4);
                for data in 0..pairs {
                    crate::basic::pair(ctx, data);
                    ALL.fetch_add(1, Ordering::Relaxed);
                }
                assert_eq!(aio::destroy(ctx), 0, "io_destroy");
            });
        }
    });
    say(&ALL.load(Ordering::Relaxed).to_string());
}

/// Submits reads without end. Says ten times a second how many calls there were, and how many
/// failed.
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

/// Submits reads until one fails, and then until one is accepted, with so many milliseconds between two tries. Says what
/// each of these two got.
pub fn until_accepted(pause: u64) {
    let (ctx, file, mut buffer) = (aio::setup(4), aio::zero(), 0);
    for is_wanted in [|ret| ret < 0, |ret| ret == 1] {
        loop {
            let ret = aio::submit(ctx, &mut [aio::pread(file, &mut buffer, 1)]);
            if ret == 1 {
                aio::reap(ctx, 1);
            } else if pause > 0 {
                std::thread::sleep(Duration::from_millis(pause));
            }
            if is_wanted(ret) {
                say(&format!("io_submit {ret}"));
                break;
            }
        }
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Sleeps for a millisecond, again and again, until a line comes; then says for how many
/// milliseconds it was held up at most.
pub fn heartbeat() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    let beats = std::thread::spawn(|| {
        let mut longest = Duration::ZERO;
        while !IS_OVER.load(Ordering::Relaxed) {
            let begun = Instant::now();
            std::thread::sleep(Duration::from_millis(1));
            longest = longest.max(begun.elapsed());
        }
        longest
    });
    crate::wait();
    IS_OVER.store(true, Ordering::Relaxed);
    say(&beats.join().expect("the thread").as_millis().to_string());
}
