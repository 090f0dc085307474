//! What becomes of contexts and of the requests in flight in them, and all the ways to complete.

use std::{fs::File, io::Write as _, os::fd::AsRawFd as _, os::unix::process::CommandExt as _};

use crate::{
    aio::{self, IoEvent, Iocb, Timespec},
    processes::wait_for,
};

/// A context with a poll in it that never completes.
fn pending() -> u64 {
    let ctx = aio::setup(4);
    // Poll an eventfd, not a pipe: a process that looks at an exiting process delays the end of its
    // contexts. The write end of a pipe is closed without that delay, and this would complete the
    // poll.
    assert_eq!(aio::submit(ctx, &mut [aio::poll(aio::eventfd(), 9)]), 1, "io_submit");
    ctx
}

/// Makes requests of every kind, one after the other, and reaps each.
pub fn completions() {
    let ctx = aio::setup(8);
    let path = std::env::temp_dir().join(format!("aio-completions-{}", std::process::id()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .expect("a temporary file");
    std::fs::remove_file(&path).expect("the temporary file");
    file.write_all(&[7; 64]).expect("the temporary file");
    let fd = file.as_raw_fd();
    let mut buffer = 1u64;
    let vector = libc::iovec { iov_base: (&raw mut buffer).cast(), iov_len: 8 };
    let at = &raw mut buffer as u64;
    let eventfd = aio::eventfd();
    let iocb = |opcode, buf, nbytes| Iocb { opcode, fildes: fd, buf, nbytes, ..Iocb::default() };
    let vector = &raw const vector as u64;
    let signalled = Iocb { flags: 1, resfd: eventfd as u32, ..iocb(aio::PREAD, at, 8) };
    for (iocb, result) in [
        (iocb(aio::PREAD, at, 8), 8),
        (iocb(aio::PWRITE, at, 8), 8),
        (iocb(aio::PREADV, vector, 1), 8),
        (iocb(aio::PWRITEV, vector, 1), 8),
        (iocb(aio::FSYNC, 0, 0), 0),
        (iocb(aio::FDSYNC, 0, 0), 0),
        (signalled, 8),
        // A buffer that is not mapped is an error of the completion, not of io_submit.
        (iocb(aio::PREAD, 8, 8), -i64::from(libc::EFAULT)),
    ] {
        one(ctx, iocb, result);
    }
    let mut count = [0u8; 8];
    // SAFETY: the array has room for the count.
    assert_eq!(unsafe { libc::read(eventfd, count.as_mut_ptr().cast(), 8) }, 8, "eventfd");
    polled_by_another(ctx);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

fn one(ctx: u64, iocb: Iocb, result: i64) {
    let mut iocbs = [iocb];
    assert_eq!(aio::submit(ctx, &mut iocbs), 1, "io_submit of opcode {}", iocb.opcode);
    let mut events = [IoEvent::default()];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
    assert_eq!(events[0].res, result, "opcode {}", iocb.opcode);
}

/// Lets another process complete a poll.
fn polled_by_another(ctx: u64) {
    let (reader, writer) = aio::pipe();
    let mut iocbs = [aio::poll(reader, 3)];
    assert_eq!(aio::submit(ctx, &mut iocbs), 1, "io_submit");
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the byte is a constant, and the pipe is ours.
        let wrote = unsafe { libc::write(writer, b"x".as_ptr().cast(), 1) };
        std::process::exit(i32::from(wrote != 1));
    }
    let mut events = [IoEvent::default()];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
    assert_eq!(events[0].res, i64::from(libc::POLLIN | libc::POLLRDNORM));
    wait_for(child);
}

/// The second of three iocbs is refused, and the kernel does not say why.
pub fn short() {
    let ctx = aio::setup(4);
    let mut buffer = 0;
    let good = aio::pread(aio::zero(), &mut buffer, 1);
    let bad = Iocb { fildes: 999, ..good };
    assert_eq!(aio::submit(ctx, &mut [good, bad, good]), 1, "io_submit");
    let mut events = [IoEvent::default(); 2];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    aio::stay();
}

/// io_destroy cancels a request in flight.
pub fn destroy_in_flight() {
    assert_eq!(aio::destroy(pending()), 0, "io_destroy");
}

/// The end of the process cancels a request in flight.
pub fn exit_in_flight() {
    pending();
}

/// execve cancels a request in flight.
pub fn exec_in_flight() {
    pending();
    let program = std::env::current_exe().expect("our path");
    let error = std::process::Command::new(program).args(["pairs", "1"]).exec();
    panic!("exec: {error}");
}

/// A true leak: the ring is gone, and the context stays until the process ends.
pub fn unmap_ring() {
    let ctx = aio::setup(4);
    crate::basic::pair(ctx, 1);
    // SAFETY: nobody uses the ring after this.
    assert_eq!(unsafe { libc::munmap(ctx as *mut libc::c_void, 4096) }, 0, "munmap");
    let refused = -i64::from(libc::EINVAL);
    assert_eq!(aio::getevents(ctx, 0, &mut [IoEvent::default()], None), refused);
}

/// The ring is moved. The handle is the ring's address, so it changes.
pub fn move_ring() {
    let ctx = aio::setup(4);
    crate::basic::pair(ctx, 1);
    let place = aio::pages(1);
    // SAFETY: `place` is a page of ours that nothing uses.
    let moved = unsafe {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        libc::mremap(ctx as *mut libc::c_void, 4096, 4096, flags, place)
    } as u64;
    assert_eq!(moved, place as u64, "mremap");
    let mut buffer = 0;
    let mut iocb = [aio::pread(aio::zero(), &mut buffer, 2)];
    assert_eq!(aio::submit(ctx, &mut iocb), -i64::from(libc::EINVAL), "the old handle");
    crate::basic::pair(moved, 3);
    assert_eq!(aio::destroy(moved), 0, "io_destroy");
}

/// A child has no context. Up to Linux 7.0 it has a mapping that looks like one.
pub fn forked_handle() {
    let ctx = aio::setup(4);
    crate::basic::pair(ctx, 1);
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut buffer = 0;
        let mut iocb = [aio::pread(aio::zero(), &mut buffer, 2)];
        assert_eq!(aio::submit(ctx, &mut iocb), -i64::from(libc::EINVAL), "io_submit");
        let zero = Some(Timespec::millis(0));
        let ret = aio::getevents(ctx, 0, &mut [IoEvent::default()], zero);
        assert_eq!(ret, -i64::from(libc::EINVAL), "io_getevents");
        std::process::exit(0);
    }
    wait_for(child);
    crate::basic::pair(ctx, 3);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// A child of vfork shares the address space, so its end does not end the context.
pub fn vfork() {
    let ctx = aio::setup(4);
    crate::basic::pair(ctx, 1);
    let program = std::env::current_exe().expect("our path");
    let program = std::ffi::CString::new(program.as_os_str().as_encoded_bytes()).expect("a path");
    let arguments = [program.as_ptr(), c"pairs".as_ptr(), c"2".as_ptr(), std::ptr::null()];
    // SAFETY: the child only runs another program, and the parent waits until then, as with vfork.
    let child = unsafe {
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let mut stack = [0u64; 4096];
        let top = stack.as_mut_ptr().add(stack.len()).cast();
        libc::clone(exec_child, top, flags, (&raw const arguments).cast_mut().cast())
    };
    assert!(child > 0, "clone");
    wait_for(child);
    crate::basic::pair(ctx, 2);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

extern "C" fn exec_child(arguments: *mut libc::c_void) -> i32 {
    let arguments: *const *const libc::c_char = arguments.cast();
    // SAFETY: the pointer leads to a program and its arguments, and the list ends with null.
    unsafe { libc::execv(*arguments, arguments) };
    1
}
