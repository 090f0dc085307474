//! The work that every AIO call takes: find the thread's slot, keep what is known at the entry,
//! look at the ring, and hand over to the module of the call.

use aiotrace_common::{
    abi::{Abi, Syscall},
    arch::Place,
    record::{Lost, Memory, NewEntries, RingSample, Thread, flag},
};
use aya_ebpf::helpers::bpf_ktime_get_ns;

use super::{cancel, count, destroy, getevents, setup, submit, synchronous};
use crate::{
    faults, lost,
    records::Left,
    ring::{self, Moment},
    settings::setting,
    stack, switches,
    task::{Task, current_kernel_ids, in_compat_syscall},
    threads,
};

/// An AIO call is entered with these arguments, from this place in the target. Returns the thread's
/// slot, if the call is to be recorded or counted.
#[inline(always)]
pub fn enter(
    syscall: Syscall,
    abi: Abi,
    arguments: impl FnOnce() -> [u64; 6],
    place: impl FnOnce() -> Place,
) -> Result<Option<&'static mut Thread>, Lost> {
    let Some((thread, _)) = threads::current(abi)? else {
        return Ok(None);
    };
    if in_compat_syscall() != abi.is_32_bit() {
        // A call of the other table that only has the number of an AIO call.
        return Ok(None);
    }
    if !switches::are_armed() {
        // The probes are being detached, one after the other, which takes seconds on some kernels:
        // nobody knows which part of a call that begins now will still be seen.
        return Ok(None);
    }
    let time = now();
    // SAFETY: the slot belongs to the running thread.
    let thread = unsafe { &mut *thread };
    if thread.syscall != 0 {
        lost::count(Lost::ExitMissed);
    }
    thread.syscall = syscall as u32;
    thread.abi = abi as u32;
    thread.entered = time;
    thread.args = arguments();
    thread.unread = 0;
    thread.left = 0;
    faults::forget(thread);
    if setting!(count_requests) != 0 && matches!(syscall, Syscall::Submit) {
        count::begin_requests_of(thread);
    }
    if setting!(counting) != 0 && count::is_counted_only(thread, syscall) {
        thread.told = 0;
        // If the call is recorded after all, its iocbs are read when it returns.
        thread.unread = 1;
        thread.timeout_memory = Memory::Unread as u32;
        thread.ring_memory = Memory::Unread as u32;
        return Ok(Some(thread));
    }
    thread.told = 1;

    if !abi.is_32_bit() {
        stack::entered(thread, syscall, place);
    }
    // io_submit and io_destroy change what the ring will show, so look at the ring before them,
    // too.
    let sample = match syscall {
        Syscall::Submit | Syscall::Destroy => {
            if matches!(syscall, Syscall::Destroy) {
                // No later look could send what this one does not send.
                thread.looked_at = 0;
            }
            ring::sample(thread, Moment::Enter, syscall, abi, time)
        }
        _ => RingSample::UNREAD,
    };
    if matches!(syscall, Syscall::Submit) {
        ring::submits(thread);
    }
    match syscall {
        Syscall::Submit => submit::entered(thread, sample),
        Syscall::Destroy => destroy::entered(thread, sample),
        Syscall::Getevents | Syscall::Pgetevents => getevents::entered(thread),
        Syscall::Setup | Syscall::Cancel => (),
    }
    Ok(Some(thread))
}

/// What to do about a call whose entry was not seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// Record it: it was denied, or it began before aiotrace attached.
    Tell,
    /// Count a loss: this probe sees only calls that begin after the attach, so an entry was
    /// missed.
    Missed,
    /// Leave it to the probe that uses `Tell`: here its arguments are unknown.
    Ignore,
}

/// Whether a trampoline or kprobe has already seen the return of the running thread's call. This
/// clears the mark, so it is asked once for each call.
#[inline(always)]
pub fn was_left(abi: Abi) -> bool {
    let Some(thread) = threads::of(current_kernel_ids().tid) else {
        return false;
    };
    // SAFETY: the slot belongs to the running thread.
    let thread = unsafe { &mut *thread };
    let left = thread.left != 0 && thread.abi == abi as u32;
    if left {
        thread.left = 0;
    }
    left
}

