//! Signals of a tracee: whether one of them is about to interrupt it.
//!
//! A traced thread is woken also by signals that it ignores (`sig_ignored` of kernel/signal.c), and by our
//! own requests; then a call that never starts again by itself returns EINTR, and the program must not see
//! that.

use std::fs;

use nix::errno::Errno;

use super::requests;
use crate::process::status_field;

/// Whether a signal is about to be delivered that makes calls fail with EINTR; `taken`: one that is being
/// delivered now, or 0.
pub fn interrupts(pid: u32, tid: u32, taken: i32) -> bool {
    let status = fs::read(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    is_due(&status, taken)
}

fn is_due(status: &[u8], taken: i32) -> bool {
    let mask = |name| {
        let text = status_field(status, name)?;
        u64::from_str_radix(text, 16).ok()
    };
    let of = |name| mask(name).unwrap_or(0);
    let bit = |signal: i32| if signal > 0 { 1u64 << (signal - 1) } else { 0 };
    // By default nothing happens.
    let harmless = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let harmless = harmless.into_iter().fold(0, |all, signal| all | bit(signal));
    let ignored = of("SigIgn") | harmless & !of("SigCgt");
    let pending = (of("SigPnd") | of("ShdPnd")) & !of("SigBlk");
    (pending | bit(taken)) & !ignored != 0
}

/// Calls that fail with EINTR whenever they are interrupted, also by a stop, and may simply be made again:
/// io_getevents, epoll_wait, epoll_pwait, epoll_pwait2, rt_sigtimedwait, semop, semtimedop.
const IN_64_BIT: [u64; 7] = [208, 232, 281, 441, 128, 65, 220];
/// The same for 32-bit programs, without `ipc`.
const IN_32_BIT: [u64; 8] = [247, 256, 319, 441, 177, 421, 420, 392];

/// "Make it again, unless a handler runs": `ERESTARTNOHAND` of include/linux/errno.h.
pub const RESTART: i64 = -514;

/// If the stopped thread returns EINTR from a call and no signal asks for that, lets it make the call again.
/// Whether that was so.
///
/// It gets [`RESTART`], so that the kernel decides, when it has looked at all signals: one that comes after we
/// looked still interrupts.
///
/// # Errors
/// It is dead.
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

/// Whether it runs 32-bit code.
pub fn is_32_bit(registers: &libc::user_regs_struct) -> bool {
    /// `__USER32_CS` of arch/x86/include/asm/segment.h.
    const USER_32: u64 = 0x23;
    registers.cs == USER_32
}

#[cfg(test)]
mod tests {
    use super::*;

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
