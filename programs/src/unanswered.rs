//! Programs that do not answer when somebody looks at them: their memory, a file that they have
//! mapped as code, or the program that they begin is in a file whose server does not answer until a
//! line comes on standard input. One of them does answer, by itself: it serves its own page faults,
//! and means no harm.
//!
//! Needs root and the kernel's features that it uses; without them, the program says so and ends
//! with status 77.

use std::{
    ffi::CString,
    fs::File,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
    ptr,
    time::Duration,
};

use crate::{
    aio, attacks,
    fuse::{Answer, Held},
    tasks,
};

/// A page.
const PAGE: usize = 4096;
/// The status of a program that cannot run here.
const CANNOT_RUN: i32 = 77;
/// The server answers when a line is on standard input, which no other reader may have taken.
const NOBODY: Answer = Answer::AtLineAfter(0);

/// The argument says what does not answer.
pub fn run(arguments: &[String]) {
    let [what] = arguments else { panic!("what does not answer") };
    match &what[..] {
        "ring" => ring(),
        "iocbs" => iocbs(),
        "served" => served(),
        "exec" => exec(),
        "executed" => crate::say("executed"),
        "begin" => begin(),
        "code" => code(),
        other => panic!("no such thing: {other}"),
    }
}

/// Waits for the line at which the server answers, but does not read it: the server does.
fn released() {
    while !tasks::is_readable_within(0, Duration::from_secs(1)) {}
}

/// Maps a file whose content nobody serves, at this address, or anywhere if it is 0.
fn map(file: &File, at: u64) -> u64 {
    let fixed = if at == 0 { 0 } else { libc::MAP_FIXED };
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | fixed);
    // SAFETY: at a given address is the ring of a context of ours, which nobody uses any more; if
    // it is 0, the kernel chooses an address where nothing is mapped.
    let map = unsafe {
        libc::mmap(at as *mut libc::c_void, PAGE, protection, flags, file.as_raw_fd(), 0)
    };
    assert_ne!(map, libc::MAP_FAILED, "mmap");
    map as u64
}

/// Replaces the ring of a context by such memory, while a request is in flight.
fn ring() {
    let held = Held::open_to_read(NOBODY);
    let ctx = aio::setup(8);
    assert_eq!(aio::submit(ctx, &mut [aio::poll(aio::silent_pipe(), 1)]), 1, "io_submit");
    crate::wait();
    map(&held.file, ctx);
    crate::say("mapped");
    released();
}

/// Has its array of iocbs in such memory. The kernel does not read it, as there is no such context.
fn iocbs() {
    let held = Held::open_to_read(NOBODY);
    let pointers = map(&held.file, 0);
    crate::wait();
    for _ in 0..4 {
        assert_eq!(aio::submit_at(8, 1, pointers), -i64::from(libc::EINVAL), "io_submit");
    }
    crate::say("done");
    released();
}

/// Has its array of iocbs in memory that a thread of this program fills when somebody reads it,
/// with userfaultfd(2), as QEMU does after a migration (postcopy).
fn served() {
    const PAGES: usize = 8;
    let descriptor = userfaultfd();
    let memory = aio::pages(PAGES) as u64;
    register(&descriptor, memory, PAGES * PAGE);
    let (reader, writer) = aio::pipe();
    aio::fill(writer);
    let iocb = aio::poll(reader, 1);
    let address = &raw const iocb as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| (0..PAGES).for_each(|_| serve(&descriptor, address)));
        let ctx = aio::setup(8);
        crate::wait();
        for page in 0..PAGES {
            assert_eq!(aio::submit_at(ctx, 1, memory + (page * PAGE) as u64), 1, "io_submit");
            aio::reap(ctx, 1);
        }
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    });
}

/// Numbers of include/uapi/linux/userfaultfd.h: the version of the interface, and the ioctls that
/// ask for it, register memory, and fill a page.
const API: u64 = 0xaa;
const KNOW: u64 = 0xc018_aa3f;
const REGISTER: u64 = 0xc020_aa00;
const COPY: u64 = 0xc028_aa03;
/// The mode in which faults of missing pages are reported.
const MISSING: u64 = 1;

fn userfaultfd() -> OwnedFd {
    // SAFETY: the call takes no pointers.
    let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let Ok(descriptor @ 0..) = i32::try_from(descriptor) else {
        crate::say("this kernel has no userfaultfd");
        std::process::exit(CANNOT_RUN);
    };
    // SAFETY: the descriptor is new, and nobody else has it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    request(&descriptor, KNOW, &mut [API, 0, 0]);
    descriptor
}

fn register(descriptor: &OwnedFd, memory: u64, length: usize) {
    request(descriptor, REGISTER, &mut [memory, length as u64, MISSING, 0]);
}

/// Waits until somebody reads a page, and fills it.
fn serve(descriptor: &OwnedFd, word: u64) {
    let mut message = [0u64; 4];
    // SAFETY: the array has room for a message. The read is repeated, because a tracer may
    // interrupt it.
    while unsafe { libc::read(descriptor.as_raw_fd(), message.as_mut_ptr().cast(), 32) } != 32 {}
    let page = [word; PAGE / 8];
    let at = message[2] & !(PAGE as u64 - 1);
    request(descriptor, COPY, &mut [at, page.as_ptr() as u64, PAGE as u64, 0, 0]);
}

fn request(descriptor: &OwnedFd, number: u64, argument: &mut [u64]) {
    // SAFETY: the argument has the size that the number of the ioctl says.
    let made = unsafe {
        libc::ioctl(descriptor.as_raw_fd(), number as libc::Ioctl, argument.as_mut_ptr())
    };
    assert_eq!(made, 0, "{number:x}: {}", std::io::Error::last_os_error());
}

/// Calls execve while a request is in flight: it waits for the request, and holds the process's
/// locks meanwhile.
fn exec() {
    let held = Held::open(NOBODY);
    let ctx = aio::setup(8);
    crate::wait();
    let buf = aio::pages(1) as u64;
    let read = aio::pread(held.file.as_raw_fd(), &mut 0, 1);
    let read = aio::Iocb { buf, nbytes: PAGE as u64, ..read };
    assert_eq!(aio::submit(ctx, &mut [read]), 1, "io_submit");
    // Do not close the file at execve: closing it would wait, too, at another point.
    // SAFETY: the call takes no pointers.
    unsafe { libc::fcntl(held.file.as_raw_fd(), libc::F_SETFD, 0) };
    let program = std::env::current_exe().expect("this program");
    panic!("{}", Command::new(program).args(["unanswered", "executed"]).exec());
}

/// Calls execve with a file whose content nobody serves.
fn begin() {
    let held = Held::open_to_read(NOBODY);
    crate::wait();
    let program = CString::new(format!("/proc/self/fd/{}", held.file.as_raw_fd())).expect("no NUL");
    let arguments = [program.as_ptr(), ptr::null()];
    // SAFETY: the strings live, and the list ends with null.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    // The file is not a program.
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOEXEC), "execve");
    crate::say("done");
}

/// Makes calls with a return address in a file that nobody serves, below an overlay that hides
/// this.
fn code() {
    let held = Held::open_on_overlay(NOBODY);
    let code = attacks::map(&held.file);
    crate::wait();
    attacks::work(code + 64);
    crate::say("done");
    released();
}
