//! Makes each call and says in one line what it got: a fault must change this, and nothing else.
//! Calls that fail are made again, twice.

use std::{
    cell::Cell,
    fs::File,
    hint::black_box,
    os::fd::{AsRawFd as _, RawFd},
};

use crate::{
    aio::{self, IoEvent, Iocb, Timespec},
    libaio::{self, Libaio},
    ring::Ring,
    say,
};

const TRIES: usize = 3;

/// How the calls are made: as system calls, or through libaio, which also gives a negative errno.
struct Calls {
    library: Option<Libaio>,
}

impl Calls {
    fn setup(&self, nr: u64, ctx: &mut u64) -> i64 {
        match &self.library {
            // SAFETY: `ctx` is a reference, so it lives.
            Some(library) => i64::from(unsafe { (library.setup)(nr as i32, ctx) }),
            None => aio::setup_at(nr, std::ptr::from_mut(ctx) as u64),
        }
    }

    fn submit(&self, ctx: u64, iocbs: &mut [Iocb]) -> i64 {
        let Some(library) = &self.library else { return aio::submit(ctx, iocbs) };
        let mut pointers: Vec<*mut Iocb> = iocbs.iter_mut().map(std::ptr::from_mut).collect();
        // SAFETY: the iocbs and the array of pointers live during the call.
        i64::from(unsafe { (library.submit)(ctx, pointers.len() as i64, pointers.as_mut_ptr()) })
    }

    fn getevents(&self, ctx: u64, min: i64, events: &mut [IoEvent]) -> i64 {
        let Some(library) = &self.library else { return aio::getevents(ctx, min, events, None) };
        let (count, none) = (events.len() as i64, std::ptr::null_mut());
        // SAFETY: `events` has room for `count` events.
        i64::from(unsafe { (library.getevents)(ctx, min, count, events.as_mut_ptr(), none) })
    }

    /// libaio has no function that makes only this call.
    fn pgetevents(&self, ctx: u64, events: &mut [IoEvent]) -> i64 {
        let none = Timespec::millis(0);
        let (array, timeout) = (events.as_mut_ptr() as u64, std::ptr::from_ref(&none) as u64);
        aio::pgetevents_at(ctx, 0, events.len() as i64, array, timeout, 0)
    }

    fn cancel(&self, ctx: u64, iocb: &mut Iocb) -> i64 {
        let mut result = IoEvent::default();
        let at = std::ptr::from_mut(iocb);
        match &self.library {
            // SAFETY: the iocb and the result live during the call.
            Some(library) => i64::from(unsafe { (library.cancel)(ctx, at, &mut result) }),
            None => aio::cancel(ctx, at as u64, &raw mut result as u64),
        }
    }

    fn destroy(&self, ctx: u64) -> i64 {
        match &self.library {
            // SAFETY: the argument is a number.
            Some(library) => i64::from(unsafe { (library.destroy)(ctx) }),
            None => aio::destroy(ctx),
        }
    }
}

/// Makes the calls as system calls, with /dev/zero.
pub fn raw() {
    all(&Calls { library: None }, aio::zero());
}

/// Makes the calls as system calls, with this file.
pub fn of(path: &str) {
    let file = File::options().read(true).write(true).open(path).expect(path);
    all(&Calls { library: None }, file.as_raw_fd());
}

/// Makes the calls through libaio, with /dev/zero.
pub fn by_libaio() {
    all(&Calls { library: Some(libaio::load()) }, aio::zero());
}

/// Makes a poll, for which the kernel checks no permission of a file, and then a read.
pub fn poll_and_read() {
    let calls = Calls { library: None };
    let mut ctx = 0;
    assert_eq!(calls.setup(8, &mut ctx), 0, "io_setup");
    let mut buffer = 0;
    let (reader, _writer) = aio::pipe();
    for iocb in [aio::poll(reader, 1), aio::pread(aio::zero(), &mut buffer, 2)] {
        say(&format!("io_submit {}", calls.submit(ctx, &mut [iocb])));
    }
}

