//! What all threads of an address space do at one moment: whether any of them could do something for one that waits.

use std::path::Path;

use aiotrace_model::records::arguments;

use super::{
    blocked::{blocked_in, is_32_bit, read_timespec},
    file,
    process::{all, share_space, status, status_field, threads},
};
use crate::{
    bounded::THREADS,
    event::{Args, Thread, Waits},
};

/// The functions of the kernel in which io_getevents sleeps. (The freezer of cgroups interrupts it, and has the thread
/// sleep elsewhere; the call goes on to its end after that.)
const SLEEPS_IN: [&[u8]; 2] = [b"read_events", b"do_io_getevents"];
/// A debugger or the kernel makes them for what a thread itself does, and glibc has 32 and 33 for itself.
const NO_WAKERS: [i32; 8] =
    [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS, 32, 33];

/// All threads that live in the address space of a process, also those of other processes that share it; `None` if it
/// cannot be told of each what it does.
pub fn threads_of_space(pid: u32) -> Option<Vec<Thread>> {
    let mut found = Vec::new();
    for process in sharers(pid)? {
        let tids = threads(process);
        if tids.is_empty() || found.len() + tids.len() > THREADS {
            return None;
        }
        for tid in tids {
            found.extend(thread(process, tid)?);
        }
    }
    found.sort_by_key(|it| (it.pid, it.tid));
    Some(found)
}

/// The processes that share an address space, this one included.
fn sharers(pid: u32) -> Option<Vec<u32>> {
    let mut sharers = vec![pid];
    for other in all().into_iter().filter(|it| may_share(pid, *it)) {
        match share_space(pid, other) {
            Some(true) => sharers.push(other),
            Some(false) => (),
            // It has ended since, or nothing but its size may be known.
            None if !may_share(pid, other) => (),
            None => return None,
        }
    }
    Some(sharers)
}

/// Whether another process may share the address space of this one, by its size. (To compare them waits while one of
/// them begins a program, which may be for ever: so few are compared.)
fn may_share(pid: u32, other: u32) -> bool {
    if other == pid {
        return false;
    }
    let before = size(pid);
    match size(other) {
        // It has ended.
        None => false,
        // It may have changed in between.
        its => before.is_none() || before != size(pid) || its == before,
    }
}

/// Pages of memory of a process, which everybody may know.
fn size(pid: u32) -> Option<u64> {
    let text = file::read(format!("/proc/{pid}/statm")).ok()?;
    str::from_utf8(&text).ok()?.split(' ').next()?.parse().ok()
}

/// What a thread does; `None` if that cannot be told, `Some(None)` if it has ended.
fn thread(pid: u32, tid: u32) -> Option<Option<Thread>> {
    let status = status(pid, tid)?;
    let state = *status_field(&status, "State")?.as_bytes().first()?;
    if matches!(state, b'Z' | b'X') {
        return Some(None);
    }
    // There are other system calls, and other timeouts.
    if is_32_bit(Path::new(&format!("/proc/{pid}/task/{tid}/exe"))) {
        return None;
    }
    let mask = |name: &str| u64::from_str_radix(status_field(&status, name)?, 16).ok();
    let no_wakers = NO_WAKERS.iter().fold(0, |mask, signal| mask | 1 << (signal - 1));
    let signals = mask("SigCgt")? & !mask("SigBlk")? & !no_wakers;
    let waits = if state == b'S' { waits(pid, tid) } else { None };
    Some(Some(Thread { pid, tid, waits, signals }))
}

fn waits(pid: u32, tid: u32) -> Option<Waits> {
    let blocked = blocked_in(pid, tid, false)?;
    let Args::Getevents { ctx, min_nr, timeout, .. } = arguments(blocked.syscall, &blocked.args)
    else {
        return None;
    };
    let place = file::read(format!("/proc/{pid}/task/{tid}/wchan")).ok()?;
    let timeout_value = read_timespec(pid, timeout.0);
    SLEEPS_IN.contains(&&*place).then_some(Waits { ctx, min_nr, timeout, timeout_value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_threads_are_found_and_do_something_else() {
        let own = std::process::id();
        let threads = threads_of_space(own).unwrap();
        assert!(threads.iter().all(|it| it.pid == own && it.waits.is_none()), "{threads:?}");
        assert!(threads.iter().any(|it| it.tid as i32 == nix::unistd::gettid().as_raw()));
        assert_eq!(threads_of_space(u32::MAX), None);
    }
}
