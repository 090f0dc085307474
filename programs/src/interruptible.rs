//! Calls that fail with EINTR whenever their thread is stopped, as the kernel does not restart
//! them. Each waits in vain for 30 ms, again and again, in a thread of its own that takes no
//! signals.

use std::{
    mem::size_of_val,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::aio::{self, IoEvent, Timespec};

const MILLIS: i64 = 30;
static WAIT: Timespec = Timespec { sec: 0, nsec: MILLIS * 1_000_000 };
static TIMEVAL: libc::timeval = libc::timeval { tv_sec: 0, tv_usec: MILLIS * 1000 };

/// Makes all calls until a line comes; then says which ones ended otherwise than by their timeout,
/// or `none`.
pub fn all() {
    type Call = Box<dyn FnMut() -> i64 + Send>;
    let calls: [(&str, i32, Call); 6] = [
        ("io_getevents", 0, Box::new(getevents())),
        ("epoll_wait", 0, Box::new(epoll_wait())),
        ("semtimedop", libc::EAGAIN, Box::new(semtimedop())),
        ("recv", libc::EAGAIN, Box::new(recv())),
        ("accept", libc::EAGAIN, Box::new(accept())),
        ("io_uring_enter", libc::ETIME, Box::new(io_uring_enter())),
    ];
    let (is_over, wrong) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for (name, timed_out, mut call) in calls {
            let (is_over, wrong) = (&is_over, &wrong);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let ret = call();
                    if ret != aio::error(timed_out) {
                        wrong.lock().expect("the list").push(format!("{name} {ret}"));
                    }
                }
            });
        }
        crate::wait();
        is_over.store(true, Ordering::Relaxed);
    });
    let wrong = wrong.into_inner().expect("the list");
    crate::say(&if wrong.is_empty() { "none".to_owned() } else { wrong.join(", ") });
}

fn result(ret: i64) -> i64 {
    let errno = || std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    if ret == -1 { aio::error(errno()) } else { ret }
}

fn getevents() -> impl FnMut() -> i64 {
    let ctx = aio::setup(2);
    move || aio::getevents(ctx, 1, &mut [IoEvent::default()], Some(Timespec::millis(MILLIS)))
}

fn epoll_wait() -> impl FnMut() -> i64 {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::epoll_create1(0) };
    assert!(fd >= 0, "epoll_create1");
    move || {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: `event` has room for one event.
        result(unsafe { libc::epoll_wait(fd, &raw mut event, 1, MILLIS as i32) }.into())
    }
}

fn semtimedop() -> impl FnMut() -> i64 {
    // SAFETY: the call takes no pointers.
    let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    assert!(id >= 0, "semget");
    let set = Set(id);
    move || {
        let mut take = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
        let wait = libc::timespec { tv_sec: WAIT.sec, tv_nsec: WAIT.nsec };
        let number = libc::SYS_semtimedop;
        // SAFETY: the operation and the timeout live during the call.
        result(unsafe { libc::syscall(number, set.id(), &raw mut take, 1, &raw const wait) })
    }
}

/// A set of semaphores, removed on drop: it would outlive the process.
struct Set(i32);

impl Set {
    fn id(&self) -> i32 {
        self.0
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // SAFETY: the call takes no pointers.
        unsafe { libc::semctl(self.0, 0, libc::IPC_RMID) };
    }
}

/// Sets a timeout for receiving on a socket.
fn limit(socket: i32) {
    let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
    let size = size_of_val(&TIMEVAL) as libc::socklen_t;
    // SAFETY: the structure is a constant, and the size is its own.
    let ret = unsafe { libc::setsockopt(socket, level, option, (&raw const TIMEVAL).cast(), size) };
    assert_eq!(ret, 0, "setsockopt");
}

fn recv() -> impl FnMut() -> i64 {
    let mut ends = [0; 2];
    // SAFETY: the array has room for two descriptors.
    let ret = unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) };
    assert_eq!(ret, 0, "socketpair");
    limit(ends[0]);
    move || {
        let mut byte = 0u8;
        // SAFETY: `byte` has room for one byte.
        result(unsafe { libc::recv(ends[0], (&raw mut byte).cast(), 1, 0) } as i64)
    }
}

fn accept() -> impl FnMut() -> i64 {
    // SAFETY: the address has only a family, so the kernel chooses a name; it lives during the
    // calls.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        let family = libc::AF_UNIX as libc::sa_family_t;
        assert_eq!(libc::bind(socket, (&raw const family).cast(), 2), 0, "bind");
        assert_eq!(libc::listen(socket, 1), 0, "listen");
        socket
    };
    limit(socket);
    move || {
        let no = std::ptr::null_mut();
        // SAFETY: the null pointers say that no address is wanted.
        result(unsafe { libc::accept(socket, no, no.cast()) }.into())
    }
}

/// If the kernel has no io_uring, the thread only sleeps for the time.
fn io_uring_enter() -> impl FnMut() -> i64 {
    const GETEVENTS_WITH_TIMEOUT: u32 = 1 | 8;
    let mut parameters = [0u32; 30];
    // SAFETY: the array has room for `struct io_uring_params`.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
    move || {
        if ring < 0 {
            std::thread::sleep(std::time::Duration::from_millis(MILLIS as u64));
            return aio::error(libc::ETIME);
        }
        // `struct io_uring_getevents_arg`: no mask, the size of a mask, and the timeout.
        let argument = [0, 8, &raw const WAIT as u64];
        let (at, size) = (argument.as_ptr(), size_of_val(&argument));
        let (number, how) = (libc::SYS_io_uring_enter, GETEVENTS_WITH_TIMEOUT);
        // SAFETY: the argument lives during the call.
        result(unsafe { libc::syscall(number, ring, 0, 1, how, at, size) })
    }
}
