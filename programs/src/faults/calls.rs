//! Calls that are refused by the kernel or by a sandbox, and calls that are the wrong ones.

use std::{fs, os::unix::fs::FileExt as _};

use crate::{
    aio::{self, IoEvent, Timespec},
    basic,
    files::Temporary,
    processes,
};

/// bad-use-after-destroy: the only thread goes on using a context that it has destroyed.
pub fn after_destroy() {
    let ctx = aio::setup(8);
    basic::pair(ctx, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    let mut buffer = 0;
    let mut iocb = [aio::pread(aio::zero(), &mut buffer, 2)];
    assert_eq!(aio::submit(ctx, &mut iocb), aio::error(libc::EINVAL), "io_submit");
    let at_once = Some(Timespec::millis(0));
    let ret = aio::getevents(ctx, 1, &mut [IoEvent::default()], at_once);
    assert_eq!(ret, aio::error(libc::EINVAL), "io_getevents");
}

/// bad-setup-denied: asks for all that fs.aio-max-nr allows, although we, at least, hold a part of
/// it.
pub fn setup_denied() {
    /// If it is asked for more, io_setup gives EINVAL.
    const MOST: u64 = 4_194_304;
    let ctx = aio::setup(8);
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/fs/{name}")).expect("a sysctl of AIO");
        text.trim().parse::<u64>().expect("a number")
    };
    let (limit, in_use) = (number("aio-max-nr"), number("aio-nr"));
    let asked = limit.min(MOST);
    assert!(in_use + asked > limit, "fs.aio-max-nr is too high: {limit}, of which {in_use} in use");
    let mut second = 0u64;
    let ret = aio::setup_at(asked, &raw mut second as u64);
    assert_eq!(ret, aio::error(libc::EAGAIN), "io_setup for {asked}");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-setup-denied: asks for 8 twice.
pub fn setup_allowed() {
    for ctx in [aio::setup(8), aio::setup(8)] {
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}

/// bad-sandbox-denied: a filter answers io_submit with EPERM, from the second call on.
pub fn in_a_sandbox() {
    let ctx = aio::setup(8);
    basic::pair(ctx, 1);
    processes::deny(&[(libc::SYS_io_submit, libc::EPERM)]);
    let mut buffer = 0;
    let mut iocb = [aio::pread(aio::zero(), &mut buffer, 2)];
    assert_eq!(aio::submit(ctx, &mut iocb), aio::error(libc::EPERM), "io_submit");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-sandbox-denied: makes the same calls without the filter.
pub fn in_no_sandbox() {
    basic::pairs(2);
}

/// bad-cancel-refused: a read that has completed cannot be cancelled.
pub fn cancelled_too_late() {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    let mut iocb = [aio::pread(aio::zero(), &mut buffer, 1)];
    assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
    let mut event = IoEvent::default();
    let ret = aio::cancel(ctx, iocb.as_ptr() as u64, &raw mut event as u64);
    assert_eq!(ret, aio::error(libc::EINVAL), "io_cancel");
    aio::reap(ctx, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-cancel-refused: a poll in flight can be cancelled; its completion comes through the ring.
pub fn cancelled() {
    let ctx = aio::setup(8);
    let (reader, _writer) = aio::pipe();
    let mut iocb = [aio::poll(reader, 1)];
    assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
    let mut event = IoEvent::default();
    let ret = aio::cancel(ctx, iocb.as_ptr() as u64, &raw mut event as u64);
    assert_eq!(ret, aio::error(libc::EINPROGRESS), "io_cancel");
    assert_eq!(aio::reap(ctx, 1)[0].data, 1);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// bad-not-kernel-aio: makes only synchronous reads and writes.
pub fn no_aio() {
    let file = Temporary::of(&[7; 64]);
    let mut bytes = [0; 8];
    for offset in (0..64).step_by(8) {
        file.file().read_exact_at(&mut bytes, offset).expect("the file");
        file.file().write_all_at(&bytes, offset).expect("the file");
    }
}

/// good-not-kernel-aio: makes one read with AIO, which is enough.
pub fn some_aio() {
    no_aio();
    basic::pairs(1);
}
