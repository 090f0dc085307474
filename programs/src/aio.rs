//! The six system calls, without a library: each function returns what the kernel returned, which
//! is a negative errno on failure.
//!
//! The structures are declared here again on purpose: a check of aiotrace must not share aiotrace's
//! idea of their layout.

use std::os::fd::RawFd;

use crate::arch::IO_PGETEVENTS;

pub const PREAD: u16 = 0;
pub const PWRITE: u16 = 1;
pub const FSYNC: u16 = 2;
pub const FDSYNC: u16 = 3;
pub const POLL: u16 = 5;
pub const PREADV: u16 = 7;
pub const PWRITEV: u16 = 8;

/// `struct iocb`
#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
pub struct Iocb {
    pub data: u64,
    pub key: u32,
    pub rw_flags: u32,
    pub opcode: u16,
    pub reqprio: i16,
    pub fildes: i32,
    pub buf: u64,
    pub nbytes: u64,
    pub offset: i64,
    pub reserved2: u64,
    pub flags: u32,
    pub resfd: u32,
}

/// `struct io_event`
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct IoEvent {
    pub data: u64,
    pub obj: u64,
    pub res: i64,
    pub res2: i64,
}

/// `struct timespec`
#[repr(C)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec {
    pub fn millis(millis: i64) -> Self {
        Self { sec: millis / 1000, nsec: millis % 1000 * 1_000_000 }
    }
}

fn call(number: i64, args: [u64; 6]) -> i64 {
    // SAFETY: the kernel checks all addresses. Some tests pass wrong ones on purpose.
    let ret =
        unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if ret == -1 {
        -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        ret
    }
}

pub fn setup_at(nr: u64, ctxp: u64) -> i64 {
    call(libc::SYS_io_setup, [nr, ctxp, 0, 0, 0, 0])
}

/// Makes a context for `nr` requests.
pub fn setup(nr: u64) -> u64 {
    let mut ctx = 0u64;
    let ret = setup_at(nr, &raw mut ctx as u64);
    assert_eq!(ret, 0, "io_setup({nr})");
    ctx
}

/// Lives on for a moment: a tracer looks at the process while it lives, and nothing tells the process
/// when it has.
pub fn stay() {
    std::thread::sleep(std::time::Duration::from_millis(500));
}

pub fn destroy(ctx: u64) -> i64 {
    call(libc::SYS_io_destroy, [ctx, 0, 0, 0, 0, 0])
}

pub fn submit_at(ctx: u64, nr: i64, iocbpp: u64) -> i64 {
    call(libc::SYS_io_submit, [ctx, nr as u64, iocbpp, 0, 0, 0])
}

pub fn submit(ctx: u64, iocbs: &mut [Iocb]) -> i64 {
    let pointers: Vec<u64> = iocbs.iter_mut().map(|it| std::ptr::from_mut(it) as u64).collect();
    submit_at(ctx, pointers.len() as i64, pointers.as_ptr() as u64)
}

pub fn getevents_at(ctx: u64, min: i64, nr: i64, events: u64, timeout: u64) -> i64 {
    call(libc::SYS_io_getevents, [ctx, min as u64, nr as u64, events, timeout, 0])
}

pub fn getevents(ctx: u64, min: i64, events: &mut [IoEvent], timeout: Option<Timespec>) -> i64 {
    let timeout = timeout.as_ref().map_or(0, |it| std::ptr::from_ref(it) as u64);
    getevents_at(ctx, min, events.len() as i64, events.as_mut_ptr() as u64, timeout)
}

/// `sigset`: the address of a `struct __aio_sigset`.
pub fn pgetevents_at(ctx: u64, min: i64, nr: i64, events: u64, timeout: u64, sigset: u64) -> i64 {
    call(IO_PGETEVENTS, [ctx, min as u64, nr as u64, events, timeout, sigset])
}

pub fn cancel(ctx: u64, iocb: u64, result: u64) -> i64 {
    call(libc::SYS_io_cancel, [ctx, iocb, result, 0, 0, 0])
}

/// What the kernel returns for this errno: the errno, negated.
pub fn error(errno: i32) -> i64 {
    -i64::from(errno)
}

/// Reaps exactly this many completions, however long that takes.
pub fn reap(ctx: u64, count: usize) -> Vec<IoEvent> {
    let mut events = vec![IoEvent::default(); count];
    assert_eq!(getevents(ctx, count as i64, &mut events, None), count as i64, "io_getevents");
    events
}

/// An iocb that reads 8 bytes.
pub fn pread(fd: RawFd, buffer: &mut u64, data: u64) -> Iocb {
    let buf = std::ptr::from_mut(buffer) as u64;
    Iocb { data, opcode: PREAD, fildes: fd, buf, nbytes: 8, ..Iocb::default() }
}

/// An iocb that waits until `fd` is readable.
pub fn poll(fd: RawFd, data: u64) -> Iocb {
    let events = libc::POLLIN as u64;
    Iocb { data, opcode: POLL, fildes: fd, buf: events, ..Iocb::default() }
}

/// /dev/zero, which reads as zeros at once.
pub fn zero() -> RawFd {
    // SAFETY: the path is a constant that ends with NUL.
    let fd = unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDWR) };
    assert!(fd >= 0, "/dev/zero");
    fd
}

/// A pipe: its read end and its write end.
pub fn pipe() -> (RawFd, RawFd) {
    let mut ends = [0; 2];
    // SAFETY: the array has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0, "pipe");
    (ends[0], ends[1])
}

/// The read end of a pipe that never has any data and never ends, as nobody ever opens it for
/// writing. (If we had the write end, it might be closed at exit before the contexts end.)
pub fn silent_pipe() -> RawFd {
    let path = std::env::temp_dir().join(format!("aio-fifo-{}", std::process::id()));
    let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).expect("a path");
    // SAFETY: the path ends with NUL and lives during the calls.
    let fd = unsafe {
        assert_eq!(libc::mkfifo(path.as_ptr(), 0o600), 0, "mkfifo");
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK);
        libc::unlink(path.as_ptr());
        fd
    };
    assert!(fd >= 0, "a pipe with a name");
    fd
}

/// An eventfd whose count is 0.
pub fn eventfd() -> RawFd {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::eventfd(0, 0) };
    assert!(fd >= 0, "eventfd");
    fd
}

/// Puts a byte into a pipe.
pub fn fill(writer: RawFd) {
    // SAFETY: the pointer is to one byte of a constant.
    assert_eq!(unsafe { libc::write(writer, b"x".as_ptr().cast(), 1) }, 1, "the pipe");
}

/// Takes a byte out of a pipe.
pub fn drain(reader: RawFd) {
    let mut byte = 0u8;
    // SAFETY: the variable has room for one byte.
    assert_eq!(unsafe { libc::read(reader, (&raw mut byte).cast(), 1) }, 1, "the pipe");
}

/// Maps new anonymous pages.
pub fn pages(count: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), count * 4096, protection, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED, "mmap");
    at.cast()
}

/// Unmaps a page.
pub fn unmap(at: *mut u8) {
    // SAFETY: the page is ours, and nobody uses it.
    assert_eq!(unsafe { libc::munmap(at.cast(), 4096) }, 0, "munmap");
}
