//! Reads and writes whose results are not what was hoped for.

use std::{
    fs::File,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    time::Duration,
};

use super::{
    PAGE, cannot_run, destroy,
    disk::{Named, letters},
    do_one, number, request, word,
};
use crate::{
    aio::{self, Iocb},
    fuse::{Answer, Held},
    say,
};

const MIB: u64 = 1 << 20;
const NOWAIT: u32 = 8;

/// `append`: four writes at offset 0 of a file that was opened with O_APPEND, so the kernel ignores
/// the offset.
pub fn append(_: &[String]) {
    let named = Named::with("append", libc::O_APPEND).expect("a temporary file");
    let (ctx, buffer) = (aio::setup(8), letters(1));
    for _ in 0..4 {
        let mut iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, 0);
        assert_eq!(do_one(ctx, &mut iocb), Ok(PAGE as i64), "the write");
    }
    let length = named.length();
    assert_eq!(length, 4 * PAGE, "one after the other");
    say(&format!("4 writes to offset 0, the file has {length}"));
    destroy(ctx);
}

/// `tail-write`: a length that is not a multiple of the block is written in pieces of 1 MiB, with
/// O_DIRECT. The last piece fails, and the program does not look.
pub fn tail_write(_: &[String]) {
    let named = Named::direct("tail-write");
    let total = 4 * MIB + 716_928 + 100;
    let (ctx, buffer) = (aio::setup(8), letters(5 * 256));
    let mut iocbs: Vec<Iocb> = (0..total)
        .step_by(MIB as usize)
        .map(|offset| {
            let at = buffer.wrapping_add(offset as usize);
            request(aio::PWRITE, named.fd(), at, MIB.min(total - offset), offset)
        })
        .collect();
    assert_eq!(aio::submit(ctx, &mut iocbs), 5, "io_submit");
    aio::reap(ctx, 5);
    let length = named.length();
    assert_eq!(length, 4 * MIB, "without the last piece");
    say(&format!("{total} bytes were to be written, the file has {length}"));
    destroy(ctx);
}

/// `nowait-write [COUNT]`: each write to a file with O_DIRECT is tried with RWF_NOWAIT, which gives
/// EAGAIN because it makes the file longer; then it is done with pwrite(2). `nowait-write eventfd
/// [COUNT]` is for machines without a disk: it reads an eventfd whose count is 0.
pub fn nowait_write(arguments: &[String]) {
    let ctx = aio::setup(16);
    let mut again = 0;
    if word(arguments, 0) == "eventfd" {
        let (eventfd, mut count) = (aio::eventfd(), 0);
        for read in 0..number(arguments, 1, 200) {
            let mut iocb = Iocb { rw_flags: NOWAIT, ..aio::pread(eventfd, &mut count, read) };
            again += u64::from(is_again(do_one(ctx, &mut iocb)));
        }
    } else {
        let (named, buffer) = (Named::direct("nowait-write"), letters(1));
        // SAFETY: the pages are there, and nobody else has them.
        let content = unsafe { std::slice::from_raw_parts(buffer, PAGE as usize) };
        for block in 0..number(arguments, 0, 200) {
            let write = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
            if is_again(do_one(ctx, &mut Iocb { rw_flags: NOWAIT, ..write })) {
                again += 1;
                named.file.write_all_at(content, PAGE * block).expect("the write");
            }
        }
    }
    say(&format!("{again} came back with EAGAIN"));
    destroy(ctx);
}

fn is_again(result: Result<i64, i64>) -> bool {
    match result {
        Ok(result) => result == aio::error(libc::EAGAIN),
        Err(errno) => cannot_run(&format!("RWF_NOWAIT: {errno}")),
    }
}

