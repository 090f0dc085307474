//! Whether a signal is about to interrupt a tracee.
//!
//! A traced thread is also woken by signals that it ignores ([`sig_ignored`][signal.c]), and by our own requests.
//! Then a call that never starts again by itself returns EINTR, which the program must not see.
//!
//! [signal.c]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/signal.c?h=v6.12.117#n104

use nix::errno::Errno;

use super::requests;
use crate::{
    errand::{self, Errand as _, Status},
    proc::status_field,
};

/// Whether a signal that makes calls fail with EINTR is about to be delivered. `taken`: a signal that is being
/// delivered now, or 0.
pub fn interrupts(pid: u32, tid: u32, taken: i32) -> bool {
    let status = Status { pid, tid }.ask().flatten().unwrap_or_default();
    is_due(&status, taken)
}

fn is_due(status: &[u8], taken: i32) -> bool {
    let mask = |name| {
        let text = status_field(status, name)?;
        u64::from_str_radix(text, 16).ok()
    };
    let of = |name| mask(name).unwrap_or(0);
    let bit = |signal: i32| if signal > 0 { 1u64 << (signal - 1) } else { 0 };
    // By default these signals do nothing.
    let harmless = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let harmless = harmless.into_iter().fold(0, |all, signal| all | bit(signal));
    let ignored = of("SigIgn") | harmless & !of("SigCgt");
    let pending = (of("SigPnd") | of("ShdPnd")) & !of("SigBlk");
    (pending | bit(taken)) & !ignored != 0
}

/// Calls that fail with EINTR when they are interrupted, also by a stop, and that may simply be made again, because
/// they have done nothing then. They are those of signal(7), others in which we saw it (io_uring_enter), and others
/// that reach the same code (read and write of a socket with a timeout, or of a file of FUSE). close(2) is not among
/// them, because the descriptor is closed already.
const IN_64_BIT: [u64; 29] = [
    0, 1, 17, 18, 19, 20, 295, 296, 327, 328, // read, write, and all their kinds
    40, 275, // sendfile, splice
    42, 43, 288, // connect, accept, accept4
    44, 45, 46, 47, 299, 307, // sendto, recvfrom, sendmsg, recvmsg, recvmmsg, sendmmsg
    65, 220, // semop, semtimedop
    128, // rt_sigtimedwait
    208, // io_getevents
    232, 281, 441, // epoll_wait, epoll_pwait, epoll_pwait2
    426, // io_uring_enter
];
/// The same calls in 32-bit programs. `socketcall` and `ipc` stand for several calls each; those of them that may not
/// be made again do not fail with EINTR.
const IN_32_BIT: [u64; 33] = [
    3, 4, 145, 146, 180, 181, 333, 334, 378, 379, // read, write, and all their kinds
    187, 239, 313, // sendfile, sendfile64, splice
    102, 362, 364, // socketcall, connect, accept4
    369, 371, 370, 372, 337, 417, 345, // sendto to sendmmsg, and recvmmsg_time64
    117, 392, 420, // ipc, semtimedop twice (`semtimedop_time64`)
    177, 421, // rt_sigtimedwait, and with 64-bit times
    247, // io_getevents
    256, 319, 441, // epoll_wait, epoll_pwait, epoll_pwait2
    426, // io_uring_enter
];

/// "Make it again, unless a handler runs": `ERESTARTNOHAND` of include/linux/errno.h.
pub const RESTART: i64 = -514;

/// If the stopped thread returns EINTR from a call and no signal asks for that, lets it make the call again, and
/// returns whether it did.
///
/// The thread gets [`RESTART`], so that the kernel decides when it has looked at all signals: a signal that comes
/// after our look still interrupts.
///
/// # Errors
/// The thread is dead.
pub fn undo(pid: u32, tid: u32, taken: i32) -> Result<bool, Errno> {
    let mut registers = requests::registers(tid)?;
    let is_32_bit = is_32_bit(&registers);
    let number = registers.orig_rax;
    let known = if is_32_bit { &IN_32_BIT[..] } else { &IN_64_BIT };
    let returned = if is_32_bit { i64::from(registers.rax as i32) } else { registers.rax as i64 };
    let is_interrupted = returned == -i64::from(libc::EINTR) && known.contains(&number);
    if !is_interrupted || interrupts(pid, tid, taken) {
        return Ok(false);
    }
    registers.rax = RESTART as u64;
    requests::set_registers(tid, &registers)?;
    Ok(true)
}

