//! What programs do with a request that was refused or that failed, most often by a fault: they
//! drop it, submit it again, or do it with another call.

use std::{os::unix::fs::FileExt as _, time::Duration};

use super::{
    PAGE, destroy,
    disk::{Named, letters},
    do_one, number, request, word,
};
use crate::{
    aio::{self, IoEvent, Iocb},
    say,
};

/// `drop-reuse`: 50 writes, one after the other, with one iocb. The program looks at what io_submit
/// returns only to see whether there is something to reap: a refused request is lost, and its iocb
/// serves for the next one.
pub fn drop_reuse(_: &[String]) {
    let named = Named::new("drop-reuse");
    let (ctx, buffer) = (aio::setup(64), letters(1));
    let mut iocb;
    for block in 0..50 {
        iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
        let _ = do_one(ctx, &mut iocb);
    }
    let is_there = |block: &u64| {
        let mut byte = [0];
        named.file.read_at(&mut byte, PAGE * block).is_ok_and(|it| it == 1) && byte[0] == b'x'
    };
    for block in (0..50).filter(|it| !is_there(it)) {
        say(&format!("block {block} was never written"));
    }
    destroy(ctx);
}

/// `sync-fallback [HOW]`: 20 batches of four writes. What io_submit does not accept is written at
/// once with pwrite(2), or with `pwritev`, `pwritev2`, `write` or `writev`, or by a `child` with
/// pwrite(2). Nothing is lost.
pub fn sync_fallback(arguments: &[String]) {
    let named = Named::new("sync-fallback");
    let at_once = |iocb: &Iocb| write_at_once(iocb, word(arguments, 0));
    let by_other_means = in_batches(&named, aio::PWRITE, at_once);
    let length = named.length();
    assert_eq!(length, 20 * PAGE, "nothing is lost");
    say(&format!("{by_other_means} done with another call, the file has {length}"));
}

/// Makes 20 batches of four requests of 1,024 bytes, and does with `at_once` what io_submit does
/// not accept. Gives how many those were.
fn in_batches(named: &Named, opcode: u16, at_once: impl Fn(&Iocb) -> isize) -> u64 {
    let (ctx, buffer) = (aio::setup(64), letters(1));
    let mut by_other_means = 0;
    for batch in 0..20 {
        let mut iocbs: [Iocb; 4] = std::array::from_fn(|index| {
            let offset = PAGE * batch + 1024 * index as u64;
            request(opcode, named.fd(), buffer, 1024, offset)
        });
        let accepted = aio::submit(ctx, &mut iocbs).max(0) as usize;
        for iocb in &iocbs[accepted..] {
            by_other_means += 1;
            assert_eq!(at_once(iocb), 1024, "what was done at once");
        }
        if accepted > 0 {
            aio::reap(ctx, accepted);
        }
    }
    destroy(ctx);
    by_other_means
}

/// `retry-cut [HOW]`: 20 batches of four adjacent writes. What io_submit does not accept is
/// submitted again as one write, or with `vectors`, or in `pieces` of 512 bytes. Nothing is lost.
pub fn retry_cut(arguments: &[String]) {
    let named = Named::new("retry-cut");
    let (ctx, buffer) = (aio::setup(64), letters(1));
    let mut in_another_cut = 0;
    for batch in 0..20 {
        let at = |start: u64, length: u64| {
            let from = buffer.wrapping_add(start as usize);
            request(aio::PWRITE, named.fd(), from, length, PAGE * batch + start)
        };
        let mut iocbs: [Iocb; 4] = std::array::from_fn(|index| at(1024 * index as u64, 1024));
        let accepted = aio::submit(ctx, &mut iocbs).max(0) as usize;
        let (start, left) = (1024 * accepted as u64, 4 - accepted);
        let vectors: [libc::iovec; 4] = std::array::from_fn(|index| {
            let from = buffer.wrapping_add((start + 1024 * index as u64) as usize);
            libc::iovec { iov_base: from.cast(), iov_len: 1024 }
        });
        let mut again: Vec<Iocb> = match word(arguments, 0) {
            _ if left == 0 => Vec::new(),
            "pieces" => (0..2 * left as u64).map(|it| at(start + 512 * it, 512)).collect(),
            "vectors" => vec![Iocb {
                opcode: aio::PWRITEV,
                buf: vectors.as_ptr() as u64,
                nbytes: left as u64,
                ..at(start, 0)
            }],
            _ => vec![at(start, 1024 * left as u64)],
        };
        in_another_cut += left;
        let count = again.len();
        if count > 0 {
            assert_eq!(aio::submit(ctx, &mut again), count as i64, "io_submit");
        }
        aio::reap(ctx, accepted + count);
    }
    assert_eq!(named.length(), 20 * PAGE, "nothing is lost");
    say(&format!("{in_another_cut} submitted again in another cut"));
    destroy(ctx);
}

