//! What is done for every AIO call: find the thread's slot, keep what is known at entry, look at
//! the ring, and hand over to the call's own module.

use aiotrace_common::{
    abi::Syscall,
    record::{Lost, Memory, RingSample, Thread, flag},
};
use aya_ebpf::{bindings::pt_regs, helpers::bpf_ktime_get_ns};

use super::{cancel, destroy, getevents, setup, submit};
use crate::{
    lost,
    records::Left,
    ring::{self, Moment},
    targets,
    task::{Task, current_kernel_ids},
    threads,
};

/// An AIO call of the 64-bit ABI is entered.
#[inline(always)]
pub fn enter(syscall: Syscall, regs: *const pt_regs) -> Result<(), Lost> {
    let time = now();
    let Some((thread, _)) = threads::current(time)? else {
        return Ok(());
    };
    if Task::current().in_compat_syscall() {
        // A 32-bit call that happens to have this number.
        return Ok(());
    }
    // SAFETY: the slot belongs to the running thread.
    let thread = unsafe { &mut *thread };
    if thread.syscall != 0 {
        lost::count(Lost::ExitMissed);
    }
    thread.syscall = syscall as u32;
    thread.entered = time;
    thread.args = arguments(regs);
    thread.unread = 0;

    // io_submit and io_destroy change what the ring will show, so it is looked at before them too.
    let sample = match syscall {
        Syscall::Submit | Syscall::Destroy => {
            let handle = thread.args[0];
            ring::sample(thread, handle, Moment::Enter, time)
        }
        _ => RingSample::UNREAD,
    };
    match syscall {
        Syscall::Submit => submit::entered(thread, sample),
        Syscall::Destroy => destroy::entered(thread, sample),
        Syscall::Getevents | Syscall::Pgetevents => getevents::entered(thread),
        Syscall::Setup | Syscall::Cancel => (),
    }
    Ok(())
}

/// An AIO call through the 32-bit entry: only counted, and only for traced processes.
#[inline(always)]
pub fn enter_compat() -> Result<(), Lost> {
    let task = Task::current();
    if !task.in_compat_syscall() {
        return Ok(());
    }
    match task.ids(current_kernel_ids()) {
        Some(ids) if targets::contain(ids.pid) => Err(Lost::Compat),
        _ => Ok(()),
    }
}

/// An AIO call is left.
#[inline(always)]
pub fn exit(syscall: Syscall, regs: *const pt_regs, ret: i64) -> Result<(), Lost> {
    let time = now();
    let Some((thread, new)) = threads::current(time)? else {
        return Ok(());
    };
    // SAFETY: the slot belongs to the running thread.
    let thread = unsafe { &mut *thread };
    let entered = thread.syscall == syscall as u32;
    let mut flags = 0;
    if !entered {
        if !targets::are_armed() {
            // The trace ends: entries are not seen any more.
            return Ok(());
        }
        let task = Task::current();
        if !new && task.in_compat_syscall() {
            return Ok(());
        }
        if thread.syscall != 0 {
            lost::count(Lost::ExitMissed);
        }
        flags = flag::NOT_ENTERED;
        if task.has_seccomp_filter() {
            flags |= flag::SECCOMP;
        }
        if !new {
            flags |= flag::KNOWN_THREAD;
        }
        // A filter answers with an errno.
        let may_be_denied = flags & flag::SECCOMP != 0 && ret < 0;
        if !new && !may_be_denied {
            lost::count(Lost::EnterMissed);
        }
        // The kernel leaves the argument registers as they were.
        thread.args = arguments(regs);
        thread.timeout_memory = Memory::Unread as u32;
        thread.ring_memory = Memory::Unread as u32;
        thread.unread = 1;
    }
    thread.syscall = 0;

    let sample = match syscall {
        Syscall::Setup | Syscall::Destroy => RingSample::UNREAD,
        _ => {
            let handle = thread.args[0];
            ring::sample(thread, handle, Moment::Exit, time)
        }
    };
    let left = Left { syscall, time, ret, flags, entered };
    match syscall {
        Syscall::Setup => setup::left(thread, &left),
        Syscall::Destroy => destroy::left(thread, &left),
        Syscall::Submit => submit::left(thread, &left, sample),
        Syscall::Cancel => cancel::left(thread, &left, sample),
        Syscall::Getevents | Syscall::Pgetevents => getevents::left(thread, &left, sample),
    }
    Ok(())
}

#[inline(always)]
fn arguments(regs: *const pt_regs) -> [u64; 6] {
    // SAFETY: a tracepoint argument; the verifier checks each access.
    unsafe { [(*regs).rdi, (*regs).rsi, (*regs).rdx, (*regs).r10, (*regs).r8, (*regs).r9] }
}

/// CLOCK_MONOTONIC, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// The sample of the ring that the thread's slot keeps from entry to exit.
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
    if value == Memory::Read as u32 { Memory::Read } else { Memory::Unread }
}
