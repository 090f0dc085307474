//! The arguments of a system call, and the place in the target that made it.

use aiotrace_common::{
    abi::{Abi, Syscall},
    arch::Place,
};
pub use aiotrace_ebpf::arch::{Registers, waits_for_child};
use aiotrace_ebpf::arch::{typed, typed_place, untyped, untyped_place};

use crate::{settings::setting, task::Task};

/// The number of a system call, from registers whose type the verifier knows.
#[inline(always)]
pub fn number(regs: *const Registers) -> u64 {
    // SAFETY: a probe's argument; the verifier checks the access.
    unsafe { aiotrace_ebpf::arch::number(regs) }
}

/// The arguments, from registers whose type the verifier knows. If `regs` is null, from the end of
/// the kernel stack: see `Settings::registers_on_stack`.
#[inline(always)]
pub fn arguments(syscall: Syscall, abi: Abi, regs: *const Registers) -> [u64; 6] {
    if regs.is_null() {
        let stack = Task::current().stack();
        let regs = stack.wrapping_add(setting!(registers_on_stack) as usize);
        return arguments_at(syscall, abi, regs);
    }
    abi.meant(syscall, raw(abi, regs))
}

/// The arguments, from registers at an address of which the verifier knows nothing.
#[inline(always)]
pub fn arguments_at(syscall: Syscall, abi: Abi, regs: *const u8) -> [u64; 6] {
    abi.meant(syscall, untyped(abi, regs))
}

/// The target's place, read as [`arguments`] reads.
#[inline(always)]
pub fn place(regs: *const Registers) -> Place {
    if regs.is_null() {
        let stack = Task::current().stack();
        return place_at(stack.wrapping_add(setting!(registers_on_stack) as usize));
    }
    // SAFETY: a probe's argument; the verifier checks each access.
    unsafe { typed_place(regs) }
}

/// [`place`], read as [`arguments_at`] reads.
#[inline(always)]
pub fn place_at(regs: *const u8) -> Place {
    untyped_place(regs)
}

/// The argument registers, unchanged.
#[inline(always)]
pub fn raw(abi: Abi, regs: *const Registers) -> [u64; 6] {
    // SAFETY: a probe's argument; the verifier checks each access.
    unsafe { typed(abi, regs) }
}
