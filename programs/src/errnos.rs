//! Every errno that the manual pages document, if a program can make it happen.

use crate::aio::{self, IoEvent, Iocb, Timespec};
use crate::processors;

const NOWHERE: u64 = 0x10;

fn expect(what: &str, ret: i64, wanted: i32) {
    assert_eq!(ret, -i64::from(wanted), "{what}");
}

/// Makes all of them happen.
pub fn all() {
    setup();
    submit();
    getevents();
    pgetevents();
    cancel();
    expect("io_destroy of nothing", aio::destroy(NOWHERE), libc::EINVAL);
}

fn setup() {
    let (mut zero, mut used) = (0u64, 1u64);
    let mut at = |nr, used_before: bool| {
        let ctxp = if used_before { &raw mut used } else { &raw mut zero };
        aio::setup_at(nr, ctxp as u64)
    };
    expect("for none", at(0, false), libc::EINVAL);
    expect("with *ctxp set", at(1, true), libc::EINVAL);
    expect("for too many", at(10_000_000, false), libc::EINVAL);
    expect("for more than fs.aio-max-nr", at(4_000_000, false), libc::EAGAIN);
    expect("with a bad pointer", aio::setup_at(1, NOWHERE), libc::EFAULT);
}

fn submit() {
    let ctx = aio::setup(4);
    let mut buffer = 0;
    let good = aio::pread(aio::zero(), &mut buffer, 1);
    expect("to no context", aio::submit(NOWHERE, &mut [good]), libc::EINVAL);
    expect("of a negative number", aio::submit_at(ctx, -1, 0), libc::EINVAL);
    assert_eq!(aio::submit_at(ctx, 0, 0), 0, "of nothing");
    expect("of a bad array", aio::submit_at(ctx, 1, NOWHERE), libc::EFAULT);
    let bad = [NOWHERE];
    expect("of a bad iocb", aio::submit_at(ctx, 1, bad.as_ptr() as u64), libc::EFAULT);
    let with = |change: fn(&mut Iocb)| {
        let mut iocb = good;
        change(&mut iocb);
        aio::submit(ctx, &mut [iocb])
    };
    expect("with a bad fd", with(|it| it.fildes = 999), libc::EBADF);
    expect("with an unknown opcode", with(|it| it.opcode = 99), libc::EINVAL);
    expect("with a reserved field", with(|it| it.reserved2 = 1), libc::EINVAL);
    expect("with no eventfd", with(|it| (it.flags, it.resfd) = (1, 999)), libc::EBADF);
    let refused = Iocb { fildes: 999, ..good };
    assert_eq!(aio::submit(ctx, &mut [good, refused, good]), 1, "a short submit");
    // Fill the ring with requests in flight, so that no slot is left. With many processors there
    // are more slots than were asked for.
    processors::stay_on_one();
    let (reader, _writer) = aio::pipe();
    let mut polls = vec![aio::poll(reader, 2); 100_000];
    let accepted = aio::submit(ctx, &mut polls);
    assert!(accepted > 0 && accepted < 100_000, "{accepted} polls");
    expect("with the ring full", aio::submit(ctx, &mut [good]), libc::EAGAIN);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

fn getevents() {
    let ctx = aio::setup(4);
    let mut events = [IoEvent::default(); 2];
    let soon = || Some(Timespec::millis(1));
    expect("of nothing", aio::getevents(NOWHERE, 1, &mut events, soon()), libc::EINVAL);
    expect("at least 3 of 2", aio::getevents(ctx, 3, &mut events, soon()), libc::EINVAL);
    expect("at least -1", aio::getevents(ctx, -1, &mut events, soon()), libc::EINVAL);
    let array = events.as_mut_ptr() as u64;
    expect("with a bad timeout", aio::getevents_at(ctx, 1, 1, array, NOWHERE), libc::EFAULT);
    assert_eq!(aio::getevents(ctx, 1, &mut events, soon()), 0, "a timeout");
    let mut buffer = 0;
    assert_eq!(aio::submit(ctx, &mut [aio::pread(aio::zero(), &mut buffer, 1)]), 1);
    expect("to nowhere", aio::getevents_at(ctx, 1, 1, NOWHERE, 0), libc::EFAULT);
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1);
    alarm_in(50);
    expect("interrupted", aio::getevents(ctx, 1, &mut events, None), libc::EINTR);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

fn pgetevents() {
    let ctx = aio::setup(4);
    let mut events = [IoEvent::default(); 2];
    let array = events.as_mut_ptr() as u64;
    let soon = Timespec::millis(1);
    let timeout = std::ptr::from_ref(&soon) as u64;
    let mask = 1u64 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGCHLD - 1);
    let set = |size: u64| [std::ptr::from_ref(&mask) as u64, size];
    let at = |set: &[u64; 2]| aio::pgetevents_at(ctx, 1, 2, array, timeout, set.as_ptr() as u64);
    assert_eq!(at(&set(8)), 0, "a timeout");
    expect("a mask of 7 bytes", at(&set(7)), libc::EINVAL);
    let bad = aio::pgetevents_at(ctx, 1, 2, array, timeout, NOWHERE);
    expect("a bad mask", bad, libc::EFAULT);
    let mut buffer = 0;
    assert_eq!(aio::submit(ctx, &mut [aio::pread(aio::zero(), &mut buffer, 1)]), 1);
    assert_eq!(aio::pgetevents_at(ctx, 1, 2, array, 0, 0), 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

fn cancel() {
    let ctx = aio::setup(4);
    let mut result = IoEvent::default();
    let at = &raw mut result as u64;
    let (reader, _writer) = aio::pipe();
    let mut iocb = [aio::poll(reader, 5)];
    expect("in no context", aio::cancel(NOWHERE, iocb.as_ptr() as u64, at), libc::EINVAL);
    expect("of nothing", aio::cancel(ctx, NOWHERE, at), libc::EFAULT);
    expect("before the submit", aio::cancel(ctx, iocb.as_ptr() as u64, at), libc::EINVAL);
    assert_eq!(aio::submit(ctx, &mut iocb), 1);
    expect("that works", aio::cancel(ctx, iocb.as_ptr() as u64, at), libc::EINPROGRESS);
    let mut events = [IoEvent::default()];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "the cancelled request");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Sends SIGALRM, which has a handler, after this time.
fn alarm_in(millis: i64) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing, and the structures are complete.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut()), 0);
        let once = libc::itimerval {
            it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
            it_value: libc::timeval { tv_sec: 0, tv_usec: millis * 1000 },
        };
        // libc does not have setitimer on every target.
        assert_eq!(libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const once, 0), 0);
    }
}
