//! The arguments of a system call, and the place in the target that made it.

use aiotrace_common::{
    abi::{Abi, Syscall},
    settings::KERNEL_STACK,
};
use aya_ebpf::bindings::pt_regs;

use crate::{
    kernel,
    settings::setting,
    task::{Task, in_compat_syscall},
    user,
};

/// `CLONE_VFORK`: <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/linux/sched.h#L18>
const CLONE_VFORK: u64 = 0x4000;

/// The arguments, from registers whose type the verifier knows. If `regs` is null, from the end of
/// the kernel stack: see `Settings::registers_on_stack`.
#[inline(always)]
pub fn arguments(syscall: Syscall, abi: Abi, regs: *const pt_regs) -> [u64; 6] {
    if regs.is_null() {
        let stack = Task::current().stack();
        let regs = stack.wrapping_add(setting!(registers_on_stack) as usize);
        return arguments_at(syscall, abi, regs);
    }
    abi.meant(syscall, typed(abi, regs))
}

/// The arguments, from registers at an address of which the verifier knows nothing.
#[inline(always)]
pub fn arguments_at(syscall: Syscall, abi: Abi, regs: *const u8) -> [u64; 6] {
    abi.meant(syscall, untyped(abi, regs))
}

/// Whether the running thread makes a child, and waits until that has ended or runs another program: vfork(2), or clone(2)
/// or clone3(2) with `CLONE_VFORK`, as posix_spawn(3) has it.
#[inline(always)]
pub fn waits_for_child() -> bool {
    let Some(regs) = at_end_of_stack() else {
        return false;
    };
    let at = |offset: usize| kernel::read::<u64>(regs, offset as u32).unwrap_or(0);
    // The numbers of vfork, clone and clone3: arch/x86/entry/syscalls of the kernel.
    let (vfork, clone, first) = match in_compat_syscall() {
        true => (190, 120, at(core::mem::offset_of!(pt_regs, rbx))),
        false => (58, 56, at(core::mem::offset_of!(pt_regs, rdi))),
    };
    let flags = match at(core::mem::offset_of!(pt_regs, orig_rax)) {
        number if number == vfork => CLONE_VFORK,
        number if number == clone => first,
        435 => user::read(first).unwrap_or(0),
        _ => 0,
    };
    flags & CLONE_VFORK != 0
}

/// The registers of the running thread's system call, found by the selector of its code: `__USER_CS` or `__USER32_CS`.
#[inline(always)]
fn at_end_of_stack() -> Option<*const u8> {
    // What this kernel does not tell is larger.
    let end = KERNEL_STACK.saturating_sub(setting!(offsets.pt_regs_size));
    if end == 0 {
        return None;
    }
    let regs = Task::current().stack().wrapping_add(end as usize);
    let is_of_call = |regs: *const u8| {
        let selector: Option<u16> = kernel::read(regs, core::mem::offset_of!(pt_regs, cs) as u32);
        matches!(selector, Some(0x33 | 0x23))
    };
    // Kernels with FRED leave room behind them, `TOP_OF_KERNEL_STACK_PADDING`.
    let padded = regs.wrapping_sub(16);
    if is_of_call(regs) {
        Some(regs)
    } else if is_of_call(padded) {
        Some(padded)
    } else {
        None
    }
}

/// The target's instruction, stack and frame pointer, read as [`arguments`] reads.
#[inline(always)]
pub fn place(regs: *const pt_regs) -> [u64; 3] {
    if regs.is_null() {
        let stack = Task::current().stack();
        return place_at(stack.wrapping_add(setting!(registers_on_stack) as usize));
    }
    // SAFETY: a probe's argument; the verifier checks each access.
    unsafe { [(*regs).rip, (*regs).rsp, (*regs).rbp] }
}

/// [`place`], read as [`arguments_at`] reads.
#[inline(always)]
pub fn place_at(regs: *const u8) -> [u64; 3] {
    let at = |offset: usize| kernel::read(regs, offset as u32).unwrap_or(0);
    [
        at(core::mem::offset_of!(pt_regs, rip)),
        at(core::mem::offset_of!(pt_regs, rsp)),
        at(core::mem::offset_of!(pt_regs, rbp)),
    ]
}

/// The argument registers, unchanged.
#[inline(always)]
pub fn raw(abi: Abi, regs: *const pt_regs) -> [u64; 6] {
    typed(abi, regs)
}

#[inline(always)]
fn typed(abi: Abi, regs: *const pt_regs) -> [u64; 6] {
    // SAFETY: a probe's argument; the verifier checks each access.
    unsafe {
        if abi.is_32_bit() {
            [(*regs).rbx, (*regs).rcx, (*regs).rdx, (*regs).rsi, (*regs).rdi, (*regs).rbp]
        } else {
            [(*regs).rdi, (*regs).rsi, (*regs).rdx, (*regs).r10, (*regs).r8, (*regs).r9]
        }
    }
}

#[inline(always)]
fn untyped(abi: Abi, regs: *const u8) -> [u64; 6] {
    let at = |offset: usize| kernel::read(regs, offset as u32).unwrap_or(0);
    macro_rules! registers {
        ($($name:ident)*) => {
            [$(at(core::mem::offset_of!(pt_regs, $name))),*]
        };
    }
    if abi.is_32_bit() {
        registers!(rbx rcx rdx rsi rdi rbp)
    } else {
        registers!(rdi rsi rdx r10 r8 r9)
    }
}
