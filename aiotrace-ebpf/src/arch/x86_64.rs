//! Registers of x86-64.

use core::mem::offset_of;

use aiotrace_common::{
    abi::Abi,
    arch::{KERNEL_STACK, Place},
};
use aya_ebpf::bindings::pt_regs;

use super::{CLONE_VFORK, word};
use crate::{
    kernel, setting,
    task::{Task, in_compat_syscall},
    user,
};

/// The registers of a system call.
pub type Registers = pt_regs;

/// The number of the system call.
///
/// # Safety
/// The registers are a probe's argument; the verifier checks each access.
#[inline(always)]
pub unsafe fn number(regs: *const Registers) -> u64 {
    // SAFETY: as above.
    unsafe { (*regs).orig_rax }
}

/// The ABI of a call, of which the probe at the function that serves it knows this one.
#[inline(always)]
pub fn abi_served(abi: Abi) -> Abi {
    abi
}

/// The argument registers.
///
/// # Safety
/// As for [`number`].
#[inline(always)]
pub unsafe fn typed(abi: Abi, regs: *const Registers) -> [u64; 6] {
    // SAFETY: as above.
    unsafe {
        if abi.is_32_bit() {
            [(*regs).rbx, (*regs).rcx, (*regs).rdx, (*regs).rsi, (*regs).rdi, (*regs).rbp]
        } else {
            [(*regs).rdi, (*regs).rsi, (*regs).rdx, (*regs).r10, (*regs).r8, (*regs).r9]
        }
    }
}

/// The argument registers, at an address of which the verifier knows nothing.
#[inline(always)]
pub fn untyped(abi: Abi, regs: *const u8) -> [u64; 6] {
    macro_rules! registers {
        ($($name:ident)*) => {
            [$(word(regs, offset_of!(pt_regs, $name))),*]
        };
    }
    if abi.is_32_bit() {
        registers!(rbx rcx rdx rsi rdi rbp)
    } else {
        registers!(rdi rsi rdx r10 r8 r9)
    }
}

/// The place of the call.
///
/// # Safety
/// As for [`number`].
#[inline(always)]
pub unsafe fn typed_place(regs: *const Registers) -> Place {
    // SAFETY: as above.
    unsafe { Place { ip: (*regs).rip, sp: (*regs).rsp, bp: (*regs).rbp, link: [] } }
}

/// The place of the call, from registers at an address of which the verifier knows nothing.
#[inline(always)]
pub fn untyped_place(regs: *const u8) -> Place {
    Place {
        ip: word(regs, offset_of!(pt_regs, rip)),
        sp: word(regs, offset_of!(pt_regs, rsp)),
        bp: word(regs, offset_of!(pt_regs, rbp)),
        link: [],
    }
}

/// Whether the running thread makes a child, and waits until that has ended or runs another program: vfork(2), or clone(2)
/// or clone3(2) with `CLONE_VFORK`, as posix_spawn(3) has it.
#[inline(always)]
pub fn waits_for_child() -> bool {
    let Some(regs) = at_end_of_stack() else {
        return false;
    };
    // The numbers of vfork, clone and clone3: arch/x86/entry/syscalls of the kernel.
    let (vfork, clone, first) = match in_compat_syscall() {
        true => (190, 120, word(regs, offset_of!(pt_regs, rbx))),
        false => (58, 56, word(regs, offset_of!(pt_regs, rdi))),
    };
    let flags = match word(regs, offset_of!(pt_regs, orig_rax)) {
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
        let selector: Option<u16> = kernel::read(regs, offset_of!(pt_regs, cs) as u32);
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
