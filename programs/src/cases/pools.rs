//! Rings and pools of iocbs as databases use them.

use std::sync::{
    Condvar, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    PAGE, destroy,
    disk::{Named, letters},
    number, request, word,
};
use crate::{
    aio::{self, IoEvent, Iocb},
    ring::Ring,
    say,
};

/// `big-ring [ASKED] [REQUESTS] [ring]`: one read after the other, with two iocbs by turns and two
/// different lengths; never more than one is in flight. They are reaped with io_getevents, or, with
/// `ring`, from the ring.
pub fn big_ring(arguments: &[String]) {
    let (asked, requests) = (number(arguments, 0, 2048), number(arguments, 1, 6000));
    let is_from_ring = word(arguments, 2) == "ring";
    let named = Named::new("big-ring").filled(1);
    let (ctx, buffer) = (aio::setup(asked), letters(1));
    let mut iocbs = [Iocb::default(); 2];
    let mut wrong = 0;
    for data in 0..requests {
        let length = if data % 3 == 0 { 1024 } else { 512 };
        let iocb = &mut iocbs[data as usize % 2];
        *iocb = Iocb { data, ..request(aio::PREAD, named.fd(), buffer, length, 0) };
        assert_eq!(aio::submit(ctx, std::slice::from_mut(iocb)), 1, "io_submit");
        let event = if is_from_ring { from_ring(ctx) } else { aio::reap(ctx, 1)[0] };
        wrong += u64::from((event.data, event.res) != (data, length as i64));
    }
    say(&format!("{requests} requests, {wrong} wrong, never more than 1 in flight"));
    assert_eq!(wrong, 0, "wrong");
    destroy(ctx);
}

fn from_ring(ctx: u64) -> IoEvent {
    loop {
        if let Some(event) = Ring::of(ctx).reap() {
            return event;
        }
        std::hint::spin_loop();
    }
}

const BATCH: u64 = 400;

/// Submits 400 reads to a context that was asked for one: some fit. The file has 256 pages, so 144
/// of them are read twice.
fn too_many(named: &Named, buffer: *mut u8) -> (u64, Vec<Iocb>, usize) {
    let ctx = aio::setup(1);
    let mut iocbs: Vec<Iocb> = (0..BATCH)
        .map(|index| request(aio::PREAD, named.fd(), buffer, PAGE, PAGE * (index % 256)))
        .collect();
    let accepted = aio::submit(ctx, &mut iocbs);
    assert!(accepted > 0 && accepted < BATCH as i64, "a short io_submit: {accepted}");
    (ctx, iocbs, accepted as usize)
}

/// `ring-full-sync`: a small context, and a batch that is too large for it; the file has O_DIRECT
/// if possible. What does not fit is read with pread(2).
pub fn ring_full_sync(_: &[String]) {
    let (named, buffer) = (Named::direct_if_possible("ring-full-sync").filled(256), letters(1));
    let (ctx, iocbs, accepted) = too_many(&named, buffer);
    for iocb in &iocbs[accepted..] {
        // SAFETY: the memory is that of the request, and lives.
        let read = unsafe { libc::pread(iocb.fildes, buffer.cast(), PAGE as usize, iocb.offset) };
        assert_eq!(read, PAGE as isize, "pread");
    }
    aio::reap(ctx, accepted);
    say(&format!("{accepted} by AIO, {} by pread, all done", iocbs.len() - accepted));
    destroy(ctx);
}

/// `ring-full-drop`: the same, but what does not fit is forgotten, and its iocbs are used for other requests.
pub fn ring_full_drop(_: &[String]) {
    let (named, buffer) = (Named::direct_if_possible("ring-full-drop").filled(1024), letters(1));
    let (ctx, mut iocbs, accepted) = too_many(&named, buffer);
    aio::reap(ctx, accepted);
    let rest = &mut iocbs[accepted..];
    for (page, iocb) in (256..).zip(rest.iter_mut()) {
        // These requests are behind the whole batch, so none of them covers a part of what is
        // dropped.
        *iocb = Iocb { nbytes: PAGE / 2, offset: page * PAGE as i64, ..*iocb };
        assert_eq!(aio::submit(ctx, std::slice::from_mut(iocb)), 1, "io_submit");
        aio::reap(ctx, 1);
    }
    say(&format!("{} dropped", rest.len()));
    destroy(ctx);
}

