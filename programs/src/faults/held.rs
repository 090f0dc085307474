//! Requests for a file that is slow to answer: they need the held file, and so /dev/fuse.

use std::os::fd::AsRawFd as _;

use crate::{
    aio::{self, Iocb},
    fuse::{Answer, Held},
};

const PAGE: u64 = 4096;

/// bad-request-stuck: a read that stays in flight until a line comes.
pub fn stuck() {
    let mut held = Held::open(Answer::WhenTold);
    let ctx = aio::setup(8);
    submit(ctx, &held, aio::PREAD, 1);
    crate::wait();
    held.release();
    reap(ctx, 1);
    end(ctx, held);
}

/// good-request-stuck: the read is answered at once, so none is in flight later.
pub fn answered() {
    let held = Held::open(Answer::AtOnce);
    let ctx = aio::setup(8);
    submit(ctx, &held, aio::PREAD, 1);
    reap(ctx, 1);
    crate::wait();
    end(ctx, held);
}

/// bad-discarded-requests: three writes are in flight at io_destroy, which waits for them.
pub fn discarded_by_destroy() {
    let held = Held::open(Answer::InCall(libc::SYS_io_destroy));
    let ctx = aio::setup(8);
    submit(ctx, &held, aio::PWRITE, 3);
    end(ctx, held);
}

/// good-discarded-requests: the writes are reaped before io_destroy.
pub fn reaped_before_destroy() {
    let held = Held::open(Answer::AtOnce);
    let ctx = aio::setup(8);
    submit(ctx, &held, aio::PWRITE, 3);
    reap(ctx, 3);
    end(ctx, held);
}

/// bad-discarded-at-exit: three writes are in flight at the exit, which waits for them.
pub fn discarded_at_exit() {
    let held = Held::open(Answer::AtExit);
    let ctx = aio::setup(8);
    submit(ctx, &held, aio::PWRITE, 3);
    // Close nothing: that would wait for the server, which waits for our end.
    std::process::exit(0);
}

/// good-discarded-at-exit: the writes are reaped before the exit, and the context is left.
pub fn reaped_before_exit() {
    let held = Held::open(Answer::AtOnce);
    let ctx = aio::setup(8);
    submit(ctx, &held, aio::PWRITE, 3);
    reap(ctx, 3);
    held.close();
}

/// Submits this many requests of a page each. io_submit does not wait for the file.
fn submit(ctx: u64, held: &Held, opcode: u16, count: u64) {
    let buffer = aio::pages(count as usize) as u64;
    let mut iocbs: Vec<Iocb> = (0..count)
        .map(|index| Iocb {
            data: index + 1,
            opcode,
            fildes: held.file.as_raw_fd(),
            buf: buffer + index * PAGE,
            nbytes: PAGE,
            offset: (index * PAGE) as i64,
            ..Iocb::default()
        })
        .collect();
    assert_eq!(aio::submit(ctx, &mut iocbs), count as i64, "io_submit");
}

fn reap(ctx: u64, count: usize) {
    assert!(aio::reap(ctx, count).iter().all(|it| it.res == PAGE as i64), "a page each");
}

fn end(ctx: u64, held: Held) {
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    held.close();
}
