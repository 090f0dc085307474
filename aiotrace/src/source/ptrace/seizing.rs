//! PTRACE_SEIZE with a limit on the time that it may wait.
//!
//! It waits while the process begins a program: for the file system of that program, and for the other threads of the
//! process to end. Threads that we trace already end only when we have waited for them, so without a limit it could
//! wait for us (`cred_guard_mutex`, <https://elixir.bootlin.com/linux/v6.12/source/kernel/ptrace.c#L421>). A signal
//! ends the wait, but then the kernel makes the call again (ERESTARTNOINTR); so the handler of the signal moves the
//! thread past the call.

use std::{mem::MaybeUninit, ptr, time::Duration};

use nix::{errno::Errno, sys::signal::SigSet};

use crate::arch::{LENGTH, Word, ip_of, result_of};

/// How long the call may take.
const PATIENCE: Duration = Duration::from_millis(100);
/// The time after which the signal comes again, in case it came a moment before the call.
const AGAIN: Duration = Duration::from_millis(20);

unsafe extern "C" {
    /// Makes the ptrace(2) call, and returns what the kernel returns.
    fn aiotrace_seize(request: u64, tid: u64, address: u64, data: u64) -> i64;
    /// The instruction that enters the kernel; the thread is there also when the call is to be made again.
    static aiotrace_seize_call: u8;
}

/// Ends the call, if the thread is in it.
extern "C" fn end_call(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives the context of this thread, which nobody else uses.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let call = (&raw const aiotrace_seize_call) as Word;
    if *ip_of(context) == call {
        *ip_of(context) = call + LENGTH as Word;
        *result_of(context) = -i64::from(libc::EINTR) as Word;
    }
}

/// Seizes threads, for the thread that created it.
pub struct Seizing {
    timer: libc::timer_t,
}

impl Seizing {
    /// Makes a timer for the calling thread.
    ///
    /// # Errors
    /// The kernel has no timer left.
    pub fn new() -> Result<Self, Errno> {
        let signal = libc::SIGRTMIN();
        // Our parent may have blocked the signal.
        let mut set = SigSet::empty();
        // SAFETY: the set lives long enough, and the signal exists.
        unsafe {
            let mut mask: libc::sigset_t = *set.as_ref();
            libc::sigaddset(&raw mut mask, signal);
            set = SigSet::from_sigset_t_unchecked(mask);
        }
        set.thread_unblock()?;
        // SAFETY: the structures are complete, and the handler changes only the registers that it is given.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = end_call as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            Errno::result(libc::sigaction(signal, &raw const action, ptr::null_mut()))?;
            let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = ptr::null_mut();
            Errno::result(libc::timer_create(
                libc::CLOCK_MONOTONIC,
                &raw mut event,
                &raw mut timer,
            ))?;
            Ok(Self { timer })
        }
    }

    /// Traces a thread without stopping it.
    ///
    /// # Errors
    /// Those of the kernel; `EINTR` if the call takes too long.
    pub fn seize(&self, tid: u32, options: i32) -> Result<(), Errno> {
        self.set(PATIENCE, AGAIN)?;
        let (request, tid, options) =
            (libc::PTRACE_SEIZE as u64, u64::from(tid), u64::from(options.cast_unsigned()));
        // SAFETY: no memory is involved.
        let ret = unsafe { aiotrace_seize(request, tid, 0, options) };
        self.set(Duration::ZERO, Duration::ZERO)?;
        if ret < 0 { Err(Errno::from_raw(-ret as i32)) } else { Ok(()) }
    }

    /// Sets when the signal comes first, and after which time it comes again and again; zero: it does not come.
    fn set(&self, after: Duration, again: Duration) -> Result<(), Errno> {
        let time = |it: Duration| libc::timespec {
            tv_sec: it.as_secs().cast_signed(),
            tv_nsec: it.subsec_nanos().into(),
        };
        let when = libc::itimerspec { it_value: time(after), it_interval: time(again) };
        // SAFETY: the timer is ours, and the structure lives long enough.
        let ret = unsafe { libc::timer_settime(self.timer, 0, &raw const when, ptr::null_mut()) };
        Errno::result(ret).map(drop)
    }
}

impl Drop for Seizing {
    fn drop(&mut self) {
        // SAFETY: the timer is ours, and nobody uses it any more.
        unsafe { libc::timer_delete(self.timer) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_takes_a_thread_out_of_the_call_and_out_of_nothing_else() {
        // SAFETY: all zeros are valid registers.
        let mut context: libc::ucontext_t = unsafe { MaybeUninit::zeroed().assume_init() };
        let call = (&raw const aiotrace_seize_call) as Word;
        let next = call + LENGTH as Word;
        for (at, then) in [(call, (next, -4i64 as Word)), (next, (next, 7))] {
            (*ip_of(&mut context), *result_of(&mut context)) = (at, 7);
            end_call(0, ptr::null_mut(), (&raw mut context).cast());
            assert_eq!((*ip_of(&mut context), *result_of(&mut context)), then);
        }
    }

    #[test]
    fn other_calls_go_on_and_what_is_not_there_is_said() {
        let seizing = Seizing::new().unwrap();
        assert_eq!(seizing.seize(4_194_305, 0), Err(Errno::ESRCH));
        // The signal comes to this thread, even if it was blocked.
        seizing.set(Duration::from_millis(1), Duration::from_millis(1)).unwrap();
        let long = libc::timespec { tv_sec: 60, tv_nsec: 0 };
        // SAFETY: the time lives long enough; a null pointer says that the rest is not wanted.
        let ret = unsafe { libc::nanosleep(&raw const long, ptr::null_mut()) };
        assert_eq!((ret, Errno::last()), (-1, Errno::EINTR));
        seizing.set(Duration::ZERO, Duration::ZERO).unwrap();
    }
}
