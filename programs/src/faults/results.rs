//! The results of requests, and how long io_submit takes.

use std::{os::fd::RawFd, thread, time::Duration};

use crate::{
    aio::{self, Iocb},
    basic,
    files::Temporary,
    tasks,
};

/// Makes one request in a context of its own; gives its result.
fn result_of(iocb: Iocb) -> i64 {
    let ctx = aio::setup(8);
    assert_eq!(aio::submit(ctx, &mut [iocb]), 1, "io_submit");
    let result = aio::reap(ctx, 1)[0].res;
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    result
}

/// bad-failed-completion: reads into a buffer that is not mapped.
pub fn failed() {
    let file = Temporary::of(&[7; 64]);
    let mut buffer = 0;
    let read = Iocb { buf: 8, offset: 16, ..aio::pread(file.fd(), &mut buffer, 1) };
    assert_eq!(result_of(read), aio::error(libc::EFAULT));
}

/// good-failed-completion: reads into a buffer that is mapped.
pub fn succeeded() {
    let file = Temporary::of(&[7; 64]);
    let mut buffer = 0;
    let read = Iocb { offset: 16, ..aio::pread(file.fd(), &mut buffer, 1) };
    assert_eq!(result_of(read), 8);
}

/// bad-short-io: only 4 of 8 bytes can be written, because the file may not become larger.
pub fn short_write() {
    const LIMIT: u64 = 64;
    let file = Temporary::of(&[7; 60]);
    let buffer = 0u64;
    let write = Iocb {
        data: 1,
        opcode: aio::PWRITE,
        fildes: file.fd(),
        buf: &raw const buffer as u64,
        nbytes: 8,
        offset: LIMIT as i64 - 4,
        ..Iocb::default()
    };
    // SAFETY: the structures live during the calls.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit), 0, "getrlimit");
        limit.rlim_cur = LIMIT;
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0, "setrlimit");
    }
    assert_eq!(result_of(write), 4);
    // aiotrace looks up what kind of file it is while we are alive.
    crate::wait();
}

/// good-short-io: at the end of a file and from a pipe, there is less to read than was asked for.
pub fn short_reads() {
    let file = Temporary::of(&[7; 60]);
    let mut buffer = 0;
    for (offset, length) in [(56, 4), (60, 0)] {
        let read = Iocb { offset, ..aio::pread(file.fd(), &mut buffer, 1) };
        assert_eq!(result_of(read), length, "at the end of the file");
    }
    let (reader, writer) = aio::pipe();
    aio::fill(writer);
    assert_eq!(result_of(aio::pread(reader, &mut buffer, 2)), 1, "from the pipe");
    crate::wait();
}

/// Reads one byte; gives the result.
fn read_byte(reader: RawFd) -> i64 {
    let mut buffer = 0;
    result_of(Iocb { nbytes: 1, ..aio::pread(reader, &mut buffer, 1) })
}

/// bad-blocking-submit: a read of an empty pipe waits inside io_submit until another thread writes,
/// which takes 300 ms.
pub fn blocks() {
    let (reader, writer) = aio::pipe();
    let submitter = tasks::current();
    let thread = thread::spawn(move || {
        tasks::until_asleep_in(submitter, libc::SYS_io_submit);
        thread::sleep(Duration::from_millis(300));
        aio::fill(writer);
    });
    assert_eq!(read_byte(reader), 1);
    thread.join().expect("the thread");
}

/// good-blocking-submit: the byte is in the pipe before the read.
pub fn does_not_block() {
    let (reader, writer) = aio::pipe();
    aio::fill(writer);
    assert_eq!(read_byte(reader), 1);
}

/// bad-inline-completion: 64 reads, which all complete before io_submit returns.
pub fn completes_inside() {
    basic::pairs(64);
}

/// good-inline-completion: 64 polls, which each complete after io_submit has returned.
pub fn completes_later() {
    let ctx = aio::setup(8);
    let (reader, writer) = aio::pipe();
    let mut poll = [aio::poll(reader, 1)];
    for _ in 0..64 {
        assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
        aio::fill(writer);
        aio::reap(ctx, 1);
        aio::drain(reader);
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
