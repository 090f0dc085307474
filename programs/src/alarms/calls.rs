//! Calls that fail, are interrupted, or are never made, although nothing is wrong.

use std::{sync::mpsc::channel, thread};

use crate::{
    aio::{self, IoEvent, Timespec},
    arch, basic, libaio, tasks,
};

/// A thread waits in io_getevents until another one destroys the context, which is how it learns
/// that it should end.
pub fn destroyed_by_another_thread() {
    let ctx = aio::setup(8);
    basic::pair(ctx, 1);
    let (tell, tid) = channel();
    let waiter = thread::spawn(move || {
        tell.send(tasks::current()).expect("the first thread");
        aio::getevents(ctx, 1, &mut [IoEvent::default()], None)
    });
    tasks::until_asleep_in(tid.recv().expect("the thread"), libc::SYS_io_getevents);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    assert_eq!(waiter.join().expect("the thread"), aio::error(libc::EINVAL), "io_getevents");
}

/// io_pgetevents is interrupted by a signal that only its mask lets through. Inside the kernel it
/// returns -514; the program gets EINTR.
pub fn interrupted() {
    extern "C" fn nothing(_: i32) {}
    let ctx = aio::setup(8);
    // SAFETY: the handler does nothing, and the structures are complete.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut blocked, libc::SIGUSR1);
        libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, std::ptr::null_mut());
        assert_eq!(libc::raise(libc::SIGUSR1), 0, "a signal that waits");
    }
    let none_blocked = 0u64;
    let set = [&raw const none_blocked as u64, 8];
    let mut event = IoEvent::default();
    let mut wait = || aio::pgetevents_at(ctx, 1, 1, &raw mut event as u64, 0, set.as_ptr() as u64);
    assert_eq!(wait(), aio::error(libc::EINTR), "io_pgetevents");
    let mut buffer = 0;
    let mut iocb = [aio::pread(aio::zero(), &mut buffer, 1)];
    assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
    assert_eq!(wait(), 1, "io_pgetevents once more");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// The end of a program that does not check whether its io_setup worked: it destroys no context.
pub fn nothing_destroyed() {
    let mut ctx = 0;
    assert_eq!(aio::setup_at(0, &raw mut ctx as u64), aio::error(libc::EINVAL), "io_setup");
    assert_eq!(aio::destroy(ctx), aio::error(libc::EINVAL), "io_destroy of no context");
}

/// libaio sees by itself that the ring is empty: ten calls of its function make no system call.
pub fn through_libaio() {
    let libaio = libaio::load();
    let mut ctx = 0;
    let mut buffer = 0;
    let mut iocb = aio::pread(aio::zero(), &mut buffer, 3);
    let mut pointers = [&raw mut iocb];
    let mut event = IoEvent::default();
    // SAFETY: everything that the pointers lead to lives until the end of the block.
    unsafe {
        assert_eq!((libaio.setup)(8, &mut ctx), 0, "io_setup");
        for _ in 0..10 {
            let mut at_once = Timespec::millis(0);
            assert_eq!((libaio.getevents)(ctx, 0, 1, &mut event, &mut at_once), 0, "nothing yet");
        }
        assert_eq!((libaio.submit)(ctx, 1, pointers.as_mut_ptr()), 1, "io_submit");
        let mut at_once = Timespec::millis(0);
        assert_eq!((libaio.getevents)(ctx, 1, 1, &mut event, &mut at_once), 1, "io_getevents");
        assert_eq!((event.data, event.res), (3, 8));
        assert_eq!((libaio.destroy)(ctx), 0, "io_destroy");
    }
}

/// The kernel makes a context, cannot write its handle, and takes it back.
pub fn handle_nowhere_to_go() {
    let page = aio::pages(1);
    // SAFETY: the page is ours, and nobody writes to it.
    assert_eq!(unsafe { libc::mprotect(page.cast(), 4096, libc::PROT_READ) }, 0, "mprotect");
    assert_eq!(aio::setup_at(8, page as u64), aio::error(libc::EFAULT), "io_setup");
    basic::pairs(1);
}

/// System calls made by the processor's instruction itself, not by a function of a library.
pub fn without_libraries() {
    let mut ctx = 0u64;
    let mut buffer = 0;
    let iocb = aio::pread(aio::zero(), &mut buffer, 3);
    let pointers = [&raw const iocb as u64];
    let mut event = IoEvent::default();
    assert_eq!(syscall(libc::SYS_io_setup, [8, &raw mut ctx as u64, 0, 0, 0]), 0, "io_setup");
    let submitted = syscall(libc::SYS_io_submit, [ctx, 1, pointers.as_ptr() as u64, 0, 0]);
    assert_eq!(submitted, 1, "io_submit");
    let reaped = syscall(libc::SYS_io_getevents, [ctx, 1, 1, &raw mut event as u64, 0]);
    assert_eq!(reaped, 1, "io_getevents");
    assert_eq!((event.data, event.res), (3, 8));
    assert_eq!(syscall(libc::SYS_io_destroy, [ctx, 0, 0, 0, 0]), 0, "io_destroy");
}

fn syscall(number: i64, args: [u64; 5]) -> i64 {
    // SAFETY: what the arguments lead to is alive.
    unsafe { arch::syscall(number, args) }
}
