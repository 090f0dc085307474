//! Waiting: programs that reap too often, too little, or what never comes, and ends that wait for
//! requests.

use std::{
    io::Write as _,
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::{
    PAGE, cannot_run, destroy,
    disk::{Named, closed_descriptor, letters},
    number, request, word,
};
use crate::{
    aio::{self, IoEvent, Iocb, Timespec},
    fuse::{Answer, Held},
    say, tasks,
};

/// `busy-reap [COUNT]`: two threads ask again and again, without waiting, for completions although
/// nothing is in flight: at least this often, and until the line comes.
pub fn busy_reap(arguments: &[String]) {
    let (least, is_over) = (number(arguments, 0, 1000), AtomicBool::new(false));
    let all = AtomicU64::new(0);
    let contexts = [aio::setup(32), aio::setup(32)];
    thread::scope(|scope| {
        for ctx in contexts {
            let (is_over, all) = (&is_over, &all);
            scope.spawn(move || {
                let mut calls = 0;
                while calls < least || !is_over.load(Ordering::Relaxed) {
                    let none = Some(Timespec::millis(0));
                    assert_eq!(aio::getevents(ctx, 0, &mut [IoEvent::default(); 16], none), 0);
                    calls += 1;
                }
                all.fetch_add(calls, Ordering::Relaxed);
            });
        }
        crate::wait();
        is_over.store(true, Ordering::Relaxed);
    });
    say(&format!("{} calls", all.into_inner()));
    contexts.into_iter().for_each(destroy);
}

/// `eventfd-miss`: an eventfd announces three completions at a time, and the program reaps one each
/// time it is woken: 20 of 30 are unreaped when it is `ready`.
pub fn eventfd_miss(_: &[String]) {
    let named = Named::new("eventfd-miss").filled(1);
    let (ctx, buffer, eventfd) = (aio::setup(32), letters(1), aio::eventfd());
    let mut iocbs = [Iocb::default(); 30];
    let mut reaped = 0;
    for three in iocbs.chunks_mut(3) {
        let read = request(aio::PREAD, named.fd(), buffer, 512, 0);
        three.fill(Iocb { flags: 1, resfd: eventfd.cast_unsigned(), ..read });
        assert_eq!(aio::submit(ctx, three), 3, "io_submit");
        let mut count = 0u64;
        // SAFETY: `count` has room for 8 bytes.
        let length = unsafe { libc::read(eventfd, (&raw mut count).cast(), 8) };
        assert_eq!((length, count), (8, 3), "the eventfd");
        let mut one = [IoEvent::default()];
        reaped += aio::getevents(ctx, 0, &mut one, Some(Timespec::millis(0)));
    }
    assert_eq!(reaped, 10, "one each time");
    crate::wait();
    aio::reap(ctx, 20);
    destroy(ctx);
}

/// `min-nr-waits`: one of four reads is refused, and the program waits for four all the same. While
/// it waits, its child says `ready`; after the line the child interrupts it. (A thread in the
/// child's place would be somebody who could still submit.)
pub fn min_nr_waits(_: &[String]) {
    extern "C" fn nothing(_: i32) {}
    let named = Named::new("min-nr-waits").filled(1);
    let (ctx, buffer) = (aio::setup(32), letters(1));
    let read = request(aio::PREAD, named.fd(), buffer, 1024, 0);
    let mut iocbs = [read, read, read, Iocb { fildes: closed_descriptor(&named), ..read }];
    let us = std::process::id().cast_signed();
    // SAFETY: the handler does nothing and has no SA_RESTART, and this process has one thread.
    let child = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        libc::fork()
    };
    assert!(child >= 0, "fork");
    if child == 0 {
        tasks::until_process_asleep_in(us, libc::SYS_io_getevents);
        crate::wait();
        // SAFETY: the call takes no pointers. It sends a signal to our parent, which waits for us.
        unsafe { libc::kill(us, libc::SIGUSR1) };
        std::process::exit(0);
    }
    assert_eq!(aio::submit(ctx, &mut iocbs), 3, "io_submit");
    let mut events = [IoEvent::default(); 4];
    // When the call is interrupted, it gives what has completed.
    assert_eq!(aio::getevents(ctx, 4, &mut events, None), 3, "io_getevents");
    crate::processes::wait_for(child);
    destroy(ctx);
}

