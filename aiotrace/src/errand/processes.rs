//! The errands about processes as a whole.

use std::{io, os::fd::OwnedFd};

use aiotrace_common::abi::{IoEvent, RingHeader, Timespec};

use super::{A_SCAN, ASLEEP, Errand as _, FROM_DISK, USUAL, errands};
use crate::{
    arch::Before,
    event::{self, Address, File, Handle, Open, Thread},
    proc::{
        self, Blocked, descriptor, is_filtered, is_over, name, pidfd_open, ring, scan,
        status_field, ways,
    },
};

errands! {
    /// The errands about processes.
    PROCESSES = [
        /// [`proc::status`]
        Status(tid: u32) -> Option<Vec<u8>> = proc::status;
        /// [`proc::started_at`]
        Started() -> Option<u64> = proc::started_at;
        /// [`proc::executable`]
        Executable() -> Option<Vec<u8>> = proc::executable;
        /// [`proc::thread_state`]
        ThreadState(tid: u32) -> Option<u8> = proc::thread_state;
        /// [`proc::blocked_calls`]
        BlockedCalls() -> Vec<Blocked> = proc::blocked_calls;
        /// [`proc::blocked_call`]
        BlockedCall(tid: u32) -> Option<Blocked> = proc::blocked_call;
        /// [`proc::within`]
        Within(tid: u32) -> Option<Before> = proc::within;
        /// [`proc::read_timespec`]
        ReadTimespec(at: u64) -> Option<Timespec> = proc::read_timespec;
        /// [`proc::threads_of_space`]
        Threads() -> Option<Vec<Thread>> = proc::threads_of_space;
        /// [`proc::waits_in_exit`]
        WaitsInExit() -> Option<u32> = proc::waits_in_exit;
        /// [`proc::has_seccomp_filter`]
        HasSeccompFilter() -> bool = proc::has_seccomp_filter;

        /// [`ring::of_process`]
        Rings() -> Option<Vec<(u64, u64)>> = ring::of_process;
        /// [`ring::below`]
        Below() -> Vec<(u32, u64)> = ring::below;
        /// [`ring::headers`]
        Headers(handles: Vec<u64>, all_pages: bool) -> Vec<Option<RingHeader>> = ring::headers;
        /// [`ring::entries`]
        Entries(handle: u64, first: u32, count: u32) -> Option<Vec<IoEvent>> = ring::entries;
        /// [`ring::touch`]
        Touch(handle: u64) -> () = ring::touch, urgent;

        /// [`ring::at_place`]
        Place(handle: Handle) -> ring::AtPlace = ring::at_place;
        /// [`descriptor::file`]
        Descriptor(fd: u32) -> Option<File> = descriptor::file;
        /// [`descriptor::open`]
        IsOpen(fd: u32) -> Open = descriptor::open;
        /// [`ways::of_file`]
        Ways(fd: u32) -> Option<(event::Ways, Vec<u32>)> = ways::of_file, patience(FROM_DISK, USUAL);
        /// [`descriptor::path`]
        Path(fd: u32) -> Option<Vec<u8>> = descriptor::path;
        /// [`descriptor::path_of_thread`]
        PathOfThread(fd: u32) -> Option<Vec<u8>> = descriptor::path_of_thread;
        /// [`descriptor::position`]
        Position(fd: u32) -> Option<i64> = descriptor::position;
        /// [`descriptor::iovecs`]
        Iovecs(at: Address, count: u64) -> Option<Vec<(Address, u64)>> = descriptor::iovecs;

        /// [`scan::missing`]
        Missing(handles: Vec<u64>) -> Option<Vec<u64>> = scan::missing, patience(ASLEEP, A_SCAN);
    ]
}

/// A process that is to be traced.
#[derive(Debug)]
pub struct Opened {
    /// The id of the whole process, even if one of its threads was named.
    pub pid: u32,
    /// Stands for this very process, even when the kernel gives its id to another one. It is
    /// readable when the process is dead.
    pub pidfd: OwnedFd,
    /// The name of the process.
    pub name: Vec<u8>,
    /// When the process started, in nanoseconds of CLOCK_BOOTTIME, exact to 10 ms.
    pub started: Option<u64>,
}

/// Why a process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such process.
    #[error("no such process: {0}")]
    Gone(u32),
    /// The process could not be opened for another reason.
    #[error("cannot look at process {pid}")]
    Other {
        /// The process.
        pid: u32,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// Opens a process by its id or by the id of one of its threads.
///
/// # Errors
/// [`OpenError::Gone`] if there is no such process, or if it died in the meantime.
pub fn open(id: u32) -> Result<Opened, OpenError> {
    let fail = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => OpenError::Gone(id),
        _ => OpenError::Other { pid: id, source },
    };
    proc::user(id).map_err(fail)?;
    let status = Status { pid: id, tid: id }.ask().flatten().unwrap_or_default();
    let pid = status_field(&status, "Tgid").and_then(|it| it.parse().ok()).unwrap_or(id);
    let pidfd = pidfd_open(pid).map_err(fail)?;
    // A zombie has ended, whatever its parent does; but a process has not ended as long as other
    // threads of it go on.
    if is_over(&pidfd) {
        return Err(OpenError::Gone(id));
    }
    let name = name(pid).ok_or(OpenError::Gone(id))?;
    Ok(Opened { pid, pidfd, name, started: Started { pid }.ask().flatten() })
}

/// Whether a thread has a seccomp filter; `None` if unknown.
pub fn has_thread_filter(pid: u32, tid: u32) -> Option<bool> {
    Status { pid, tid }.ask().map(|it| it.is_some_and(|it| is_filtered(&it)))
}

/// Whether a thread exists and has not ended. A zombie has ended, even if nobody has waited for it.
pub fn is_alive_thread(pid: u32, tid: u32) -> bool {
    let state = ThreadState { pid, tid }.ask();
    // A thread that gives no answer exists.
    state.is_none_or(|it| !matches!(it, None | Some(b'Z' | b'X')))
}

/// The thread that traces a thread, if there is one.
pub fn tracer_of(tid: u32) -> Option<u32> {
    number_of(tid, "TracerPid")
}

/// The parent of a process, if it has one that we can see.
pub fn parent_of(pid: u32) -> Option<u32> {
    number_of(pid, "PPid")
}

fn number_of(tid: u32, field: &str) -> Option<u32> {
    let status = Status { pid: tid, tid }.ask()??;
    status_field(&status, field)?.parse().ok().filter(|it| *it != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_can_be_opened_by_a_thread_id_too() {
        let pid = std::process::id();
        assert_eq!(open(pid).unwrap().pid, pid);
        let tid = std::thread::spawn(|| open(nix::unistd::gettid().as_raw() as u32).unwrap().pid);
        assert_eq!(tid.join().unwrap(), pid);
        assert!(matches!(open(4_194_305), Err(OpenError::Gone(4_194_305))));
    }
}
