//! Contexts: many, lost, shared by mistake, or refused, and those of a process that becomes another
//! program.

use std::{
    fs::File,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    PAGE, destroy,
    disk::{Named, letters},
    do_one, number, request, word,
};
use crate::{
    aio::{self, IoEvent},
    basic, ring, say, tasks,
};

/// `ring-covered`: the ring is unmapped, and after a line on standard input other memory is mapped
/// there, in which the kernel finds the number of the first context: the handle works again. What
/// io_submit and io_destroy return is told.
pub fn ring_covered(_: &[String]) {
    let ctx = aio::setup(8);
    ring::Ring::of(ctx).unmap();
    crate::wait();
    ring::Ring::cover(ctx);
    let mut byte = 0;
    let submitted = aio::submit(ctx, &mut [aio::pread(aio::zero(), &mut byte, 1)]);
    say(&format!("{submitted} {}", aio::destroy(ctx)));
}

/// `child-shares`: a child shares the memory (CLONE_VM), and the context in it, and uses it when
/// the process has ended. What its calls return is told. `child-shares spawn`: it is a child of
/// posix_spawn(3), which shares the memory until it runs another program, for which its parent
/// waits.
pub fn child_shares(arguments: &[String]) {
    static CTX: AtomicU64 = AtomicU64::new(0);
    extern "C" fn child(parent: *mut libc::c_void) -> i32 {
        // SAFETY: a plain system call.
        while unsafe { libc::getppid() } == parent as i32 {
            thread::sleep(Duration::from_millis(1));
        }
        let ctx = CTX.load(Ordering::Relaxed);
        let mut byte = 0;
        let submitted = aio::submit(ctx, &mut [aio::pread(aio::zero(), &mut byte, 1)]);
        let reaped = aio::getevents(ctx, 1, &mut [IoEvent::default()], None);
        say(&format!("{submitted} {reaped} {}", aio::destroy(ctx)));
        0
    }
    CTX.store(aio::setup(8), Ordering::Relaxed);
    if word(arguments, 0) == "spawn" {
        let us = std::env::current_exe().expect("our path");
        let status = std::process::Command::new(us).args(["pairs", "1"]).status();
        assert!(status.expect("posix_spawn").success(), "pairs");
        return;
    }
    let stack = vec![0u64; 1 << 16].leak();
    // SAFETY: only the child uses the stack, and the parent does nothing more but end.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        let us = std::process::id() as usize as *mut libc::c_void;
        assert!(libc::clone(child, top, libc::CLONE_VM | libc::SIGCHLD, us) > 0, "clone");
        libc::_exit(0);
    }
}

/// `double-destroy`: a thread waits in a context, which is destroyed twice. Its handle is then
/// given to another context, which a third io_destroy ends, so that its owner's next io_submit is
/// refused.
pub fn double_destroy(_: &[String]) {
    let ctx = aio::setup(8);
    let (tell, told) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            tell.send(tasks::current()).expect("the channel");
            aio::getevents(ctx, 1, &mut [IoEvent::default()], None)
        });
        let waiting = told.recv().expect("the channel");
        tasks::until_asleep_in(waiting, libc::SYS_io_getevents);
        destroy(ctx);
        let ret = waiter.join().expect("the thread");
        assert_eq!(ret, aio::error(libc::EINVAL), "the waiter");
    });
    assert_eq!(aio::destroy(ctx), aio::error(libc::EINVAL), "again");
    let other = aio::setup(16);
    let third = aio::destroy(ctx);
    let mut byte = 0;
    let mut read = [aio::pread(0, &mut byte, 1)];
    if other == ctx {
        assert_eq!(third, 0, "somebody else's");
        assert_eq!(aio::submit(other, &mut read), aio::error(libc::EINVAL), "the owner's");
    }
    say(&format!("the new context has the old handle: {}", other == ctx));
}