/// `stuck-read`: of 40 reads six are answered, and the others only when the line comes. Meanwhile
/// the program waits for all of them.
pub fn stuck_read(_: &[String]) {
    let held = Held::open(Answer::AtLineAfter(6));
    let (ctx, buffer) = (aio::setup(64), letters(16));
    let fd = held.file.as_raw_fd();
    let mut iocbs: Vec<Iocb> = (0..40)
        .map(|index| {
            let at = buffer.wrapping_add(index % 16 * PAGE as usize);
            request(aio::PREAD, fd, at, PAGE, PAGE * index as u64)
        })
        .collect();
    assert_eq!(aio::submit(ctx, &mut iocbs), 40, "io_submit");
    say("ready");
    aio::reap(ctx, 40);
    destroy(ctx);
    held.close();
}

/// `pending N`: ten polls have completed, four of which were reaped, and N are in flight. Nobody
/// waits for them.
pub fn pending(arguments: &[String]) {
    let count = number(arguments, 0, 3);
    let (ready, mut tell) = std::io::pipe().expect("a pipe");
    let (never, _open) = std::io::pipe().expect("a pipe");
    tell.write_all(b"x").expect("the pipe");
    let ctx = aio::setup(64);
    let mut done: Vec<Iocb> = (0..10).map(|it| aio::poll(ready.as_raw_fd(), it)).collect();
    let mut pending: Vec<Iocb> = (0..count).map(|it| aio::poll(never.as_raw_fd(), it)).collect();
    assert_eq!(aio::submit(ctx, &mut done), 10, "io_submit");
    assert_eq!(aio::submit(ctx, &mut pending), count as i64, "io_submit");
    let mut events = [IoEvent::default(); 4];
    assert_eq!(aio::getevents(ctx, 4, &mut events, None), 4, "io_getevents");
    crate::wait();
    destroy(ctx);
}

/// `exit-waits exit|destroy`: 20 reads are in flight to a file that answers when the line comes.
/// Once the process is `ready`, it exits, or destroys the context: it waits for the reads, and
/// cannot be killed.
pub fn exit_waits(arguments: &[String]) {
    let held = Held::open(Answer::AtLineAfter(0));
    let (ctx, buffer) = (aio::setup(64), letters(20));
    let fd = held.file.as_raw_fd();
    let mut iocbs: Vec<Iocb> = (0..20)
        .map(|index| {
            let at = buffer.wrapping_add(index * PAGE as usize);
            request(aio::PREAD, fd, at, PAGE, PAGE * index as u64)
        })
        .collect();
    assert_eq!(aio::submit(ctx, &mut iocbs), 20, "io_submit");
    say("ready");
    match word(arguments, 0) {
        "destroy" => {
            destroy(ctx);
            held.close();
        }
        "exit" => std::process::exit(0),
        other => cannot_run(&format!("exit-waits exit or destroy, not {other:?}")),
    }
}

/// `poll-closed`: five times, a socket is closed while a poll of it pends. Its completion comes all
/// the same.
pub fn poll_closed(_: &[String]) {
    let ctx = aio::setup(64);
    for round in 0..5 {
        let mut ends = [0; 2];
        // SAFETY: the array has room for two descriptors, which are ours.
        unsafe {
            let made = libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr());
            assert_eq!(made, 0, "socketpair");
        }
        let mut poll = [aio::poll(ends[0], round)];
        assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(ends[0]) };
        // Only the poll still holds the other end.
        // SAFETY: the byte is a constant, and the descriptor is ours.
        unsafe {
            libc::send(ends[1], b"x".as_ptr().cast(), 1, libc::MSG_NOSIGNAL);
            libc::close(ends[1]);
        }
        assert_eq!(aio::reap(ctx, 1)[0].data, round, "the event");
    }
    say("5 events of sockets that were closed");
    destroy(ctx);
}

/// `thread-leaves`: each of four threads submits eight writes, asks once for completions, gets
/// none, and ends: its context has no user any more. Then the writes are answered and the program
/// is `ready`, but nobody reaps.
pub fn thread_leaves(_: &[String]) {
    let mut held = Held::open(Answer::WhenTold);
    let fd = held.file.as_raw_fd();
    for _ in 0..4 {
        let leaves = move || {
            let (ctx, buffer) = (aio::setup(64), letters(8));
            let mut iocbs: [Iocb; 8] = std::array::from_fn(|index| {
                let at = buffer.wrapping_add(index * PAGE as usize);
                request(aio::PWRITE, fd, at, PAGE, PAGE * index as u64)
            });
            assert_eq!(aio::submit(ctx, &mut iocbs), 8, "io_submit");
            let none = Some(Timespec::millis(0));
            assert_eq!(aio::getevents(ctx, 0, &mut [IoEvent::default(); 8], none), 0, "none yet");
        };
        thread::spawn(leaves).join().expect("the thread");
    }
    held.release();
    crate::wait();
    std::process::exit(0);
}
