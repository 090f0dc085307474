//! User memory that is not mapped, or not in memory yet.

use std::os::fd::AsRawFd as _;

use crate::aio::{self, IoEvent, Iocb};

/// An array of pointers runs into a page that is not mapped; then one pointer of an array leads to
/// memory that is not mapped.
pub fn unreadable() {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    let mut iocb = aio::pread(aio::zero(), &mut buffer, 1);
    let pointer = &raw mut iocb as u64;

    let pages = aio::pages(2);
    // SAFETY: the second page is ours until it is unmapped here, and the pointers are within the
    // first.
    let array = unsafe {
        aio::unmap(pages.add(4096));
        let array = pages.add(4096 - 16).cast::<u64>();
        array.write(pointer);
        array.add(1).write(pointer);
        array as u64
    };
    assert_eq!(aio::submit_at(ctx, 4, array), 2, "two pointers are readable");

    let pointers = [pointer, 0x10, pointer];
    assert_eq!(aio::submit_at(ctx, 3, pointers.as_ptr() as u64), 1, "one iocb is readable");
    let mut events = [IoEvent::default(); 4];
    assert_eq!(aio::getevents(ctx, 3, &mut events, None), 3);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    aio::stay();
}

/// The iocbs are in a mapping of a file that nobody has touched, so the kernel pages them in during
/// the call. Only the first of three is in memory.
pub fn late() {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    let mut iocb = aio::pread(aio::zero(), &mut buffer, 1);
    let path = std::env::temp_dir().join(format!("aio-late-{}", std::process::id()));
    let mut bytes = vec![0; 2 << 20];
    for (place, data) in [(1 << 20, 2), ((1 << 20) + 512, 3)] {
        iocb.data = data;
        // SAFETY: an iocb is 64 bytes without padding.
        let image = unsafe { std::mem::transmute::<Iocb, [u8; 64]>(iocb) };
        bytes[place..place + 64].copy_from_slice(&image);
    }
    iocb.data = 1;
    std::fs::write(&path, &bytes).expect("a temporary file");
    let file = std::fs::File::open(&path).expect("the temporary file");
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let at = unsafe {
        let none = std::ptr::null_mut();
        libc::mmap(none, bytes.len(), protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    assert_ne!(at, libc::MAP_FAILED, "mmap");
    std::fs::remove_file(&path).expect("the temporary file");
    let first = at as u64 + (1 << 20);
    let pointers = [&raw mut iocb as u64, first, first + 512];
    assert_eq!(aio::submit_at(ctx, 3, pointers.as_ptr() as u64), 3, "io_submit");
    let mut events = [IoEvent::default(); 3];
    assert_eq!(aio::getevents(ctx, 3, &mut events, None), 3);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
