//! Whether a signal is about to interrupt a tracee.
//!
//! A traced thread is also woken by signals that it ignores ([`sig_ignored`][signal.c]), and by our own requests.
//! Then a call that never starts again by itself returns EINTR, which the program must not see.
//!
//! [signal.c]: https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/signal.c?h=v6.12.117#n104

use nix::errno::Errno;

use crate::{
    arch::{AGAIN_IN_32_BIT, AGAIN_IN_64_BIT, Before, Ended, Registers, WRITE},
    errand::{self, Errand as _, Status},
    proc::status_field,
};

/// Whether a signal that makes calls fail with EINTR is about to be delivered. `taken`: a signal that is being
/// delivered now, or 0.
pub fn interrupts(pid: u32, tid: u32, taken: i32) -> bool {
    // Who gets no answer does not know: the program sees EINTR, which it may get at any time, rather than a call that
    // swallows a signal.
    Status { pid, tid }.ask().flatten().is_none_or(|status| is_due(&status, taken))
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

/// If the stopped thread returns EINTR from a call and no signal asks for that, lets it make the call again, and
/// returns whether it did.
///
/// `before`: the call that the thread was in before it was stopped, where the architecture needs that.
///
/// # Errors
/// The thread is dead.
pub fn undo(pid: u32, tid: u32, taken: i32, before: Option<&Before>) -> Result<bool, Errno> {
    let mut registers = Registers::of(tid)?;
    let known = if registers.is_32_bit() { AGAIN_IN_32_BIT } else { AGAIN_IN_64_BIT };
    let Some(ended) = registers.ended(before) else { return Ok(false) };
    let is_interrupted = ended.ret == -i64::from(libc::EINTR) && known.contains(&ended.number);
    if !is_interrupted || interrupts(pid, tid, taken) {
        return Ok(false);
    }
    registers.make_again(&ended);
    registers.put(tid)?;
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
    let mut registers = Registers::of(tid)?;
    // The number of no call: the thread would make that one when it is back.
    let is_none = registers.number() < 0;
    // If that cannot be found out, the thread may have a filter.
    if is_none || errand::has_thread_filter(pid, tid) != Some(false) {
        return Ok(false);
    }
    registers.put_off();
    registers.put(tid)?;
    Ok(true)
}

/// Whether the stopped thread returns from write(2) or send(2) with less than it was given, as such a call does when
/// it has to wait and is interrupted, also by a stop. What it has written cannot be taken back. (writev(2) and the
/// like have their lengths in memory, which is not read for this.)
pub fn is_cut_short(registers: &Registers, ended: Option<&Ended>) -> bool {
    let Some(Ended { number, args, ret }) = ended else { return false };
    let is_less = u64::try_from(*ret).is_ok_and(|it| it > 0 && it < args[2]);
    WRITE[usize::from(registers.is_32_bit())].contains(number) && is_less
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_made_again_is_there_once() {
        for calls in [AGAIN_IN_64_BIT, AGAIN_IN_32_BIT] {
            let mut sorted = calls.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), calls.len());
        }
        let close = (libc::SYS_close as u64, 6);
        assert!(!AGAIN_IN_64_BIT.contains(&close.0) && !AGAIN_IN_32_BIT.contains(&close.1));
        for call in [libc::SYS_recvfrom, libc::SYS_accept4, libc::SYS_io_uring_enter] {
            assert!(AGAIN_IN_64_BIT.contains(&(call as u64)));
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
