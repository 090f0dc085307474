//! A machine that is busy, and a healthy program on it.

use std::{
    hint::{black_box, spin_loop},
    os::fd::RawFd,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{aio, aio::IoEvent};

/// Takes a processor until the process is killed, or for a minute.
pub fn spin() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        (0..10_000).for_each(|_| spin_loop());
    }
}

/// Makes pairs of calls, while another thread holds the lock of the process's memory most of the
/// time, as many allocators do now and then. If others want the processor, that thread has to wait
/// for one with the lock in its hands, and so does whoever looks at the memory.
pub fn locked(count: u64) {
    const PAGES: usize = 16 << 10;
    let memory = aio::pages(PAGES);
    for page in 0..PAGES {
        // SAFETY: the page is ours.
        unsafe { memory.add(page * 4096).write_volatile(1) };
    }
    let memory = memory as u64;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
                    let (at, length) = (memory as *mut libc::c_void, PAGES * 4096);
                    // SAFETY: the pages are ours, and nobody uses them any more.
                    let changed = unsafe { libc::mprotect(at, length, protection) };
                    assert_eq!(changed, 0, "mprotect");
                }
            }
        });
        let (ctx, file) = (aio::setup(8), aio::zero());
        for data in 0..count {
            black_box(submit_here(ctx, file, data));
        }
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Submits a request until it is accepted, and reaps it. Returns how often it was refused.
#[inline(never)]
fn submit_here(ctx: u64, file: RawFd, data: u64) -> u64 {
    let mut buffer = 0;
    let mut iocbs = [aio::pread(file, &mut buffer, data)];
    let mut refused = 0;
    while aio::submit(ctx, &mut iocbs) != 1 {
        refused += 1;
    }
    let mut events = [IoEvent::default()];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
    refused
}