fn all(calls: &Calls, file: RawFd) {
    let mut ctx = 0;
    again("io_setup", |ret| ret == 0, || calls.setup(8, &mut ctx));
    let mut buffer = 0;
    let mut reads: Vec<Iocb> = (1..=3).map(|data| aio::pread(file, &mut buffer, data)).collect();
    let accepted = Cell::new(0);
    again(
        "io_submit",
        |_| accepted.get() == 3,
        || {
            let ret = calls.submit(ctx, &mut reads[accepted.get()..]);
            accepted.set(accepted.get() + ret.max(0) as usize);
            ret
        },
    );
    reap("io_getevents", |events| calls.getevents(ctx, accepted.get() as i64, events));
    let mut write = [Iocb { opcode: aio::PWRITE, ..aio::pread(file, &mut buffer, 4) }];
    say(&format!("io_submit {}", calls.submit(ctx, &mut write)));
    reap("io_pgetevents", |events| calls.pgetevents(ctx, events));
    let (reader, writer) = aio::pipe();
    let mut poll = [aio::poll(reader, 5)];
    say(&format!("io_submit {}", calls.submit(ctx, &mut poll)));
    again(
        "io_cancel",
        |ret| ret == aio::error(libc::EINPROGRESS),
        || calls.cancel(ctx, &mut poll[0]),
    );
    aio::fill(writer);
    again("io_destroy", |ret| ret == 0, || calls.destroy(ctx));
}

/// Makes a call until it returns what it should, and says each result.
fn again(name: &str, is_done: impl Fn(i64) -> bool, mut call: impl FnMut() -> i64) {
    // The compiler may not make several calls of the one in the loop: they would be made from several places.
    for _ in 0..black_box(TRIES) {
        let ret = call();
        say(&format!("{name} {ret}"));
        if is_done(ret) {
            return;
        }
    }
}

/// Reaps, and says the results in the order in which the requests were submitted.
fn reap(name: &str, mut call: impl FnMut(&mut [IoEvent]) -> i64) {
    for _ in 0..TRIES {
        let mut events = [IoEvent::default(); 8];
        let ret = call(&mut events);
        let count = usize::try_from(ret).unwrap_or(0).min(events.len());
        let events = &mut events[..count];
        events.sort_by_key(|it| it.data);
        let results: Vec<String> = events.iter().map(|it| it.res.to_string()).collect();
        say(format!("{name} {ret} {}", results.join(",")).trim_end());
        if ret >= 0 {
            return;
        }
    }
}

/// `count` threads submit one read at a time, until each has submitted 200. Says how many calls
/// they made, and how many failed.
pub fn threads(count: u64) {
    let tallies: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let one = || {
            let (ctx, file, mut buffer) = (aio::setup(4), aio::zero(), 0);
            let (mut calls, mut failed, mut done) = (0, 0, 0);
            while done < 200 {
                let ret = aio::submit(ctx, &mut [aio::pread(file, &mut buffer, 1)]);
                calls += 1;
                if ret == 1 {
                    aio::reap(ctx, 1);
                    done += 1;
                } else {
                    assert_eq!(ret, aio::error(libc::EAGAIN));
                    failed += 1;
                }
            }
            (calls, failed)
        };
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|it| it.join().expect("a thread")).collect()
    });
    let sum = |of: fn(&(u64, u64)) -> u64| tallies.iter().map(of).sum::<u64>();
    say(&format!("{} calls, {} failed", sum(|it| it.0), sum(|it| it.1)));
}

/// Makes reads and reaps them from the ring, without io_getevents; says the results.
pub fn from_the_ring() {
    let (ctx, file, mut buffer) = (aio::setup(4), aio::zero(), 0);
    let ring = Ring::of(ctx);
    for data in 1..=3 {
        assert_eq!(aio::submit(ctx, &mut [aio::pread(file, &mut buffer, data)]), 1);
        let event = ring.reap().expect("/dev/zero completes at once");
        say(&format!("{} {}", event.data, event.res));
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