/// An AIO call returns. (A call for whose thread there was no slot was counted as lost at its
/// entry, and is not counted again. One without a slot that was not seen entered, because it began
/// before the attach or was denied, is not counted in that case.)
#[inline(always)]
pub fn exit(
    syscall: Syscall,
    abi: Abi,
    arguments: impl FnOnce() -> [u64; 6],
    ret: i64,
    unseen: Unseen,
) {
    // A probe that does not record this call must not make a slot: the probe that does record it
    // would then take the thread for a known one, and its call for one whose entry was missed.
    let found = if unseen == Unseen::Ignore {
        threads::known().map(|thread| (thread, false))
    } else {
        threads::current(abi).unwrap_or_default()
    };
    let Some((thread, new)) = found else { return };
    let time = now();
    // SAFETY: the slot belongs to the running thread.
    let thread = unsafe { &mut *thread };
    let entered = thread.syscall == syscall as u32 && thread.abi == abi as u32;
    let mut flags = if abi.is_32_bit() { flag::COMPAT } else { 0 };
    if !entered {
        if unseen == Unseen::Ignore || !switches::are_armed() {
            // Or the trace is ending: entries are not recorded any more.
            return;
        }
        if !new && in_compat_syscall() != abi.is_32_bit() {
            return;
        }
        if thread.syscall != 0 {
            lost::count(Lost::ExitMissed);
        }
        flags |= flag::NOT_ENTERED;
        if Task::current().has_seccomp_filter() {
            flags |= flag::SECCOMP;
        }
        if !new {
            flags |= flag::KNOWN_THREAD;
        }
        // A seccomp filter answers with an errno, before the call reaches a trampoline:
        // <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/entry/common.c?h=v6.12.117#n54>
        let may_be_denied = unseen == Unseen::Tell && flags & flag::SECCOMP != 0 && ret < 0;
        if !new && !may_be_denied {
            lost::count(Lost::EnterMissed);
        }
        faults::forget(thread);
        // The kernel leaves the argument registers unchanged.
        thread.args = arguments();
        thread.abi = abi as u32;
        thread.timeout_memory = Memory::Unread as u32;
        thread.ring_memory = Memory::Unread as u32;
        thread.unread = 1;
    }
    synchronous::call_left(thread, syscall, ret, time);
    thread.syscall = 0;
    let tells = unseen == Unseen::Tell;
    thread.left = !tells as u32;
    if setting!(counting) != 0 {
        let took = if entered { time.wrapping_sub(thread.entered) } else { count::UNSEEN };
        count::left(thread, syscall, ret, (time, took));
        if entered && thread.told == 0 && !count::is_told_after_all(thread, syscall, ret, took) {
            return;
        }
    }

    let moment = if tells { Moment::AnyExit } else { Moment::Exit };
    let (sample, new) = match syscall {
        Syscall::Setup | Syscall::Destroy => (RingSample::UNREAD, NewEntries::NONE),
        Syscall::Submit => {
            let more = ring::submitted(thread, entered, ret);
            ring::sample_and_new(thread, moment, syscall, abi, time, more)
        }
        _ => (ring::sample(thread, moment, syscall, abi, time), NewEntries::NONE),
    };
    let left = Left { syscall, time, ret, flags, entered, tells };
    match syscall {
        Syscall::Setup => setup::left(thread, &left),
        Syscall::Destroy => destroy::left(thread, &left),
        Syscall::Submit => submit::left(thread, &left, sample, new),
        Syscall::Cancel => cancel::left(thread, &left, sample),
        Syscall::Getevents | Syscall::Pgetevents => getevents::left(thread, &left, sample),
    }
}

/// CLOCK_MONOTONIC, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Keeps a sample of the ring in the thread's slot from entry to exit.
#[inline(always)]
pub fn keep_sample(thread: &mut Thread, sample: RingSample) {
    thread.ring_words = [sample.head, sample.tail];
    thread.ring_nr = sample.nr;
    thread.ring_memory = sample.memory as u32;
}

/// The sample that [`keep_sample`] kept.
#[inline(always)]
pub fn kept_sample(thread: &Thread) -> RingSample {
    RingSample {
        head: thread.ring_words[0],
        tail: thread.ring_words[1],
        nr: thread.ring_nr,
        memory: memory(thread.ring_memory),
    }
}

/// The [`Memory`] for its number in the slot.
#[inline(always)]
pub fn memory(value: u32) -> Memory {
    match value {
        1 => Memory::Read,
        2 => Memory::ReadLate,
        _ => Memory::Unread,
    }
}