/// Moves a ring so that its first two pages are at the end of what one page table maps. The kernel
/// maps these two when the first is touched, and does not map the others.
fn across(ctx: u64) -> u64 {
    const TABLE: u64 = 2 << 20;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let room = unsafe {
        libc::mmap(std::ptr::null_mut(), 3 * TABLE as usize, libc::PROT_NONE, flags, -1, 0)
    };
    assert_ne!(room, libc::MAP_FAILED, "mmap");
    let boundary = (room as u64 + TABLE).next_multiple_of(TABLE);
    let (from, bytes) = (boundary - 2 * PAGE, Ring::of(ctx).bytes());
    let moved = Ring::of(ctx).move_to(from);
    // Drop the pages from the page table, as if they had never been touched. The ring keeps its
    // content.
    // SAFETY: the memory is the ring's own mapping.
    let taken = unsafe { libc::madvise(moved as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
    assert_eq!(taken, 0, "madvise");
    moved
}

/// `shared-pool [REQUESTS] [THREADS] [across]`: threads take a request out of a pool and submit it
/// on the one context; one thread reaps it and puts it back, to be used by another thread at once.
/// It is `ready` at the start, and makes at least this many requests. It checks that no iocb is
/// submitted while it is in flight, and checks each result. With `across`, the ring is moved to a
/// place where most of its entries are behind the end of a page table.
pub fn shared_pool(arguments: &[String]) {
    const SLOTS: usize = 64;
    let named = Named::direct_if_possible("shared-pool").filled(8 * 1024);
    let (mut ctx, is_over) = (aio::setup(256), AtomicBool::new(false));
    let (least, threads) = (number(arguments, 0, 20_000), number(arguments, 1, 3));
    if word(arguments, 2) == "across" {
        ctx = across(ctx);
    }
    let buffer = letters(SLOTS * 8) as u64;
    let pool = Mutex::new((0..SLOTS).collect::<Vec<_>>());
    let is_given_back = Condvar::new();
    // Two words for each slot: whether it is in flight, and what its result must be.
    let slots: Vec<(AtomicBool, AtomicU64)> =
        (0..SLOTS).map(|_| (AtomicBool::new(false), AtomicU64::new(0))).collect();
    let (submitted, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut iocbs = vec![Iocb::default(); SLOTS];
    let iocbs_at = iocbs.as_mut_ptr() as u64;
    let submit = |mut seed: u64| {
        while !is_over.load(Ordering::Relaxed) || submitted.load(Ordering::Relaxed) < least {
            let mut free = pool.lock().expect("the pool");
            let slot = loop {
                match free.pop() {
                    Some(slot) => break slot,
                    None => free = is_given_back.wait(free).expect("the pool"),
                }
            };
            drop(free);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (is_busy, expected) = &slots[slot];
            wrong.fetch_add(u64::from(is_busy.swap(true, Ordering::SeqCst)), Ordering::Relaxed);
            let length = PAGE << (seed >> 33 & 3);
            expected.store(length, Ordering::SeqCst);
            let opcode = if seed >> 40 & 1 == 0 { aio::PREAD } else { aio::PWRITE };
            let at = (buffer + slot as u64 * 8 * PAGE) as *mut u8;
            let offset = (seed >> 48) % 1000 * 8 * PAGE;
            let iocb = request(opcode, named.fd(), at, length, offset);
            let pointer = [iocbs_at + (slot * size_of::<Iocb>()) as u64];
            // SAFETY: the slot is ours until it is put back.
            unsafe { (pointer[0] as *mut Iocb).write(Iocb { data: slot as u64, ..iocb }) };
            assert_eq!(aio::submit_at(ctx, 1, pointer.as_ptr() as u64), 1, "io_submit");
            submitted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let reap = || {
        let mut events = vec![IoEvent::default(); 256];
        loop {
            let count = aio::getevents(ctx, 1, &mut events, None);
            assert!(count > 0, "io_getevents: {count}");
            for event in &events[..count as usize] {
                if event.data == u64::MAX {
                    return;
                }
                let (is_busy, expected) = &slots[event.data as usize];
                let is_right = event.res == expected.load(Ordering::SeqCst) as i64;
                wrong.fetch_add(u64::from(!is_right), Ordering::Relaxed);
                is_busy.store(false, Ordering::SeqCst);
                pool.lock().expect("the pool").push(event.data as usize);
                is_given_back.notify_one();
            }
        }
    };
    std::thread::scope(|scope| {
        let reaper = scope.spawn(reap);
        let submitters: Vec<_> =
            (0..threads).map(|seed| scope.spawn(move || submit(seed * 7919 + 3))).collect();
        crate::wait();
        is_over.store(true, Ordering::Relaxed);
        submitters.into_iter().for_each(|it| it.join().expect("a thread"));
        // Wait for all other requests; the last request then tells the reaper to end.
        while pool.lock().expect("the pool").len() < SLOTS {
            std::thread::yield_now();
        }
        let mut byte = 0;
        let mut last = [aio::pread(aio::zero(), &mut byte, u64::MAX)];
        assert_eq!(aio::submit(ctx, &mut last), 1, "io_submit");
        reaper.join().expect("the reaper");
    });
    let (submitted, wrong) = (submitted.into_inner(), wrong.into_inner());
    say(&format!("submitted {}, wrong {wrong}", submitted + 1));
    destroy(ctx);
}