/// `reuse-number [at-once]`: a write that io_submit refuses is dropped, and its file closed. The
/// next file gets the same descriptor, and is written at the same offset, by io_submit or with
/// pwrite(2).
pub fn reuse_number(arguments: &[String]) {
    let (ctx, buffer) = (aio::setup(64), letters(1));
    for name in ["reuse-number-a", "reuse-number-b"] {
        let named = Named::new(name);
        let mut iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, 0);
        if name.ends_with('b') && word(arguments, 0) == "at-once" {
            assert_eq!(write_at_once(&iocb, "pwrite"), PAGE as isize, "the write");
        } else {
            let _ = do_one(ctx, &mut iocb);
        }
        say(&format!("fd {}: the file has {}", named.fd(), named.length()));
    }
    destroy(ctx);
}

/// `sync-read [HOW]`: 20 batches of four reads. What io_submit does not accept is read at once with
/// `read`, `readv`, `preadv`, `preadv2` or pread(2). Nothing is lost.
pub fn sync_read(arguments: &[String]) {
    let named = Named::new("sync-read").filled(20);
    let at_once = |iocb: &Iocb| read_at_once(iocb, word(arguments, 0));
    let by_other_means = in_batches(&named, aio::PREAD, at_once);
    say(&format!("{by_other_means} done with another call"));
}

/// The memory of a request, divided into two pieces.
fn halves(iocb: &Iocb) -> [libc::iovec; 2] {
    let (at, length) = (iocb.buf as *mut libc::c_void, iocb.nbytes as usize);
    let half = length / 2;
    [
        libc::iovec { iov_base: at, iov_len: half },
        libc::iovec { iov_base: at.wrapping_byte_add(half), iov_len: length - half },
    ]
}

fn read_at_once(iocb: &Iocb, how: &str) -> isize {
    let (fd, at, length) = (iocb.fildes, iocb.buf as *mut libc::c_void, iocb.nbytes as usize);
    let vectors = halves(iocb);
    // SAFETY: the vectors lead to the memory of the request, which lives.
    unsafe {
        match how {
            "preadv" => libc::preadv(fd, vectors.as_ptr(), 2, iocb.offset),
            "preadv2" => libc::preadv2(fd, vectors.as_ptr(), 2, iocb.offset, 0),
            "read" => {
                libc::lseek(fd, iocb.offset, libc::SEEK_SET);
                libc::read(fd, at, length)
            }
            "readv" => {
                libc::lseek(fd, iocb.offset, libc::SEEK_SET);
                libc::readv(fd, vectors.as_ptr(), 2)
            }
            _ => libc::pread(fd, at, length, iocb.offset),
        }
    }
}

fn write_at_once(iocb: &Iocb, how: &str) -> isize {
    let (at, length) = (iocb.buf as *mut libc::c_void, iocb.nbytes as usize);
    let vectors = halves(iocb);
    // SAFETY: the vectors lead to the memory of the request, which lives.
    unsafe {
        match how {
            "pwritev" => libc::pwritev(iocb.fildes, vectors.as_ptr(), 2, iocb.offset),
            "pwritev2" => libc::pwritev2(iocb.fildes, vectors.as_ptr(), 2, iocb.offset, 0),
            "write" => {
                libc::lseek(iocb.fildes, iocb.offset, libc::SEEK_SET);
                libc::write(iocb.fildes, at, length)
            }
            "writev" => {
                libc::lseek(iocb.fildes, iocb.offset, libc::SEEK_SET);
                libc::writev(iocb.fildes, vectors.as_ptr(), 2)
            }
            "child" => match libc::fork() {
                0 => {
                    let written = libc::pwrite(iocb.fildes, at, length, iocb.offset);
                    libc::_exit(i32::from(written != length as isize))
                }
                child => {
                    let mut status = 0;
                    libc::waitpid(child, &raw mut status, 0);
                    if status == 0 { length as isize } else { -1 }
                }
            },
            _ => libc::pwrite(iocb.fildes, at, length, iocb.offset),
        }
    }
}

