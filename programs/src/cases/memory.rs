//! Requests that come again at the same place of a file, with the same memory or with other, and
//! syncs that come again as another kind.

use std::{
    fs::File,
    os::{
        fd::AsRawFd as _,
        unix::{fs::FileExt as _, net::UnixDatagram},
    },
};

use super::{
    PAGE, destroy,
    disk::{Named, letters},
    do_one, request, word,
};
use crate::aio::{self, Iocb};

/// One of each file.
struct Job {
    named: Named,
    ctx: u64,
    buffer: *mut u8,
}

impl Job {
    fn new() -> Self {
        let named = Named::new("same-memory");
        named.file.set_len(4 * PAGE).expect("the temporary file");
        let (ctx, buffer) = (aio::setup(8), letters(4));
        Self { named, ctx, buffer }
    }

    /// A write of the file from `at` on; its data begin at `from` of the buffer.
    fn write(&self, at: u64, from: u64, nbytes: u64) -> Iocb {
        let buffer = self.buffer.wrapping_add(from as usize);
        request(aio::PWRITE, self.named.fd(), buffer, nbytes, at)
    }

    /// A write of these pieces of the buffer: where each begins, and its length.
    fn writev(&self, at: u64, pieces: &[(u64, usize)]) -> (Iocb, Box<[libc::iovec]>) {
        let piece = |(from, iov_len): &(u64, usize)| {
            let iov_base = self.buffer.wrapping_add(*from as usize).cast();
            libc::iovec { iov_base, iov_len: *iov_len }
        };
        let vectors: Box<[libc::iovec]> = pieces.iter().map(piece).collect();
        let (at_vectors, count) = (vectors.as_ptr().cast_mut().cast(), vectors.len() as u64);
        (request(aio::PWRITEV, self.named.fd(), at_vectors, count, at), vectors)
    }

    fn sync(&self, opcode: u16) -> Iocb {
        request(opcode, self.named.fd(), std::ptr::null_mut(), 0, 0)
    }

    /// Whether it was done, all of it.
    fn is_done(&self, mut iocb: Iocb, length: i64) -> bool {
        do_one(self.ctx, &mut iocb) == Ok(length)
    }
}

/// `same-memory HOW`: one request, which is made again in this way if it was refused, failed, or was
/// short.
pub fn same_memory(arguments: &[String]) {
    let job = Job::new();
    match word(arguments, 0) {
        "rest" => the_rest(&job, 512),
        "rest-not-moved" => the_rest(&job, 0),
        "vectors" => vectors(&job, &[(0, 4096), (8192, 4096)]),
        "vectors-changed" => vectors(&job, &[(0, 4096), (4096, 4096)]),
        "halves" => halves(&job, [0, 2048]),
        "halves-swapped" => halves(&job, [2048, 0]),
        "pwritev" => at_once(&job, &job.named.file),
        "duplicate" => at_once(&job, &job.named.file.try_clone().expect("dup")),
        "opened-again" => at_once(&job, &job.named.opened_again()),
        "fsync" => syncs(&job, aio::FSYNC),
        "fdsync" => syncs(&job, aio::FDSYNC),
        "syncfs" => syncs_at_once(&job),
        "ignored" => drop(job.is_done(job.sync(aio::FSYNC), 0)),
        "worker" => by_worker(&job),
        "append" => appends(&job, &job.named.file),
        "append-by-copy" => appends(&job, &job.named.file.try_clone().expect("dup")),
        "append-another" => appends(&job, &job.named.opened_again()),
        "received" => receives(&job, 0),
        "received-elsewhere" => receives(&job, 2 * PAGE),
        other => panic!("no such way: {other}"),
    }
    destroy(job.ctx);
}

fn the_rest(job: &Job, moved: u64) {
    if !job.is_done(job.write(0, 0, PAGE), PAGE as i64) {
        job.is_done(job.write(512, moved, PAGE - 512), PAGE as i64 - 512);
    }
}

fn vectors(job: &Job, again: &[(u64, usize)]) {
    let (first, _kept) = job.writev(0, &[(0, 4096), (8192, 4096)]);
    if !job.is_done(first, 8192) {
        let (second, _kept) = job.writev(0, again);
        job.is_done(second, 8192);
    }
}

fn halves(job: &Job, from: [u64; 2]) {
    if !job.is_done(job.write(0, 0, PAGE), PAGE as i64) {
        let mut both = [job.write(0, from[0], 2048), job.write(2048, from[1], 2048)];
        assert_eq!(aio::submit(job.ctx, &mut both), 2, "io_submit");
        aio::reap(job.ctx, 2);
    }
}

fn at_once(job: &Job, file: &File) {
    let (first, vectors) = job.writev(0, &[(0, 4096), (8192, 4096)]);
    if !job.is_done(first, 8192) {
        // SAFETY: the vectors are pieces of the buffer.
        let written = unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), 2, 0) };
        assert_eq!(written, 8192, "pwritev");
    }
}

/// A sync of the data, and then one of this kind.
fn syncs(job: &Job, then: u16) {
    if !job.is_done(job.sync(aio::FDSYNC), 0) {
        job.is_done(job.sync(then), 0);
    }
}

fn syncs_at_once(job: &Job) {
    let directory = File::open(std::env::temp_dir()).expect("the temporary directory");
    if !job.is_done(job.sync(aio::FSYNC), 0) {
        // SAFETY: the descriptor is open.
        assert_eq!(unsafe { libc::syncfs(directory.as_raw_fd()) }, 0, "syncfs");
    }
}

/// O_APPEND is set before the write is made again, by this descriptor.
fn appends(job: &Job, file: &File) {
    if !job.is_done(job.write(0, 0, PAGE), PAGE as i64) {
        // SAFETY: the descriptor is open.
        let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) };
        assert_eq!(set, 0, "fcntl");
        job.is_done(job.write(0, 0, PAGE), PAGE as i64);
    }
}

/// Other data are received before the write is made again, to this place of the buffer.
fn receives(job: &Job, to: u64) {
    let (receiver, sender) = UnixDatagram::pair().expect("a pair of sockets");
    if !job.is_done(job.write(0, 0, PAGE), PAGE as i64) {
        sender.send(&[b'x'; 100]).expect("send");
        // SAFETY: the buffer has four pages.
        let buffer = unsafe {
            std::slice::from_raw_parts_mut(job.buffer.wrapping_add(to as usize), PAGE as usize)
        };
        assert_eq!(receiver.recv(buffer).expect("recv"), 100);
        job.is_done(job.write(0, 0, PAGE), PAGE as i64);
    }
}

/// A process that was made before the request opens the file only to write it.
fn by_worker(job: &Job) {
    let (asked, ask) = std::io::pipe().expect("a pipe");
    // SAFETY: there is one thread.
    let worker = unsafe { libc::fork() };
    if worker == 0 {
        drop(ask);
        // SAFETY: the descriptor is open, and the worker goes on without it.
        unsafe { libc::close(job.named.fd()) };
        std::io::copy(&mut &asked, &mut std::io::sink()).expect("a pipe");
        let page = vec![b'x'; PAGE as usize];
        job.named.opened_again().write_all_at(&page, 0).expect("the temporary file");
        // SAFETY: the worker has nothing to clean up: the file is the parent's.
        unsafe { libc::_exit(0) };
    }
    drop(asked);
    job.is_done(job.write(0, 0, PAGE), PAGE as i64);
    drop(ask);
    // SAFETY: the worker is a child of this process.
    assert_eq!(unsafe { libc::waitpid(worker, std::ptr::null_mut(), 0) }, worker, "waitpid");
}
