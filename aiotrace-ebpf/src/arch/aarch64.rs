//! Registers of arm64.

use core::mem::offset_of;

use aiotrace_common::{
    abi::Abi,
    arch::{KERNEL_STACK, Place},
};

use super::{CLONE_VFORK, word};
use crate::{
    kernel, setting,
    task::{Task, in_compat_syscall},
    user,
};

/// The registers of a system call: the beginning of `struct pt_regs`.
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/include/asm/ptrace.h#L160>
#[repr(C)]
pub struct Registers {
    regs: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    /// The first argument of the call: its result takes the place of the argument in `regs`.
    orig_x0: u64,
    syscallno: i32,
}

/// The places of the frame pointer and of the link register among the registers.
const FRAME: usize = 29;
const LINK: usize = 30;

const fn at(register: usize) -> usize {
    offset_of!(Registers, regs) + register * size_of::<u64>()
}

/// The number of the system call.
///
/// # Safety
/// The registers are a probe's argument; the verifier checks each access.
#[inline(always)]
pub unsafe fn number(regs: *const Registers) -> u64 {
    // SAFETY: as above.
    unsafe { (*regs).syscallno as u64 }
}

/// The ABI of a call, of which the probe at the function that serves it knows this one. The functions
/// for io_destroy and io_cancel also serve 32-bit programs.
#[inline(always)]
pub fn abi_served(abi: Abi) -> Abi {
    if matches!(abi, Abi::Native) && in_compat_syscall() { Abi::Compat } else { abi }
}

/// The argument registers.
///
/// # Safety
/// As for [`number`].
#[inline(always)]
pub unsafe fn typed(_: Abi, regs: *const Registers) -> [u64; 6] {
    // SAFETY: as above.
    unsafe {
        let others = &raw const (*regs).regs;
        let other = |index: usize| others.cast::<u64>().add(index).read();
        [(*regs).orig_x0, other(1), other(2), other(3), other(4), other(5)]
    }
}

/// The argument registers, at an address of which the verifier knows nothing.
#[inline(always)]
pub fn untyped(_: Abi, regs: *const u8) -> [u64; 6] {
    [
        word(regs, offset_of!(Registers, orig_x0)),
        word(regs, at(1)),
        word(regs, at(2)),
        word(regs, at(3)),
        word(regs, at(4)),
        word(regs, at(5)),
    ]
}

/// The place of the call.
///
/// # Safety
/// As for [`number`].
#[inline(always)]
pub unsafe fn typed_place(regs: *const Registers) -> Place {
    // SAFETY: as above.
    unsafe {
        let all = &raw const (*regs).regs;
        let register = |index: usize| all.cast::<u64>().add(index).read();
        Place { ip: (*regs).pc, sp: (*regs).sp, bp: register(FRAME), link: [register(LINK)] }
    }
}

/// The place of the call, from registers at an address of which the verifier knows nothing.
#[inline(always)]
pub fn untyped_place(regs: *const u8) -> Place {
    Place {
        ip: word(regs, offset_of!(Registers, pc)),
        sp: word(regs, offset_of!(Registers, sp)),
        bp: word(regs, at(FRAME)),
        link: [word(regs, at(LINK))],
    }
}

/// Whether the running thread makes a child, and waits until that has ended or runs another program:
/// clone(2) or clone3(2) with `CLONE_VFORK`, as posix_spawn(3) has it, or vfork(2) of a 32-bit program.
#[inline(always)]
pub fn waits_for_child() -> bool {
    // What this kernel does not tell is larger.
    let size = setting!(offsets.pt_regs_size);
    let end = if setting!(kernel_stack) != 0 { setting!(kernel_stack) } else { KERNEL_STACK };
    let end = end.saturating_sub(size);
    if end == 0 {
        return false;
    }
    let regs = Task::current().stack().wrapping_add(end as usize);
    let number = offset_of!(Registers, syscallno) as u32;
    let Some(number) = kernel::read::<i32>(regs, number) else { return false };
    let first = word(regs, offset_of!(Registers, orig_x0));
    // The numbers of vfork, clone and clone3.
    let (vfork, clone) = if in_compat_syscall() { (190, 120) } else { (-2, 220) };
    let flags = match number {
        number if number == vfork => CLONE_VFORK,
        number if number == clone => first,
        435 => user::read(first).unwrap_or(0),
        _ => 0,
    };
    flags & CLONE_VFORK != 0
}
