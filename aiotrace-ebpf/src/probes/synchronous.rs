//! Synchronous calls: told after a fault or a short io_submit, until the program says that it is settled what became of the
//! requests. The program that sees every call left tells them: it is there anyway.

use aiotrace_common::{
    abi::{Abi, Syscall},
    fault::effect,
    names,
    record::{Header, Kind, Memory, Synchronous, Thread},
    synchronous::{Call, Does},
};
use aya_ebpf::{bindings::pt_regs, macros::map, maps::Array};

use crate::{
    probes::calls::now,
    records::emit,
    registers,
    settings::setting,
    switches, targets,
    task::{Task, current_kernel_ids, in_compat_syscall},
};

/// Two times, nanoseconds of CLOCK_MONOTONIC: when a call was the last reason to watch, which only the probes write; and up to
/// when all is settled, which only the program writes.
#[map]
static WATCH: Array<u64> = Array::with_max_entries(names::WATCH_WORDS, 0);

/// Whether synchronous calls are told now. Every system call of the machine comes by here.
#[inline(always)]
pub fn are_told() -> bool {
    match WATCH.get(names::WATCH_PROVOKED) {
        None | Some(0) => false,
        Some(provoked) => WATCH.get(names::WATCH_SETTLED).is_none_or(|settled| provoked > settled),
    }
}

/// Requests are left undone from this time on.
#[inline(always)]
pub fn provoke(time: u64) {
    if let Some(provoked) = WATCH.get_ptr_mut(names::WATCH_PROVOKED) {
        // SAFETY: a number in a map. Of two threads that write at once, either will do: what is settled up to the
        // one is not settled up to the other, unless that is known, too.
        unsafe { *provoked = time };
    }
}

/// A call is left: whether that is a reason.
#[inline(always)]
pub fn call_left(thread: &Thread, syscall: Syscall, ret: i64, time: u64) {
    if setting!(counting) != 0 || !matches!(syscall, Syscall::Submit) {
        return;
    }
    let is_fault = thread.fault != 0 && thread.fault & (effect::DRY_RUN | effect::MISSED) == 0;
    let is_short = ret > 0 && ret < thread.args[1] as i64;
    if is_short || (is_fault && ret < 0) {
        provoke(time);
    }
}

/// A system call that is not AIO is left, while synchronous calls are told.
#[inline(always)]
pub fn left(regs: *const pt_regs, number: u64, ret: i64) {
    let abi = if in_compat_syscall() { Abi::I386 } else { Abi::X86_64 };
    let Some(call) = Call::from_number(abi, number) else { return };
    if !switches::are_armed() {
        return;
    }
    let kernel = current_kernel_ids();
    let Some(ids) = Task::current().ids(kernel) else { return };
    // Those that make AIO calls, or are listed.
    if !targets::is_known(ids.pid) {
        return;
    }
    let args = registers::raw(abi, regs);
    if matches!(call.does(), Does::Close) && !call.gave_up(&args, ret) {
        return;
    }
    let task = Task::current();
    let fd = call.fd(&args);
    let offset = match call.offset(abi, &args) {
        // Behind what was just moved.
        None if ret >= 0 && call.is_placed() => {
            task.position(fd).map(|it| it.wrapping_sub(ret)).filter(|it| *it >= 0)
        }
        offset => offset,
    };
    let count = call.count(abi, &args);
    let time = now();
    let header =
        Header { kind: Kind::Synchronous, flags: 0, seq: 0, time, pid: ids.pid, tid: ids.tid };
    emit(|record: *mut Synchronous| {
        // SAFETY: room in the ring buffer.
        unsafe {
            *record = Synchronous {
                header,
                entered: 0,
                offset: offset.unwrap_or(0),
                count,
                ret,
                call,
                fd,
                placed: if offset.is_some() { Memory::Read } else { Memory::Unread },
                reserved: 0,
            };
        }
    });
}
