//! Makes calls of every kind, the same in each run, so that the decisions of rules can be compared.

use std::os::fd::RawFd;

use crate::{
    aio::{self, IoEvent, Iocb, Timespec},
    processes::in_child,
};

/// Two descriptor numbers that are the same in each run.
const FILES: [RawFd; 2] = [100, 101];

/// The process first makes only a context; then its child, a thread of it, and it itself do the
/// rest, one after the other.
pub fn all() {
    let zero = aio::zero();
    for file in FILES {
        // SAFETY: the first descriptor is ours, and the second is free.
        assert_eq!(unsafe { libc::dup2(zero, file) }, file, "dup2");
    }
    let ctx = aio::setup(8);
    in_child(|| rounds(1000, 30));
    std::thread::spawn(|| rounds(2000, 30)).join().expect("the thread");
    rounds(3000, 60);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Makes requests, in each round with another of three contexts, other files, other operations and
/// another number of requests. The requests are numbered from `data` on.
fn rounds(mut data: u64, count: usize) {
    let contexts = [aio::setup(8), aio::setup(8), aio::setup(8)];
    let (reader, writer) = aio::pipe();
    for round in 0..count {
        let ctx = contexts[round * 5 / 3 % 3];
        let mut buffer = 0;
        let mut requests: Vec<Iocb> = (0..=round % 4)
            .map(|index| {
                data += 1;
                let file = FILES[(round + index) / 3 % 2];
                let opcode = if (round * 7 + index) % 5 < 3 { aio::PREAD } else { aio::PWRITE };
                Iocb { opcode, ..aio::pread(file, &mut buffer, data) }
            })
            .collect();
        if round % 5 == 4 {
            // This request is refused, so the call is short, or fails.
            requests[round % 4].fildes = -1;
        }
        let accepted = aio::submit(ctx, &mut requests).max(0);
        let mut events = [IoEvent::default(); 8];
        let reaped = if round % 3 == 0 {
            let (array, size) = (events.as_mut_ptr() as u64, events.len() as i64);
            aio::pgetevents_at(ctx, accepted, size, array, 0, 0)
        } else {
            aio::getevents(ctx, accepted, &mut events, Some(Timespec::millis(60_000)))
        };
        assert_eq!(reaped, accepted, "io_getevents");
        if round % 4 == 1 {
            data += 1;
            let mut poll = [aio::poll(reader, data)];
            assert_eq!(aio::submit(ctx, &mut poll), 1, "io_submit");
            let mut result = IoEvent::default();
            aio::cancel(ctx, std::ptr::from_mut(&mut poll[0]) as u64, &raw mut result as u64);
            // Cancelled or not, the poll completes.
            aio::fill(writer);
            aio::reap(ctx, 1);
            aio::drain(reader);
        }
    }
    for ctx in contexts {
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}
