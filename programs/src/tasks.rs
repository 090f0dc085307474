//! What /proc says of threads and processes, so that a program can wait for something to happen to
//! them.

use std::{fs, os::fd::RawFd, time::Duration};

/// The state and the system call of a thread that is blocked in a call, for instance `('S', 208)`.
/// A thread that a tracer has stopped is in no call.
fn blocked_in(directory: &str) -> Option<(char, i64)> {
    let read = |name: &str| fs::read_to_string(format!("{directory}/{name}")).ok();
    let call = read("syscall")?.split(' ').next()?.parse().ok()?;
    // The name in parentheses may contain anything, so search for the last one.
    let state = read("stat")?.rsplit_once(") ")?.1.chars().next()?;
    Some((state, call))
}

/// Whether a process with one thread waits uninterruptibly in this system call.
pub fn is_stuck_in(pid: i32, call: i64) -> bool {
    blocked_in(&format!("/proc/{pid}")) == Some(('D', call))
}

/// Waits until a thread of this process sleeps in this system call.
pub fn until_asleep_in(tid: i32, call: i64) {
    while blocked_in(&format!("/proc/self/task/{tid}")) != Some(('S', call)) {
        std::thread::yield_now();
    }
}

/// Waits until a process with one thread sleeps in this system call.
pub fn until_process_asleep_in(pid: i32, call: i64) {
    while blocked_in(&format!("/proc/{pid}")) != Some(('S', call)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process has given up its memory, or is gone: when it gives it up, the kernel ends its
/// contexts.
pub fn has_no_memory(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/statm")).map_or(true, |it| it.starts_with("0 "))
}

/// The id of the calling thread.
pub fn current() -> i32 {
    // SAFETY: the call has no arguments.
    unsafe { libc::gettid() }
}

/// Whether something can be read, or the other end is closed, within this time.
pub fn is_readable_within(fd: RawFd, time: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one structure, and the count is 1.
    unsafe { libc::poll(&mut poll, 1, time.as_millis() as i32) == 1 }
}