/// `extending-write`: 40 writes, one after the other, each of which makes a file with O_DIRECT
/// longer. There is time to look at the file after the first write and after the last.
pub fn extending_write(_: &[String]) {
    let (named, ctx, buffer) = (Named::direct("extending-write"), aio::setup(8), letters(1));
    for block in 0..40 {
        let mut iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
        assert_eq!(do_one(ctx, &mut iocb), Ok(PAGE as i64), "the write");
        if matches!(block, 0 | 39) {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    say("40 writes, each made the file longer");
    destroy(ctx);
}

/// `enospc [limit|quota]`: 40 writes of 1 MiB to a file system of 3 MiB and a page, or, with
/// `limit`, to a file that may not become longer than that: three are done, one is short, 36 fail,
/// and only the completions say so. With `quota`, the file's server (FUSE) has room for 3 MiB:
/// three are done, 37 fail.
pub fn enospc(arguments: &[String]) {
    let most = 3 * MIB + PAGE;
    let (file, errno, expected) = if word(arguments, 0) == "quota" {
        (Held::open(Answer::WithQuota(3 * MIB)).file, libc::EDQUOT, (37, 0))
    } else if word(arguments, 0) == "limit" {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the structure lives, and the signal is ignored.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0, "setrlimit");
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
        (Named::new("enospc").unnamed(), libc::EFBIG, (36, 1))
    } else {
        (small_file(most), libc::ENOSPC, (36, 1))
    };
    let (ctx, buffer) = (aio::setup(64), letters(256));
    let (mut failed, mut short) = (0, 0);
    for piece in 0..40 {
        let mut iocb = request(aio::PWRITE, file.as_raw_fd(), buffer, MIB, MIB * piece);
        match do_one(ctx, &mut iocb).expect("io_submit") {
            result if result == MIB as i64 => (),
            result if result >= 0 => short += 1,
            result => {
                assert_eq!(result, aio::error(errno), "the result");
                failed += 1;
            }
        }
    }
    assert_eq!((failed, short), expected, "failed, short");
    say(&format!("40 writes, {failed} failed, {short} short"));
    destroy(ctx);
}

/// A file in a file system of this size, which is in memory and whose mount is detached from the
/// tree. Needs root.
fn small_file(size: u64) -> File {
    let directory = std::env::temp_dir().join(format!("aio-small-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a temporary directory");
    let c_string = |it: &[u8]| std::ffi::CString::new(it).expect("no NUL");
    let (at, options) = (
        c_string(directory.as_os_str().as_encoded_bytes()),
        c_string(format!("size={size}").as_bytes()),
    );
    let (kind, data) = (c"tmpfs".as_ptr(), options.as_ptr().cast());
    // SAFETY: the strings end with NUL and live during the call.
    if unsafe { libc::mount(kind, at.as_ptr(), kind, 0, data) } != 0 {
        let _ = std::fs::remove_dir(&directory);
        cannot_run("a tmpfs needs root");
    }
    let file =
        File::options().read(true).write(true).create_new(true).open(directory.join("small"));
    // SAFETY: the path is ours. The open file keeps the file system alive.
    unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    let _ = std::fs::remove_dir(&directory);
    file.expect("a small file")
}

/// `reuse-fd`: by turns, a read of the first file into an address that O_DIRECT refuses, and a good
/// read of the second. Before the program looks at the result, it gives the descriptor to a third
/// file for 30 ms: a tracer that looks the descriptor up meanwhile finds that file. The files are
/// `aio-reuse-fd-1-PID` and so on.
pub fn reuse_fd(_: &[String]) {
    let files = ["reuse-fd-1", "reuse-fd-2"].map(|it| Named::direct(it).filled(2));
    let third = Named::new("reuse-fd-3");
    let (ctx, buffer) = (aio::setup(8), letters(2));
    let mut iocb;
    for turn in 0..20 {
        let mut options = File::options();
        options.read(true).write(true);
        let own = options.clone().custom_flags(libc::O_DIRECT).open(&files[turn % 2].path);
        let own = own.expect("the file");
        let at = buffer.wrapping_add(if turn % 2 == 0 { 7 } else { 0 });
        let fd = own.as_raw_fd();
        iocb = request(aio::PREAD, fd, at, PAGE, 0);
        assert_eq!(aio::submit(ctx, std::slice::from_mut(&mut iocb)), 1, "io_submit");
        drop(own);
        let other = options.open(&third.path).expect("the third file");
        assert_eq!(other.as_raw_fd(), fd, "the number is the third file's");
        let expected = if turn % 2 == 0 { aio::error(libc::EINVAL) } else { PAGE as i64 };
        assert_eq!(aio::reap(ctx, 1)[0].res, expected, "the result");
        std::thread::sleep(Duration::from_millis(30));
        drop(other);
    }
    say("10 reads of the first file failed");
    destroy(ctx);
}