/// `reconnect [ROUNDS]`: in each round a reader is made, with a descriptor of its own and four
/// contexts, and the one before it is dropped without io_destroy. The program is `ready` after this
/// many rounds, and makes one more every 50 ms until the line comes; at most 1000.
pub fn reconnect(arguments: &[String]) {
    let named = Named::new("reconnect").filled(1);
    let buffer = letters(1);
    let rounds = number(arguments, 0, 5);
    for round in 0..1000 {
        let (file, reader) = make_reader(&named);
        for ctx in reader {
            let mut iocb = request(aio::PREAD, file.as_raw_fd(), buffer, PAGE, 0);
            assert_eq!(do_one(ctx, &mut iocb), Ok(PAGE as i64), "the read");
        }
        if round + 1 == rounds {
            say("ready");
        }
        if round + 1 >= rounds && tasks::is_readable_within(0, Duration::from_millis(50)) {
            say(&format!("{} contexts made, none destroyed", 4 * (round + 1)));
            break;
        }
    }
}

/// Makes a reader. A test looks for this function, its file and its line.
#[inline(never)]
fn make_reader(named: &Named) -> (File, [u64; 4]) {
    let file = File::open(&named.path).expect("the file");
    (file, std::array::from_fn(|_| std::hint::black_box(aio::setup(64)))) // here: io_setup
}

/// `loop-setup ASKED TIMES [hold]`: asks for a context of this size, this many times, and keeps
/// what it gets; with `hold`, until the line comes.
pub fn loop_setup(arguments: &[String]) {
    let times = number(arguments, 1, 10);
    let refused = (0..times).filter(|_| {
        let mut ctx = 0u64;
        aio::setup_at(number(arguments, 0, 60_000), &raw mut ctx as u64) != 0
    });
    let refused = refused.count();
    if word(arguments, 2) == "hold" {
        crate::wait();
    }
    say(&format!("{refused} of {times} io_setup failed"));
}

/// `many CONTEXTS THREADS`: makes this many idle contexts, and, after the line, threads that each
/// open the file, make a context, and read twenty times, with pauses. All threads have their
/// context before the first one reads.
pub fn many(arguments: &[String]) {
    let named = Named::new("many").filled(1);
    let (contexts, threads) = (number(arguments, 0, 300), number(arguments, 1, 0));
    for _ in 0..contexts {
        aio::setup(1);
    }
    crate::wait();
    let reads = AtomicU64::new(0);
    let all = Barrier::new(threads as usize);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let file = File::open(&named.path).expect("the file");
                let (ctx, buffer) = (aio::setup(1), letters(1));
                all.wait();
                for _ in 0..20 {
                    let mut iocb = request(aio::PREAD, file.as_raw_fd(), buffer, 512, 0);
                    assert_eq!(do_one(ctx, &mut iocb), Ok(512), "the read");
                    reads.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
                destroy(ctx);
            });
        }
    });
    let reads = reads.load(Ordering::Relaxed);
    say(&format!("contexts {contexts}, threads {threads}, reads {reads}"));
}

/// `exec-self [TIMES] [MILLISECONDS]`: makes a context and six reads, one of which is not reaped;
/// after this time, the same program takes its place. It is `ready` only once, before the first.
pub fn exec_self(arguments: &[String]) {
    let (left, pause) = (number(arguments, 0, 3), number(arguments, 1, 0));
    if word(arguments, 2).is_empty() {
        crate::wait();
    }
    let ctx = aio::setup(16);
    for data in 0..5 {
        basic::pair(ctx, data);
    }
    let mut byte = 0;
    let mut read = [aio::pread(aio::zero(), &mut byte, 6)];
    assert_eq!(aio::submit(ctx, &mut read), 1, "io_submit");
    if left > 0 {
        thread::sleep(Duration::from_millis(pause));
        let us = std::env::current_exe().expect("our path");
        let (left, pause) = ((left - 1).to_string(), pause.to_string());
        let arguments = ["exec-self", &left, &pause, "on"].map(str::to_owned);
        let error = std::process::Command::new(us).args(arguments).exec();
        panic!("exec: {error}");
    }
}
