//! What aiotrace cannot see, or must not take for something else: writes of others, and a log that
//! writes one place again and again.

use std::{
    io::{Read as _, Write as _},
    os::{fd::RawFd, unix::fs::FileExt as _},
    time::Duration,
};

use super::{
    PAGE, destroy,
    disk::{Named, letters},
    do_one, request, word,
};
use crate::{aio, say};

const BLOCKS: u64 = 20;

/// `unseen-writer [HOW]`: 20 writes, one after the other. What io_submit does not accept is stored
/// to a mapping of the file, or, with `worker`, written by a process that was forked before.
/// Nothing is lost.
pub fn unseen_writer(arguments: &[String]) {
    let named = Named::new("unseen-writer");
    named.file.set_len(BLOCKS * PAGE).expect("the temporary file");
    let write: Box<dyn FnMut(u64)> = match word(arguments, 0) {
        "worker" => Box::new(by_worker(named.fd())),
        _ => Box::new(by_mapping(named.fd())),
    };
    let unseen = each_block(&named, write);
    let mut bytes = vec![0; (BLOCKS * PAGE) as usize];
    named.file.read_exact_at(&mut bytes, 0).expect("the temporary file");
    assert!(bytes.iter().all(|it| *it == b'x'), "nothing is lost");
    say(&format!("{unseen} written unseen, all done"));
    // A tracer looks at the mappings while the process lives, and nothing tells the process when it has.
    std::thread::sleep(Duration::from_secs(1));
}

fn each_block(named: &Named, mut write: Box<dyn FnMut(u64)>) -> u64 {
    let (ctx, buffer) = (aio::setup(8), letters(1));
    let mut unseen = 0;
    for block in 0..BLOCKS {
        let mut iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
        if do_one(ctx, &mut iocb).is_err() {
            write(block);
            unseen += 1;
        }
    }
    destroy(ctx);
    unseen
}

fn by_mapping(fd: RawFd) -> impl FnMut(u64) {
    let (length, both) = ((BLOCKS * PAGE) as usize, libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), length, both, libc::MAP_SHARED, fd, 0) };
    assert_ne!(map, libc::MAP_FAILED, "mmap");
    move |block| {
        // SAFETY: the mapping has this page, and nobody else uses it.
        unsafe {
            let at = map.cast::<u8>().add((block * PAGE) as usize);
            at.write_bytes(b'x', PAGE as usize);
            assert_eq!(libc::msync(map, length, libc::MS_SYNC), 0, "msync");
        }
    }
}

/// The worker is told a block, and answers when it has written it.
fn by_worker(fd: RawFd) -> impl FnMut(u64) {
    let (mut asked, mut ask) = std::io::pipe().expect("a pipe");
    let (mut answer, mut done) = std::io::pipe().expect("a pipe");
    let page = letters(1);
    // SAFETY: there is one thread.
    if unsafe { libc::fork() } == 0 {
        drop(ask);
        let mut block = [0];
        while asked.read_exact(&mut block).is_ok() {
            let offset = i64::from(block[0]) * PAGE as i64;
            // SAFETY: the page is there.
            let written = unsafe { libc::pwrite(fd, page.cast(), PAGE as usize, offset) };
            assert_eq!(written, PAGE as isize, "pwrite");
            done.write_all(&block).expect("a pipe");
        }
        // SAFETY: the worker has nothing to clean up: the file is the parent's.
        unsafe { libc::_exit(0) };
    }
    move |block| {
        ask.write_all(&[block as u8]).expect("a pipe");
        answer.read_exact(&mut [0]).expect("a pipe");
    }
}

/// `log-header`: ten records, each behind the one before, and each time the header at the beginning
/// of the file. What io_submit does not accept is dropped.
pub fn log_header(_: &[String]) {
    let named = Named::new("log-header");
    let (ctx, buffer) = (aio::setup(8), letters(1));
    let mut dropped = 0;
    for record in 1..=10 {
        for block in [0, record] {
            let mut iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
            dropped += u64::from(do_one(ctx, &mut iocb).is_err());
        }
    }
    say(&format!("{dropped} dropped, and never made again"));
    destroy(ctx);
}