/// Lets a thread that is stopped where a call begins make the call a moment later, so that it can be let go. `false`:
/// it cannot, because a filter of its own may kill it for a call with an invalid number.
///
/// PTRACE_DETACH leaves a thread with TIF_SIGPENDING ([`__ptrace_unlink`][ptrace.c] wakes it that way), so a call
/// that begins then ends at once, with EINTR or with less than it could do. A call with the number -1 does nothing
/// and changes no register: so the thread makes that one, and goes back to the instruction, whether we live to see it
/// or not.
///
/// [ptrace.c]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/ptrace.c?h=v6.12.117#n117
///
/// # Errors
/// The thread is dead.
pub fn put_off(pid: u32, tid: u32) -> Result<bool, Errno> {
    /// Length of `syscall` and of `int 0x80`; the kernel goes back by as much where it makes a call again.
    const INSTRUCTION: u64 = 2;
    let mut registers = requests::registers(tid)?;
    let number = registers.orig_rax;
    let is_none = i32::try_from(number).is_err();
    // If that cannot be found out, the thread may have a filter.
    if is_none || errand::has_thread_filter(pid, tid) != Some(false) {
        return Ok(false);
    }
    registers.orig_rax = u64::MAX;
    registers.rax = number;
    registers.rip = registers.rip.wrapping_sub(INSTRUCTION);
    requests::set_registers(tid, &registers)?;
    Ok(true)
}

/// Whether the stopped thread returns from write(2) or send(2) with less than it was given, as such a call does when
/// it has to wait and is interrupted, also by a stop. What it has written cannot be taken back. (writev(2) and the
/// like have their lengths in memory, which is not read for this.)
pub fn is_cut_short(registers: &libc::user_regs_struct) -> bool {
    /// write and sendto, in 64-bit and in 32-bit programs.
    const WRITE: [[u64; 2]; 2] = [[1, 44], [4, 369]];
    let is_32_bit = is_32_bit(registers);
    let returned = if is_32_bit { i64::from(registers.rax as i32) } else { registers.rax as i64 };
    let is_less = u64::try_from(returned).is_ok_and(|it| it > 0 && it < registers.rdx);
    WRITE[usize::from(is_32_bit)].contains(&registers.orig_rax) && is_less
}

/// Whether the thread runs 32-bit code.
pub fn is_32_bit(registers: &libc::user_regs_struct) -> bool {
    /// `__USER32_CS` of arch/x86/include/asm/segment.h.
    const USER_32: u64 = 0x23;
    registers.cs == USER_32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_made_again_is_there_once() {
        for calls in [&IN_64_BIT[..], &IN_32_BIT] {
            let mut sorted = calls.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), calls.len());
        }
        let close = (libc::SYS_close as u64, 6);
        assert!(!IN_64_BIT.contains(&close.0) && !IN_32_BIT.contains(&close.1));
        for call in [libc::SYS_recvfrom, libc::SYS_accept4, libc::SYS_io_uring_enter] {
            assert!(IN_64_BIT.contains(&(call as u64)));
        }
    }

    #[test]
    fn only_signals_that_do_something_interrupt() {
        let status = |pending: u64, blocked: u64, ignored: u64, caught: u64| {
            format!(
                "Name:\tx\nSigPnd:\t{pending:016x}\nShdPnd:\t0000000000000000\n\
                 SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
            )
        };
        let usr1 = 1 << (libc::SIGUSR1 - 1);
        let chld = 1 << (libc::SIGCHLD - 1);
        assert!(is_due(status(usr1, 0, 0, usr1).as_bytes(), 0));
        assert!(is_due(status(usr1, 0, 0, 0).as_bytes(), 0), "it dies of it");
        assert!(!is_due(status(usr1, usr1, 0, usr1).as_bytes(), 0), "blocked");
        assert!(!is_due(status(usr1, 0, usr1, 0).as_bytes(), 0), "ignored");
        assert!(!is_due(status(chld, 0, 0, 0).as_bytes(), 0), "ignored by default");
        assert!(is_due(status(chld, 0, 0, chld).as_bytes(), 0));
        assert!(is_due(status(0, 0, 0, usr1).as_bytes(), libc::SIGUSR1), "being delivered");
        assert!(!is_due(b"", 0));
    }
}
