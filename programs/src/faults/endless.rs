//! Waits that never end, and some that only look so. Each is done by a child, which is killed when a line comes, or when
//! its parent ends.

use std::{ptr, thread};

use crate::{
    aio::{self, IoEvent, Timespec},
    basic, processes, tasks,
};

/// bad-endless-wait: one thread waits for 1 completion, the other for 2, and nothing was submitted. (Whoever attaches
/// then knows on every kernel that nothing is in flight.)
pub fn both_wait() {
    until_a_line(&[|| {
        let ctx = aio::setup(8);
        thread::spawn(move || aio::reap(ctx, 2));
        aio::reap(ctx, 1);
    }]);
}

/// bad-endless-wait-until-a-signal: the program handles SIGALRM, and could have asked for one.
pub fn waits_until_a_signal() {
    extern "C" fn nothing(_: i32) {}
    until_a_line(&[|| {
        let handler = nothing as extern "C" fn(i32);
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGALRM, handler as libc::sighandler_t) };
        aio::reap(used(), 1);
    }]);
}

/// bad-endless-wait-negative: the timeout is negative, and one request is too few.
pub fn waits_negative_time() {
    until_a_line(&[|| {
        let ctx = used();
        let (reader, _writer) = aio::pipe();
        assert_eq!(aio::submit(ctx, &mut [aio::poll(reader, 1)]), 1, "io_submit");
        let never = Some(Timespec { sec: -1, nsec: 0 });
        aio::getevents(ctx, 2, &mut [IoEvent::default(); 2], never);
    }]);
}

/// bad-endless-wait-beside-another: another thread lives, and has never submitted anything.
pub fn waits_beside_another() {
    until_a_line(&[|| {
        thread::spawn(sleep);
        let ctx = used();
        (0..20).for_each(|data| basic::pair(ctx, data));
        aio::reap(ctx, 1);
    }]);
}

/// good-endless-wait: in each of these the wait may end.
pub fn somebody_can() {
    until_a_line(&[
        // Another thread could submit.
        || {
            let ctx = aio::setup(8);
            thread::spawn(move || aio::reap(ctx, 1));
            (0..20).for_each(|data| basic::pair(aio::setup(8), data));
            sleep();
        },
        // A request is in flight.
        || {
            let ctx = used();
            let (reader, _writer) = aio::pipe();
            assert_eq!(aio::submit(ctx, &mut [aio::poll(reader, 1)]), 1, "io_submit");
            aio::reap(ctx, 1);
        },
        // One thread waits in vain until a request of the other completes.
        || {
            let (ctx, other) = (used(), used());
            thread::spawn(move || aio::reap(other, 1));
            let (reader, _writer) = aio::pipe();
            assert_eq!(aio::submit(ctx, &mut [aio::poll(reader, 1)]), 1, "io_submit");
            aio::reap(ctx, 1);
        },
        // There is a timeout.
        || {
            aio::getevents(used(), 1, &mut [IoEvent::default()], Some(Timespec::millis(1_000_000)));
        },
        // The threads are stopped.
        || {
            let ctx = used();
            let (send, receive) = std::sync::mpsc::channel();
            thread::spawn(move || {
                send.send(tasks::current()).expect("the first thread");
                aio::reap(ctx, 1);
            });
            let tid = receive.recv().expect("the second thread");
            tasks::until_asleep_in(tid, libc::SYS_io_getevents);
            // SAFETY: a signal to ourselves.
            unsafe { libc::raise(libc::SIGSTOP) };
        },
        // Another process has the same memory.
        || {
            extern "C" fn other(_: *mut libc::c_void) -> i32 {
                end_with_parent();
                sleep()
            }
            const STACK: usize = 16;
            let ctx = used();
            // SAFETY: a new stack, and what it does there needs no other memory.
            let pid = unsafe {
                let stack = aio::pages(STACK).add(STACK * 4096).cast();
                libc::clone(other, stack, libc::CLONE_VM | libc::SIGCHLD, ptr::null_mut())
            };
            assert!(pid > 0, "clone");
            aio::reap(ctx, 1);
        },
    ]);
}

/// A context in which a request was, and is not any more.
fn used() -> u64 {
    let ctx = aio::setup(8);
    basic::pair(ctx, 1);
    ctx
}

fn sleep() -> ! {
    loop {
        // SAFETY: has no arguments.
        unsafe { libc::pause() };
    }
}

fn end_with_parent() {
    // SAFETY: has no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }, 0, "prctl");
}

/// Children that do this, until a line comes.
fn until_a_line(what: &[fn()]) {
    let child = |what: &fn()| {
        processes::fork(|| {
            end_with_parent();
            what();
            sleep();
        })
    };
    let children: Vec<i32> = what.iter().map(child).collect();
    crate::wait();
    for pid in children {
        // SAFETY: a signal to our child, which is not waited for yet.
        unsafe {
            assert_eq!(libc::kill(pid, libc::SIGKILL), 0, "kill");
            assert_eq!(libc::waitpid(pid, ptr::null_mut(), 0), pid, "waitpid");
        }
    }
}
