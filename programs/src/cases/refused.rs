//! Requests that io_submit refuses, and refused calls of other kinds, each for a different reason.

use super::{
    PAGE, destroy,
    disk::{Named, letters},
    do_one, request,
};
use crate::{
    aio::{self, IoEvent, Iocb},
    say,
};

const RESFD: u32 = 1;

/// `closed-fd`: 20 writes are done, then the descriptor is closed (the program is `ready` here),
/// and 180 more are refused with EBADF. The program lives on.
pub fn closed_fd(_: &[String]) {
    let named = Named::new("closed-fd");
    let (ctx, buffer) = (aio::setup(32), letters(1));
    // SAFETY: the descriptor is ours.
    let fd = unsafe { libc::dup(named.fd()) };
    let mut lost = 0;
    let mut iocb;
    for write in 0..200 {
        if write == 20 {
            // SAFETY: the descriptor is ours.
            assert_eq!(unsafe { libc::close(fd) }, 0, "close");
            crate::wait();
        }
        iocb = request(aio::PWRITE, fd, buffer, PAGE, PAGE * write);
        lost += u64::from(do_one(ctx, &mut iocb).is_err());
    }
    say(&format!("{lost} of 200 writes lost"));
    destroy(ctx);
}

/// `fsync-stale`: the iocb of a write is used for a sync and still has its buf, nbytes and offset,
/// so the sync gets EINVAL. This happens all five times: the first write's offset is 0, but its buf
/// is not. A sync with a clean iocb is accepted.
pub fn fsync_stale(_: &[String]) {
    let named = Named::new("fsync-stale");
    let (ctx, buffer) = (aio::setup(16), letters(1));
    let mut iocb;
    for block in 0..5 {
        iocb = request(aio::PWRITE, named.fd(), buffer, PAGE, PAGE * block);
        assert_eq!(do_one(ctx, &mut iocb), Ok(PAGE as i64), "the write");
        iocb.opcode = aio::FSYNC;
        assert_eq!(do_one(ctx, &mut iocb), Err(aio::error(libc::EINVAL)), "the sync");
    }
    iocb = Iocb { opcode: aio::FDSYNC, fildes: named.fd(), ..Iocb::default() };
    assert_eq!(do_one(ctx, &mut iocb), Ok(0), "a clean one");
    destroy(ctx);
}

/// `resfd-file`: the second of three reads names a file where an eventfd should be, so only the
/// first is accepted. Submitting again from the second on gives EINVAL; with a number that is not
/// open, EBADF.
pub fn resfd_file(_: &[String]) {
    let named = Named::new("resfd-file").filled(1);
    let (ctx, buffer, eventfd) = (aio::setup(16), letters(1), aio::eventfd());
    let read = request(aio::PREAD, named.fd(), buffer, PAGE, 0);
    let with = |resfd: i32| Iocb { flags: RESFD, resfd: resfd.cast_unsigned(), ..read };
    let mut iocbs = [with(eventfd), with(named.fd()), with(eventfd)];
    assert_eq!(aio::submit(ctx, &mut iocbs), 1, "the first");
    assert_eq!(aio::submit(ctx, &mut iocbs[1..]), aio::error(libc::EINVAL), "the second");
    let mut closed = [with(999)];
    assert_eq!(aio::submit(ctx, &mut closed), aio::error(libc::EBADF), "999");
    aio::reap(ctx, 1);
    destroy(ctx);
}

/// `refused-others`: three io_getevents that cannot write their events, two io_cancel that cannot
/// read the iocb, and one io_destroy of something that is no context.
pub fn refused_others(_: &[String]) {
    let (ctx, mut byte) = (aio::setup(8), 0);
    for data in 0..3 {
        let mut read = [aio::pread(aio::zero(), &mut byte, data)];
        assert_eq!(aio::submit(ctx, &mut read), 1, "io_submit");
        assert_eq!(aio::getevents_at(ctx, 1, 1, 8, 0), aio::error(libc::EFAULT), "io_getevents");
        aio::reap(ctx, 1);
    }
    for _ in 0..2 {
        assert_eq!(aio::cancel(ctx, 8, 0), aio::error(libc::EFAULT), "io_cancel");
    }
    assert_eq!(aio::destroy(8), aio::error(libc::EINVAL), "io_destroy");
    destroy(ctx);
}

/// `out-of-reach`: io_submit gives EFAULT for a buffer of the kernel's, for iovecs that are not
/// mapped, and for an iocb that is constant. A buffer that is not mapped is accepted.
pub fn out_of_reach(_: &[String]) {
    static CONSTANT: Iocb = Iocb {
        data: 1,
        key: 0,
        rw_flags: 0,
        opcode: aio::FSYNC,
        reqprio: 0,
        fildes: 1,
        buf: 0,
        nbytes: 0,
        offset: 0,
        reserved2: 0,
        flags: 0,
        resfd: 0,
    };
    const KERNEL: u64 = 0xffff_8000_0000_0000;
    let named = Named::new("out-of-reach").filled(1);
    let ctx = aio::setup(8);
    let read = request(aio::PREAD, named.fd(), std::ptr::null_mut(), PAGE, 0);
    for refused in
        [Iocb { buf: KERNEL, ..read }, Iocb { opcode: aio::PREADV, buf: 8, nbytes: 1, ..read }]
    {
        assert_eq!(
            aio::submit(ctx, &mut [refused]),
            aio::error(libc::EFAULT),
            "{:#x}",
            refused.buf
        );
    }
    let constant = [std::ptr::from_ref(&CONSTANT) as u64];
    assert_eq!(
        aio::submit_at(ctx, 1, constant.as_ptr() as u64),
        aio::error(libc::EFAULT),
        "constant"
    );
    assert_eq!(
        do_one(ctx, &mut Iocb { buf: 8, ..read }),
        Ok(aio::error(libc::EFAULT)),
        "not mapped"
    );
    destroy(ctx);
}

/// `key-cancel`: a poll that pends cannot be cancelled with a wrong key, nor by a copy of its iocb,
/// but by its iocb it can.
pub fn key_cancel(_: &[String]) {
    let (ctx, pipe) = (aio::setup(8), aio::pipe());
    let mut poll = [aio::poll(pipe.0, 1)];
    assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
    let mut event = IoEvent::default();
    let mut cancel = |iocb: &Iocb| {
        let at = std::ptr::from_ref(iocb) as u64;
        aio::cancel(ctx, at, &raw mut event as u64)
    };
    poll[0].key = 77;
    assert_eq!(cancel(&poll[0]), aio::error(libc::EINVAL), "another key");
    poll[0].key = 0;
    let copy = poll[0];
    assert_eq!(cancel(&copy), aio::error(libc::EINVAL), "a copy");
    assert_eq!(cancel(&poll[0]), aio::error(libc::EINPROGRESS), "the poll");
    aio::reap(ctx, 1);
    destroy(ctx);
}