/// `fault-retry [direct]`: 20 writes of different lengths, with one iocb. What fails is submitted
/// again, at most four times. With `direct`, the file is on a disk and has O_DIRECT.
pub fn fault_retry(arguments: &[String]) {
    let named = if word(arguments, 0) == "direct" {
        Named::direct("fault-retry").filled(20 * 16)
    } else {
        Named::new("fault-retry")
    };
    let (ctx, buffer) = (aio::setup(64), letters(3));
    let mut again = 0;
    let mut iocb;
    for write in 0..20 {
        let length = PAGE * (1 + write % 3);
        for attempt in 0.. {
            assert!(attempt < 5, "it fails for good");
            iocb = request(aio::PWRITE, named.fd(), buffer, length, 65_536 * write);
            if do_one(ctx, &mut iocb).expect("io_submit") == length as i64 {
                break;
            }
            again += 1;
        }
    }
    say(&format!("20 writes, {again} made again, all done"));
    destroy(ctx);
}

/// `fault-file [COUNT]`: writes to two files by turns, `aio-fault-file-a-PID` and `-b-`, each of
/// another length, with one iocb. Says which writes did not write everything.
pub fn fault_file(arguments: &[String]) {
    let files = [Named::new("fault-file-a"), Named::new("fault-file-b")];
    let (ctx, buffer) = (aio::setup(64), letters(1));
    let mut iocb;
    for write in 0..number(arguments, 0, 20) {
        let (length, offset) = (512 + 8 * (write % 400), PAGE * write);
        let fd = files[write as usize % 2].fd();
        iocb = request(aio::PWRITE, fd, buffer, length, offset);
        let result = do_one(ctx, &mut iocb).expect("io_submit");
        if result != length as i64 {
            say(&format!("write {write}: fd {fd} offset {offset} nbytes {length}: res={result}"));
        }
    }
    destroy(ctx);
}

/// `retry-pool`: 50 writes. What is refused or fails is submitted again, with the next iocb of a
/// pool of four.
pub fn retry_pool(_: &[String]) {
    let named = Named::new("retry-pool");
    let (ctx, buffer) = (aio::setup(64), letters(1));
    let mut pool = [Iocb::default(); 4];
    let (mut turn, mut again) = (0, 0);
    for block in 0..50 {
        loop {
            let iocb = &mut pool[turn % 4];
            turn += 1;
            *iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
            if do_one(ctx, iocb) == Ok(PAGE as i64) {
                break;
            }
            again += 1;
        }
    }
    say(&format!("50 writes, {again} made again, all done"));
    destroy(ctx);
}

/// `retry-exit STATUS`: what is refused is submitted again, and succeeds. All the same, the process
/// exits with this status 300 ms later, or, for `abort`, dies of SIGABRT.
pub fn retry_exit(arguments: &[String]) {
    let named = Named::new("retry-exit");
    let (ctx, buffer) = (aio::setup(64), letters(1));
    let mut was_refused = false;
    for block in 0..20 {
        let mut iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
        while do_one(ctx, &mut iocb).is_err() {
            was_refused = true;
        }
    }
    drop(named);
    end_badly_if(was_refused, word(arguments, 0));
    destroy(ctx);
}

/// `reap-fails STATUS`: when io_getevents fails, the program ends 300 ms later with this status,
/// or, for `abort`, by SIGABRT. A child of it has ended before that, like a helper that writes a
/// stack trace.
pub fn reap_fails(arguments: &[String]) {
    let named = Named::new("reap-fails").filled(1);
    let (ctx, buffer) = (aio::setup(64), letters(1));
    let mut has_failed = false;
    for _ in 0..20 {
        let mut iocb = [request(aio::PREAD, named.fd(), buffer, PAGE, 0)];
        assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
        if aio::getevents(ctx, 1, &mut [IoEvent::default()], None) != 1 {
            has_failed = true;
            crate::processes::in_child(|| ());
            break;
        }
    }
    drop(named);
    end_badly_if(has_failed, word(arguments, 0));
    destroy(ctx);
}

fn end_badly_if(is_bad: bool, how: &str) {
    if is_bad {
        // The verdict must not depend on the process ending at once.
        std::thread::sleep(Duration::from_millis(300));
        match how {
            "abort" => std::process::abort(),
            status => std::process::exit(status.parse().expect("a status, or abort")),
        }
    }
}
