//! Contexts and their handles: how contexts end, and which handles they get.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use crate::{aio, basic, forget, processes::wait_for, ring};

/// Three contexts are alive when the process exits: it calls no io_destroy.
pub fn alive_at_exit() {
    for data in 1..=3 {
        basic::pair(aio::setup(8), data);
    }
}

/// Two live processes have contexts with the same handle.
pub fn same_handle_in_two_processes() {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    // An address that is free in both processes, in case the kernel gives them two different
    // handles.
    let place = aio::pages(ring::MANY_PAGES) as u64;
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    let mut other = if child == 0 {
        drop(ours);
        theirs
    } else {
        drop(theirs);
        ours
    };
    let mut exchange = |handle: u64| {
        other.write_all(&handle.to_ne_bytes()).expect("the other process");
        let mut theirs = [0; 8];
        other.read_exact(&mut theirs).expect("the other process");
        u64::from_ne_bytes(theirs)
    };
    let mut ctx = aio::setup(8);
    if exchange(ctx) != ctx {
        ctx = ring::Ring::of(ctx).move_to(place);
    }
    basic::pair(ctx, 1);
    assert_eq!(exchange(ctx), ctx, "the same number in both");
    basic::pair(ctx, 2);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    if child == 0 {
        std::process::exit(0);
    }
    wait_for(child);
}

/// The handle of a destroyed context is given to the next one.
pub fn same_handle_again() {
    let first = aio::setup(8);
    basic::pair(first, 1);
    assert_eq!(aio::destroy(first), 0, "io_destroy");
    let mut second = aio::setup(8);
    if second != first {
        second = ring::Ring::of(second).move_to(first);
    }
    basic::pair(second, 2);
    assert_eq!(aio::destroy(second), 0, "io_destroy");
}

/// mremap changes the handle while a request is in flight.
pub fn moved() {
    let place = aio::pages(ring::MANY_PAGES) as u64;
    let old = aio::setup(8);
    basic::pair(old, 1);
    let (reader, writer) = aio::pipe();
    let mut polls = [aio::poll(reader, 2)];
    assert_eq!(aio::submit(old, &mut polls), 1, "io_submit");
    let new = ring::Ring::of(old).move_to(place);
    aio::fill(writer);
    assert_eq!(aio::reap(new, 1)[0].data, 2);
    basic::pair(new, 3);
    assert_eq!(aio::destroy(new), 0, "io_destroy");
}

/// mremap changes the handle before the first call on the context, and then the program rests.
pub fn moved_before_use() {
    let place = aio::pages(ring::MANY_PAGES) as u64;
    let new = ring::Ring::of(aio::setup(8)).move_to(place);
    std::thread::sleep(std::time::Duration::from_secs(2));
    basic::pair(new, 1);
    assert_eq!(aio::destroy(new), 0, "io_destroy");
    std::thread::sleep(std::time::Duration::from_secs(2));
}

/// A first context is made only to find out whether there is AIO at all.
pub fn probe_at_the_start() {
    assert_eq!(aio::destroy(aio::setup(1)), 0, "io_destroy");
    basic::pairs(4);
}

/// The limit fs.aio-max-nr is below fs.aio-nr for a moment, and a second context is refused
/// meanwhile.
pub fn limit_lowered() {
    const HELD: u64 = 64;
    let ctx = aio::setup(HELD);
    {
        let _lowered = Limit::lower_to(HELD - 1);
        let mut second = 0u64;
        let ret = aio::setup_at(1, &raw mut second as u64);
        assert_eq!(ret, aio::error(libc::EAGAIN), "io_setup above the limit");
    }
    basic::pair(ctx, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Keeps fs.aio-max-nr lowered, and raises it to its old value on drop.
struct Limit {
    before: u64,
}

impl Limit {
    const PATH: &str = "/proc/sys/fs/aio-max-nr";

    fn lower_to(limit: u64) -> Self {
        let before = fs::read_to_string(Self::PATH).expect("fs.aio-max-nr");
        let before = before.trim().parse().expect("a number");
        assert!(before > limit, "fs.aio-max-nr is {before} already: is another one of us at work?");
        let lowered = Self { before };
        fs::write(Self::PATH, limit.to_string()).expect("fs.aio-max-nr can be set");
        lowered
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        fs::write(Self::PATH, self.before.to_string()).expect("fs.aio-max-nr can be set");
    }
}

/// The ring is unmapped and its context is not destroyed, in a process that lives on. Unlike the
/// others, this is a leak.
pub fn unmapped() {
    let ctx = aio::setup(8);
    basic::pair(ctx, 1);
    ring::Ring::of(ctx).unmap();
    crate::wait();
}

/// Keeps a handle in the heap, and nowhere else.
pub struct Engine {
    handle: u64,
}

impl Engine {
    /// Makes a context. io_setup writes its handle into a local variable, whose place on the stack
    /// is overwritten at once.
    pub fn new() -> Box<Self> {
        let mut engine = Box::new(Self { handle: 0 });
        engine.open();
        forget::scrub_stack();
        engine
    }

    #[inline(never)]
    fn open(&mut self) {
        let mut local = 0;
        assert_eq!(aio::setup_at(8, &raw mut local as u64), 0, "io_setup");
        self.handle = local;
    }

    /// Makes one submit and one reap, and leaves no copy of the handle on the stack.
    pub fn work(&self, data: u64) {
        self.pair(data);
        forget::scrub_stack();
    }

    #[inline(never)]
    fn pair(&self, data: u64) {
        basic::pair(self.handle(), data);
    }

    /// Reads the handle from the heap at each use, so that the compiler keeps no copy elsewhere.
    fn handle(&self) -> u64 {
        // SAFETY: the pointer is to a field of `self`.
        unsafe { (&raw const self.handle).read_volatile() }
    }

    pub fn close(&self) {
        assert_eq!(aio::destroy(self.handle()), 0, "io_destroy");
    }
}

/// The variable into which io_setup wrote the handle is gone, but the handle is kept.
pub fn local_handle() {
    let engine = Engine::new();
    engine.work(1);
    engine.close();
}

/// Does the same, and lives on until a line comes.
pub fn local_handle_alive() {
    let engine = Engine::new();
    engine.work(1);
    crate::wait();
    engine.work(2);
    engine.close();
}
