//! What is done for every AIO call: find the thread's slot, keep what is known at entry, look at
//! the ring, and hand over to the call's own module.

use aiotrace_common::{
    abi::{Abi, Syscall},
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

/// An AIO call is entered with these arguments, from this place in the program. Gives the thread's slot, if
/// the call is one that is seen.
#[inline(always)]
pub fn enter(
    syscall: Syscall,
    abi: Abi,
    arguments: impl FnOnce() -> [u64; 6],
    place: impl FnOnce() -> [u64; 3],
) -> Result<Option<&'static mut Thread>, Lost> {
    let Some((thread, _)) = threads::current(abi)? else {
        return Ok(None);
    };
    if in_compat_syscall() != abi.is_32_bit() {
        // A call of the other table that happens to have this number.
        return Ok(None);
    }
    if !switches::are_armed() {
        // The probes are being detached, one after the other, which takes seconds on some kernels: of a call
        // that begins now, nobody knows what will still be seen.
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
        // If it is told after all, then when it returns.
        thread.unread = 1;
        thread.timeout_memory = Memory::Unread as u32;
        thread.ring_memory = Memory::Unread as u32;
        return Ok(Some(thread));
    }
    thread.told = 1;

    if !abi.is_32_bit() {
        stack::entered(thread, syscall, place);
    }
    // io_submit and io_destroy change what the ring will show, so it is looked at before them too.
    let sample = match syscall {
        Syscall::Submit | Syscall::Destroy => {
            if matches!(syscall, Syscall::Destroy) {
                // There is no later look that could send what this one leaves.
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

/// What to make of a call that was not seen entered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// Tell it: it was denied, or began before us.
    Tell,
    /// That cannot be: its beginning was missed.
    Missed,
    /// Leave it to the program that tells: here its arguments are not known.
    Ignore,
}

/// Whether the running thread's call was already seen left, by a trampoline. Asked once for each.
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

/// An AIO call is left. (One that has no slot was counted as lost when it was entered, and is not counted again. One that
/// was not entered, because it began before the attach or was denied, is not counted then.)
#[inline(always)]
pub fn exit(
    syscall: Syscall,
    abi: Abi,
    arguments: impl FnOnce() -> [u64; 6],
    ret: i64,
    unseen: Unseen,
) {
    // A slot made by a program that does not tell the call would have the one that does take the call for one of
    // a thread that is known, whose beginning was missed.
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
            // Or the trace ends: entries are not seen any more.
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
        // A filter answers with an errno, and a trampoline is not reached then.
        let may_be_denied = unseen == Unseen::Tell && flags & flag::SECCOMP != 0 && ret < 0;
        if !new && !may_be_denied {
            lost::count(Lost::EnterMissed);
        }
        faults::forget(thread);
        // The kernel leaves the argument registers as they were.
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

/// CLOCK_MONOTONIC, nanoseconds.
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

/// That sample.
#[inline(always)]
pub fn kept_sample(thread: &Thread) -> RingSample {
    RingSample {
        head: thread.ring_words[0],
        tail: thread.ring_words[1],
        nr: thread.ring_nr,
        memory: memory(thread.ring_memory),
    }
}

/// Back from the number in the slot.
#[inline(always)]
pub fn memory(value: u32) -> Memory {
    match value {
        1 => Memory::Read,
        2 => Memory::ReadLate,
        _ => Memory::Unread,
    }
}
