//! Synchronous calls. They are recorded after a fault or a short io_submit, until aiotrace says
//! that it knows what became of the requests. `sys_exit`, which sees every call return anyway,
//! records them.

use aiotrace_common::{
    abi::{Abi, Syscall},
    fault::effect,
    names,
    record::{Header, Kind, Memory, Synchronous, Thread, flag},
    synchronous::Call,
};
use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};

use crate::{
    probes::{calls::now, vectors::With},
    registers::{self, Registers},
    settings::setting,
    switches, targets,
    task::{Task, current_kernel_ids, in_compat_syscall},
};

/// Two times, in nanoseconds of CLOCK_MONOTONIC. Only the probes write the first: when a call last
/// gave a reason to watch. Only aiotrace writes the second: up to when it knows what became of all
/// requests.
#[map]
static WATCH: Array<u64> = Array::with_max_entries(names::WATCH_WORDS, 0);

/// Where the record of a call is built.
#[map]
static SYNCHRONOUS_SCRATCH: PerCpuArray<With<Synchronous>> = PerCpuArray::with_max_entries(1, 0);

/// Whether synchronous calls are recorded at present. Every system call of the machine asks this.
#[inline(always)]
pub fn are_told() -> bool {
    match WATCH.get(names::WATCH_PROVOKED) {
        None | Some(0) => false,
        Some(provoked) => WATCH.get(names::WATCH_SETTLED).is_none_or(|settled| provoked > settled),
    }
}

/// Requests are left undone from this time on: a reason to record synchronous calls.
#[inline(always)]
pub fn provoke(time: u64) {
    if let Some(provoked) = WATCH.get_ptr_mut(names::WATCH_PROVOKED) {
        // SAFETY: a number in a map. If two threads write at once, either time will do: aiotrace
        // does not say "settled" past the one without knowing of the other.
        unsafe { *provoked = time };
    }
}

/// An io_submit returns: looks whether that is a reason to record synchronous calls.
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

/// A system call that is no AIO call returns, while synchronous calls are recorded.
#[inline(always)]
pub fn left(regs: *const Registers, number: u64, ret: i64) {
    let abi = if in_compat_syscall() { Abi::Compat } else { Abi::Native };
    let Some(call) = Call::from_number(abi, number) else { return };
    if !switches::are_armed() {
        return;
    }
    let kernel = current_kernel_ids();
    let Some(ids) = Task::current().ids(kernel) else { return };
    // Only processes that make AIO calls, or that were named as targets.
    if !targets::is_known(ids.pid) {
        return;
    }
    let args = registers::raw(abi, regs);
    if !call.is_told(&args, ret) {
        return;
    }
    let task = Task::current();
    let fd = call.fd(&args);
    let offset = match call.offset(abi, &args) {
        // The call started at the position before the bytes that it moved.
        None if ret >= 0 && call.is_at_position(abi, &args) => {
            task.position(fd).map(|it| it.wrapping_sub(ret)).filter(|it| *it >= 0)
        }
        offset => offset,
    };
    // (Two numbers: compilers spill the word of an `Option` that is not there, and the verifier refuses that.)
    let (offset, placed) = match offset {
        Some(offset) => (offset, Memory::Read),
        None => (0, Memory::Unread),
    };
    let count = call.count(abi, &args);
    let memory = call.memory(abi, &args);
    let time = now();
    let narrow = abi.is_32_bit();
    let flags = if narrow { flag::COMPAT } else { 0 };
    let header =
        Header { kind: Kind::Synchronous, flags, seq: 0, time, pid: ids.pid, tid: ids.tid };
    let Some(scratch) = SYNCHRONOUS_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: scratch memory of this CPU and program.
    let scratch = unsafe { &mut *scratch };
    let vectors = match call.is_vectored() {
        true => scratch.read(memory, count, narrow),
        false => scratch.empty(),
    };
    scratch.record =
        Synchronous { header, entered: 0, offset, memory, count, ret, call, fd, placed, vectors };
    scratch.send(narrow);
}
