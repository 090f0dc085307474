//! Worst-case loops for `cargo xtask bench`: their calls do next to nothing, so that nearly all
//! that is measured is what a tracer adds.
//!
//! Each loop writes `ready`, waits for a line (so that a tracer can attach), runs on one processor,
//! and writes the nanoseconds of one operation: by the clock, and by the thread's own processor
//! time (which does not count what else ran there).

use std::{os::unix::process::CommandExt as _, process::Command};

use crate::{
    aio::{self, IoEvent, Iocb},
    processors,
};

/// Makes one io_submit of one read of /dev/zero, and one io_getevents of it.
pub fn pair(count: u64) {
    batch::<1>(count);
}

/// Makes one io_submit of `NR` reads, and one io_getevents of them.
pub fn batch<const NR: usize>(count: u64) {
    let (ctx, fd) = (aio::setup(NR as u64), aio::zero());
    let mut buffers = [1u64; NR];
    let mut iocbs: [Iocb; NR] = std::array::from_fn(|it| aio::pread(fd, &mut buffers[it], 1));
    let pointers: [u64; NR] = std::array::from_fn(|it| &raw mut iocbs[it] as u64);
    let mut events = [IoEvent::default(); NR];
    let nr = NR as i64;
    measure(count, || {
        assert_eq!(aio::submit_at(ctx, nr, pointers.as_ptr() as u64), nr, "io_submit");
        assert_eq!(aio::getevents(ctx, nr, &mut events, None), nr, "io_getevents");
    });
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Makes the shortest system call there is; it has nothing to do with AIO.
pub fn getppid(count: u64) {
    // SAFETY: the call has no arguments.
    measure(count, || assert!(unsafe { libc::syscall(libc::SYS_getppid) } >= 0));
}

/// Becomes another program when the line has come: a tracer that is attached to us is then attached
/// to that program.
pub fn becomes(words: impl Iterator<Item = String>) {
    let words: Vec<String> = words.collect();
    let (program, arguments) = words.split_first().expect("a program");
    crate::wait();
    panic!("{program}: {}", Command::new(program).args(arguments).exec());
}

/// Runs all loops, one after the other, each with the same number of operations.
pub fn all(count: u64) {
    pair(count);
    batch::<32>(count);
    getppid(count);
}

fn measure(count: u64, mut operation: impl FnMut()) {
    processors::stay_on_one();
    crate::wait();
    // Warm up: the first operations take page faults, and wake a reader that sleeps.
    (0..count / 10).for_each(|_| operation());
    let clocks = [libc::CLOCK_MONOTONIC, libc::CLOCK_THREAD_CPUTIME_ID];
    let start = clocks.map(nanoseconds);
    (0..count).for_each(|_| operation());
    let [by_clock, on_processor] =
        std::array::from_fn(|it| (nanoseconds(clocks[it]) - start[it]) as f64 / count as f64);
    crate::say(&format!("ns | {by_clock:.1} | {on_processor:.1}"));
}

fn nanoseconds(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for a time.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut now) }, 0, "clock_gettime");
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
