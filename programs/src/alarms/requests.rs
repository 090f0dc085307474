//! Requests: how they are told apart, how they are refused, and what their results mean.

use crate::{
    aio::{self, Iocb},
    files::Temporary,
    processors,
    ring::Ring,
};

/// Submits one request, which must be accepted, and gives its result.
fn result_of(ctx: u64, iocb: Iocb) -> i64 {
    assert_eq!(aio::submit(ctx, &mut [iocb]), 1, "io_submit of opcode {}", iocb.opcode);
    aio::reap(ctx, 1)[0].res
}

/// `data` is 0 in two requests at a time, and is set later; the iocbs are the same each time.
pub fn data_is_no_identity() {
    let ctx = aio::setup(8);
    let (fd, mut buffer) = (aio::zero(), 0);
    let mut iocbs = [aio::pread(fd, &mut buffer, 0); 2];
    for round in 0..6 {
        let data = if round < 3 { 0 } else { 0xffff_8000_0000_0000 + round };
        iocbs.iter_mut().for_each(|it| it.data = data);
        let addresses = [&raw const iocbs[0] as u64, &raw const iocbs[1] as u64];
        assert_eq!(aio::submit(ctx, &mut iocbs), 2, "io_submit");
        for (event, address) in aio::reap(ctx, 2).iter().zip(addresses) {
            assert_eq!((event.data, event.obj, event.res), (data, address, 8));
        }
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Errors that come as completions: of a buffer that is not mapped, and of a count for an eventfd
/// that is not 8 bytes long.
pub fn errors_as_events() {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    let nowhere = Iocb { buf: 8, ..aio::pread(aio::zero(), &mut buffer, 1) };
    assert_eq!(result_of(ctx, nowhere), aio::error(libc::EFAULT));
    let half = Iocb { nbytes: 4, ..aio::pread(aio::eventfd(), &mut buffer, 2) };
    assert_eq!(result_of(ctx, half), aio::error(libc::EINVAL));
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// A short submit does not say why it is short. Submitting the rest does: its first request is
/// refused, so the program drops that one and submits the others.
pub fn refused_one_dropped() {
    let ctx = aio::setup(8);
    let mut buffer = 0;
    let good = aio::pread(aio::zero(), &mut buffer, 1);
    let mut iocbs = [good, good, Iocb { fildes: 999, ..good }, good];
    assert_eq!(aio::submit(ctx, &mut iocbs), 2, "io_submit");
    assert_eq!(aio::submit(ctx, &mut iocbs[2..]), aio::error(libc::EBADF), "io_submit of the rest");
    assert_eq!(aio::submit(ctx, &mut iocbs[3..]), 1, "io_submit without the bad one");
    aio::reap(ctx, 3);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Polls of a pipe and of an eventfd pend for ever, and a read of a pipe completes. Nobody reaps.
pub fn pending_by_design() {
    let ctx = aio::setup(8);
    let empty = aio::silent_pipe();
    let (ready, writer) = aio::pipe();
    aio::fill(writer);
    let mut buffer = 0;
    let read = Iocb { nbytes: 1, ..aio::pread(ready, &mut buffer, 3) };
    let mut iocbs = [aio::poll(empty, 1), aio::poll(aio::eventfd(), 2), read];
    assert_eq!(aio::submit(ctx, &mut iocbs), 3, "io_submit");
    assert_eq!(buffer, u64::from(b'x'), "the read is done");
}

/// Numbers that are no lengths: `nbytes` may count vectors, and the result of a poll is a mask.
/// Also, files have an end.
pub fn numbers_that_are_no_lengths() {
    let ctx = aio::setup(8);
    let file = Temporary::of(&[7; 20]);
    let mut words = [0u64; 2];
    let vectors = words
        .each_mut()
        .map(|it| libc::iovec { iov_base: std::ptr::from_mut(it).cast(), iov_len: 8 });
    for (opcode, count) in [(aio::PREADV, 1), (aio::PREADV, 2), (aio::PWRITEV, 2)] {
        let buf = vectors.as_ptr() as u64;
        let iocb =
            Iocb { opcode, fildes: file.fd(), buf, nbytes: count, data: 1, ..Iocb::default() };
        assert_eq!(result_of(ctx, iocb), 8 * count as i64, "of {count} vectors");
    }
    let (reader, writer) = aio::pipe();
    aio::fill(writer);
    let mask = i64::from(libc::POLLIN | libc::POLLRDNORM);
    let poll = Iocb { buf: mask as u64, ..aio::poll(reader, 2) };
    assert_eq!(result_of(ctx, poll), mask, "of a poll");
    let mut buffer = 0;
    for (offset, length) in [(16, 4), (20, 0)] {
        let iocb = Iocb { offset, ..aio::pread(file.fd(), &mut buffer, 3) };
        assert_eq!(result_of(ctx, iocb), length, "at the end of the file");
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// io_submit gives EAGAIN although slots are free, because another processor keeps some of them.
/// After reaping, the refused request is accepted.
pub fn refused_below_capacity() {
    const FEW: usize = 8;
    let first = processors::allowed()[0];
    let ctx = aio::setup(FEW as u64);
    let ((few, few_writer), (others, others_writer)) = (aio::pipe(), aio::pipe());
    let mut iocbs: Vec<Iocb> = (0..Ring::of(ctx).entries() as usize)
        .map(|index| aio::poll(if index < FEW { few } else { others }, index as u64))
        .collect();
    processors::stay_on_one();
    assert_eq!(aio::submit(ctx, &mut iocbs[..1]), 1, "io_submit");
    processors::run_on(first);
    let mut accepted = 1;
    let refusal = loop {
        match aio::submit(ctx, &mut iocbs[accepted..=accepted]) {
            1 => accepted += 1,
            ret => break ret,
        }
    };
    assert_eq!(refusal, aio::error(libc::EAGAIN), "io_submit after {accepted}");
    aio::fill(few_writer);
    aio::reap(ctx, FEW);
    assert_eq!(aio::submit(ctx, &mut iocbs[accepted..=accepted]), 1, "io_submit once more");
    aio::fill(others_writer);
    aio::reap(ctx, accepted + 1 - FEW);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// The kernel copies an iocb, so the program may use its memory for another request at once. One
/// iocb serves for a poll that pends and for writes; their data tells them apart.
pub fn one_iocb() {
    let ctx = aio::setup(8);
    let (reader, _writer) = aio::pipe();
    let (_, writer) = aio::pipe();
    let mut buffer = 7;
    let mut iocb = [aio::poll(reader, 1)];
    assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
    for data in 2..5 {
        iocb[0] = Iocb { opcode: 1, ..aio::pread(writer, &mut buffer, data) };
        assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
        assert_eq!(aio::reap(ctx, 1)[0].data, data);
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
