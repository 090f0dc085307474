//! Programs that do not answer whoever looks at them: their memory, a file that they have mapped as code, or the
//! program that they begin is in a file whose server does not answer until a line comes on standard input. One answers
//! itself: it serves its own page faults, and means no harm.
//!
//! Needs root, and what it uses: where that is missing, the program says so and ends with status 77.

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
/// Nobody answers until a line comes that nobody else has read.
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

/// Waits for the line at which the server answers, and leaves it there for that.
fn released() {
    while !tasks::is_readable_within(0, Duration::from_secs(1)) {}
}

/// A file whose content nobody serves, at this address, or anywhere.
fn map(file: &File, at: u64) -> u64 {
    let fixed = if at == 0 { 0 } else { libc::MAP_FIXED };
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | fixed);
    // SAFETY: at this address is the ring of a context of ours, which nobody looks at any more.
    let map = unsafe {
        libc::mmap(at as *mut libc::c_void, PAGE, protection, flags, file.as_raw_fd(), 0)
    };
    assert_ne!(map, libc::MAP_FAILED, "mmap");
    map as u64
}

/// Its ring gives way to such memory. A request of its stays in flight.
fn ring() {
    let held = Held::open_to_read(NOBODY);
    let ctx = aio::setup(8);
    assert_eq!(aio::submit(ctx, &mut [aio::poll(aio::silent_pipe(), 1)]), 1, "io_submit");
    crate::wait();
    map(&held.file, ctx);
    crate::say("mapped");
    released();
}

/// The array of iocbs is such memory. The kernel does not look at it: there is no such context.
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

/// The array of iocbs is memory that a thread of this program fills when somebody looks at it, as QEMU does it after a
/// migration (postcopy): userfaultfd(2).
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

/// The numbers of include/uapi/linux/userfaultfd.h: of the interface, of a request to know it, to register memory, and
/// to fill a page.
const API: u64 = 0xaa;
const KNOW: u64 = 0xc018_aa3f;
const REGISTER: u64 = 0xc020_aa00;
const COPY: u64 = 0xc028_aa03;
/// A page that is missing.
const MISSING: u64 = 1;

fn userfaultfd() -> OwnedFd {
    // SAFETY: no memory is involved.
    let descriptor = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let Ok(descriptor @ 0..) = i32::try_from(descriptor) else {
        crate::say("this kernel has no userfaultfd");
        std::process::exit(CANNOT_RUN);
    };
    // SAFETY: nobody else has it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    request(&descriptor, KNOW, &mut [API, 0, 0]);
    descriptor
}

fn register(descriptor: &OwnedFd, memory: u64, length: usize) {
    request(descriptor, REGISTER, &mut [memory, length as u64, MISSING, 0]);
}

/// Waits for somebody who looks at a page, and fills it.
fn serve(descriptor: &OwnedFd, word: u64) {
    let mut message = [0u64; 4];
    // SAFETY: room for a message. A process that traces us may interrupt the read.
    while unsafe { libc::read(descriptor.as_raw_fd(), message.as_mut_ptr().cast(), 32) } != 32 {}
    let page = [word; PAGE / 8];
    let at = message[2] & !(PAGE as u64 - 1);
    request(descriptor, COPY, &mut [at, page.as_ptr() as u64, PAGE as u64, 0, 0]);
}

fn request(descriptor: &OwnedFd, number: u64, argument: &mut [u64]) {
    // SAFETY: an argument of the size that the number says.
    let made = unsafe { libc::ioctl(descriptor.as_raw_fd(), number, argument.as_mut_ptr()) };
    assert_eq!(made, 0, "{number:x}: {}", std::io::Error::last_os_error());
}

/// Begins another program while a request is in flight: it waits for that, and holds its own locks.
fn exec() {
    let held = Held::open(NOBODY);
    let ctx = aio::setup(8);
    crate::wait();
    let buf = aio::pages(1) as u64;
    let read = aio::pread(held.file.as_raw_fd(), &mut 0, 1);
    let read = aio::Iocb { buf, nbytes: PAGE as u64, ..read };
    assert_eq!(aio::submit(ctx, &mut [read]), 1, "io_submit");
    // To close it would wait, too, and be something else.
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(held.file.as_raw_fd(), libc::F_SETFD, 0) };
    let program = std::env::current_exe().expect("this program");
    panic!("{}", Command::new(program).args(["unanswered", "executed"]).exec());
}

/// Begins a program whose file nobody serves.
fn begin() {
    let held = Held::open_to_read(NOBODY);
    crate::wait();
    let program = CString::new(format!("/proc/self/fd/{}", held.file.as_raw_fd())).expect("no NUL");
    let arguments = [program.as_ptr(), ptr::null()];
    // SAFETY: strings that live.
    unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    // It is no program.
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENOEXEC), "execve");
    crate::say("done");
}

/// Calls with a return address in a file that nobody serves, below one that hides that: an overlay.
fn code() {
    let held = Held::open_on_overlay(NOBODY);
    let code = attacks::map(&held.file);
    crate::wait();
    attacks::work(code + 64);
    crate::say("done");
    released();
}
