//! ptrace(2) and waitpid(2), one function for each request. All requests must come from the thread that seized.
//!
//! A tracee can be killed at any moment; then a request fails with ESRCH, and [`wait`] reports the end of the tracee.

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Options at [`seize`], `PTRACE_O_*`.
pub mod option {
    /// Marks stops at system calls, to tell them from signals.
    pub const SYSCALL_MARKED: i32 = libc::PTRACE_O_TRACESYSGOOD;
    /// New threads are traced, too.
    pub const THREADS: i32 = libc::PTRACE_O_TRACECLONE;
    /// Children are traced, too.
    pub const CHILDREN: i32 = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK;
    /// A tracee stops when it begins a new program.
    pub const EXEC: i32 = libc::PTRACE_O_TRACEEXEC;
    /// A tracee stops when it is about to end.
    pub const EXIT: i32 = libc::PTRACE_O_TRACEEXIT;
    /// A tracee stops when a filter answers `SECCOMP_RET_TRACE`.
    pub const SECCOMP: i32 = libc::PTRACE_O_TRACESECCOMP;
    /// The kernel kills the tracees when the tracer ends.
    pub const DIE_WITH_US: i32 = libc::PTRACE_O_EXITKILL;
}

/// Where a tracee stops next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At the next event that is no system call.
    Event,
    /// Where the next system call begins or ends.
    Syscall,
}

/// `op` of [`Syscall`]: a system call begins.
pub const ENTRY: u8 = 1;
/// `op` of [`Syscall`]: a system call ends.
pub const EXIT: u8 = 2;
/// `op` of [`Syscall`]: a filter answered `SECCOMP_RET_TRACE`.
pub const SECCOMP: u8 = 3;

/// `struct ptrace_syscall_info` of include/uapi/linux/ptrace.h (Linux 5.3).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Syscall {
    /// [`ENTRY`], [`EXIT`], [`SECCOMP`] or 0.
    pub op: u8,
    reserved: [u8; 3],
    /// The architecture of the call.
    pub arch: u32,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// When a call begins: its number and arguments. When it ends: what it returns.
    words: [u64; 8],
}

impl Syscall {
    /// The call's number; not valid when the call ends.
    pub fn number(&self) -> u64 {
        self.words[0]
    }

    /// The call's arguments; not valid when the call ends.
    pub fn args(&self) -> [u64; 6] {
        let [_, args @ .., _] = self.words;
        args
    }

    /// What the call returns; valid only when it ends.
    pub fn ret(&self) -> i64 {
        self.words[0] as i64
    }
}

/// The type of a request, which differs between C libraries.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
/// The type of a request, which differs between C libraries.
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

fn request(request: Request, tid: u32, address: u64, data: u64) -> Result<i64, Errno> {
    // SAFETY: the callers pass addresses of memory that is large enough for their request.
    Errno::result(unsafe { libc::ptrace(request, tid as libc::pid_t, address, data) })
}

/// Traces a thread without stopping it.
pub fn seize(tid: u32, options: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE, tid, 0, options as u64).map(drop)
}

/// Tries to seize a thread, and returns when the kernel has answered, whatever the answer is. While a process begins
/// a program, that takes as long as the server of the program's file wants (`cred_guard_mutex`,
/// <https://elixir.bootlin.com/linux/v6.12/source/kernel/ptrace.c#L421>). Runs in a helper.
pub fn seize_returns(tid: u32) {
    // SAFETY: a helper has one thread.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { child }) => {
            let _ = nix::sys::wait::waitpid(child, None);
        }
        Ok(nix::unistd::ForkResult::Child) => {
            // The child gives up its privilege first, so that the kernel refuses; if the kernel allows it all the
            // same, it detaches when the child ends.
            let _ = crate::stacks::give_up_identity();
            let _ = crate::errand::end_with_parent();
            let _ = seize(tid, 0);
            // SAFETY: it does not return.
            unsafe { libc::_exit(0) }
        }
        // The caller finds out when it seizes the thread itself.
        Err(_) => (),
    }
}

/// Stops a running tracee soon. A system call in which it waits is interrupted.
pub fn interrupt(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets a stopped tracee go on, with a signal if `signal` is not 0.
pub fn resume(tid: u32, until: Until, signal: i32) -> Result<(), Errno> {
    let how = match until {
        Until::Event => libc::PTRACE_CONT,
        Until::Syscall => libc::PTRACE_SYSCALL,
    };
    request(how, tid, 0, signal as u64).map(drop)
}

/// Leaves a tracee stopped, as the signal that stopped its process demands.
pub fn listen(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN, tid, 0, 0).map(drop)
}

