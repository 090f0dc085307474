//! Many threads.

use std::{
    sync::{Barrier, Mutex, mpsc::channel},
    thread,
};

use crate::aio::{self, IoEvent, Iocb};

/// Runs `count` threads, each with a context of its own and 100 requests.
pub fn many(count: u64) {
    let threads: Vec<_> = (0..count).map(|_| thread::spawn(|| crate::basic::pairs(100))).collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
}

/// Lets `count` threads wait until all may begin together; then they do the same as those of
/// [`many`].
pub fn waiting(count: u64) {
    let started = Barrier::new(count as usize + 1);
    let go = Barrier::new(count as usize + 1);
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                started.wait();
                go.wait();
                crate::basic::pairs(100);
            });
        }
        started.wait();
        crate::wait();
        go.wait();
    });
}

/// Lets `count` threads wait until all may begin together; then each makes one call, which fails.
/// They end together, at the next line.
pub fn one_call_each(count: u64) {
    const STACK: usize = 32 << 10;
    let meet = || Barrier::new(count as usize + 1);
    let (started, go, called, done) = (meet(), meet(), meet(), meet());
    thread::scope(|scope| {
        for _ in 0..count {
            let each = || {
                started.wait();
                go.wait();
                assert_eq!(aio::destroy(7), aio::error(libc::EINVAL), "io_destroy of nothing");
                called.wait();
                done.wait();
            };
            thread::Builder::new().stack_size(STACK).spawn_scoped(scope, each).expect("a thread");
        }
        started.wait();
        crate::wait();
        go.wait();
        called.wait();
        crate::say(&format!("{count} calls"));
        crate::wait_for_a_line();
        done.wait();
    });
}

/// Runs two threads at a time that each make 100 pairs of calls. The remainders of their ids are
/// the same, so that aiotrace looks for their slots in the same place.
pub fn same_place() {
    /// The number of slots of aiotrace-common/src/slots.rs.
    const SLOTS: i32 = 16_384;
    // SAFETY: the call has no arguments.
    let id = || unsafe { libc::gettid() };
    let has_two = || {
        thread::scope(|scope| {
            let (go, wait) = channel::<()>();
            let (tell, told) = channel();
            scope.spawn(move || {
                crate::basic::pairs(50);
                tell.send(id()).expect("the channel");
                wait.recv().expect("the channel");
                crate::basic::pairs(50);
            });
            let first = told.recv().expect("the channel");
            // The kernel gives out ids in ascending order, so one of the next threads has the id.
            let is_second = move || {
                let is_it = id() % SLOTS == first % SLOTS;
                if is_it {
                    crate::basic::pairs(100);
                }
                is_it
            };
            let found = (0..3 * SLOTS).any(|_| scope.spawn(is_second).join().expect("a thread"));
            go.send(()).expect("the channel");
            found
        })
    };
    // Try several times: another process may get the id.
    assert!((0..5).any(|_| has_two()), "no two threads have such ids");
}

/// One thread submits; two others reap, and give each iocb back to be used again at once.
pub fn reuse(count: u64) {
    const IOCBS: u64 = 4;
    let ctx = aio::setup(IOCBS);
    let (free, frees) = channel::<u64>();
    let mut iocbs = vec![Iocb::default(); IOCBS as usize];
    let mut buffer = 0;
    let fd = aio::zero();
    for iocb in &mut iocbs {
        *iocb = aio::pread(fd, &mut buffer, 0);
        free.send(std::ptr::from_mut(iocb) as u64).expect("the channel");
    }
    // Each reaper must reap one, and reaps others as long as there are any.
    let left = Mutex::new(count - 2);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (free, left) = (free.clone(), &left);
            scope.spawn(move || {
                let take_turn = || {
                    let mut left = left.lock().expect("the count");
                    let is_one = *left > 0;
                    *left = left.saturating_sub(1);
                    is_one
                };
                loop {
                    let mut events = [IoEvent::default()];
                    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
                    let _ = free.send(events[0].obj);
                    if !take_turn() {
                        break;
                    }
                }
            });
        }
        for data in 1..=count {
            let at = frees.recv().expect("the channel");
            // SAFETY: the iocb was reaped, so it is ours again.
            unsafe { (*(at as *mut Iocb)).data = data };
            let pointers = [at];
            assert_eq!(aio::submit_at(ctx, 1, pointers.as_ptr() as u64), 1, "io_submit");
        }
    });
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}