/// Lets a stopped tracee go for good, with a signal if `signal` is not 0.
pub fn detach(tid: u32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, tid, 0, signal as u64).map(drop)
}

/// The number that belongs to the event at which a tracee is stopped: the id of the new thread, or its former id.
pub fn event_message(tid: u32) -> Result<u64, Errno> {
    let mut message = 0u64;
    request(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message as u64)?;
    Ok(message)
}

/// The system call at which a tracee is stopped.
pub fn syscall(tid: u32) -> Result<Syscall, Errno> {
    /// libc has this constant only for some targets.
    const PTRACE_GET_SYSCALL_INFO: Request = 0x420e;
    let mut info = Syscall::default();
    let size = size_of::<Syscall>() as u64;
    request(PTRACE_GET_SYSCALL_INFO, tid, size, &raw mut info as u64)?;
    Ok(info)
}

/// The next tracee that stopped or ended, and its status; `None` if there is none. Other children of this process
/// belong to the threads that made them, and are not waited for.
///
/// # Errors
/// ECHILD: there is no tracee.
pub fn wait() -> Result<Option<(u32, Status)>, Errno> {
    wait_of(-1)
}

/// The status of this tracee, if it stopped or ended.
///
/// # Errors
/// ECHILD: it is no tracee of ours.
pub fn wait_for(tid: u32) -> Result<Option<Status>, Errno> {
    Ok(wait_of(tid as libc::pid_t)?.map(|it| it.1))
}

fn wait_of(whom: libc::pid_t) -> Result<Option<(u32, Status)>, Errno> {
    let mut status = 0;
    let how = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
    // SAFETY: `status` has room for a status.
    let found = Errno::result(unsafe { libc::waitpid(whom, &raw mut status, how) })?;
    Ok((found != 0).then_some((found as u32, Status(status))))
}

/// A status as waitpid(2) gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

/// What a status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The thread is gone.
    Ended,
    /// A system call begins or ends.
    Syscall,
    /// A signal is about to be delivered.
    Signal(i32),
    /// A new thread or process was made.
    New(Made),
    /// The tracee runs a new program.
    Exec,
    /// The tracee is about to end.
    Exit,
    /// A seccomp filter answered `SECCOMP_RET_TRACE`.
    Seccomp,
    /// The tracee's process is stopped by this signal.
    GroupStop,
    /// We interrupted the tracee, it is new, or its stopped process goes on.
    Trap,
    /// A stop that we did not ask for.
    Other,
}

/// How a thread or process was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// fork(2)
    Fork,
    /// vfork(2): the child shares the memory of its parent for a while.
    Vfork,
    /// clone(2): usually a thread.
    Clone,
}

impl Status {
    /// The meaning of the status of a tracee that was seized with [`option::SYSCALL_MARKED`].
    pub fn what(self) -> What {
        if libc::WIFEXITED(self.0) || libc::WIFSIGNALED(self.0) {
            return What::Ended;
        }
        let signal = libc::WSTOPSIG(self.0);
        match self.0 >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => What::Syscall,
            0 => What::Signal(signal),
            libc::PTRACE_EVENT_FORK => What::New(Made::Fork),
            libc::PTRACE_EVENT_VFORK => What::New(Made::Vfork),
            libc::PTRACE_EVENT_CLONE => What::New(Made::Clone),
            libc::PTRACE_EVENT_EXEC => What::Exec,
            libc::PTRACE_EVENT_EXIT => What::Exit,
            libc::PTRACE_EVENT_SECCOMP => What::Seccomp,
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => What::Trap,
            libc::PTRACE_EVENT_STOP => What::GroupStop,
            _ => What::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_what_stopped_a_thread() {
        let stopped = |signal: i32, event: i32| Status(event << 16 | signal << 8 | 0x7f).what();
        assert_eq!(stopped(libc::SIGTRAP | 0x80, 0), What::Syscall);
        assert_eq!(stopped(libc::SIGUSR1, 0), What::Signal(libc::SIGUSR1));
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_STOP), What::Trap);
        assert_eq!(stopped(libc::SIGSTOP, libc::PTRACE_EVENT_STOP), What::GroupStop);
        assert_eq!(stopped(libc::SIGTRAP, libc::PTRACE_EVENT_SECCOMP), What::Seccomp);
        assert_eq!((Status(0).what(), Status(9).what()), (What::Ended, What::Ended));
    }

    #[test]
    fn the_structure_is_as_large_as_the_kernels() {
        assert_eq!(size_of::<Syscall>(), 88);
        let info = Syscall { words: [9, 1, 2, 3, 4, 5, 6, 7], ..Syscall::default() };
        assert_eq!((info.number(), info.args()), (9, [1, 2, 3, 4, 5, 6]));
    }
}
