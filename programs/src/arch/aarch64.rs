//! arm64

use std::arch::{asm, global_asm};

use super::SetupSigned;

/// The number of io_pgetevents.
pub const IO_PGETEVENTS: i64 = libc::SYS_io_pgetevents;

/// There is one.
pub const SETUP_SIGNED: Option<SetupSigned> = Some(setup_signed);

unsafe extern "C" {
    fn setup_signed(nr: u32, ctx: *mut u64, address: *mut u64) -> i64;
}

/// The entry by which this program can make a call of 32-bit programs: there is none.
pub const ENTER_32: Option<fn(u32) -> i64> = None;

/// Makes a system call. Gives what it returned, and its first argument: the result has taken its
/// place. If the call makes a process, this one must have one thread.
pub fn system_call(number: i64, first: u64, second: u64) -> (i64, u64) {
    let mut ret = first;
    // SAFETY: a process that the call makes runs on a copy of this stack.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number, inout("x0") ret, in("x1") second,
            in("x2") 0, in("x3") 0, in("x4") 0,
        );
    }
    (ret as i64, first)
}

/// Makes a system call by the processor's instruction itself.
///
/// # Safety
/// What the arguments lead to is alive.
pub unsafe fn syscall(number: i64, args: [u64; 5]) -> i64 {
    let mut ret = args[0];
    // SAFETY: the caller's; the kernel checks all addresses.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number, inlateout("x0") ret, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4],
            options(nostack),
        );
    }
    ret as i64
}

// Calls io_setup. Where the processor signs return addresses, that of this function is on the stack
// as it was signed. (Others take the two instructions for nops.) It writes what is on the stack.
global_asm!(
    ".pushsection .text.setup_signed, \"ax\"",
    ".globl setup_signed",
    ".type setup_signed, @function",
    "setup_signed:",
    ".cfi_startproc",
    "hint 25", // paciasp
    ".cfi_negate_ra_state",
    "str x30, [sp, -16]!",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset 30, -16",
    "str x30, [x2]",
    "mov x8, 0",
    "svc 0",
    "ldr x30, [sp], 16",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore 30",
    "hint 29", // autiasp
    ".cfi_negate_ra_state",
    "ret",
    ".cfi_endproc",
    ".size setup_signed, . - setup_signed",
    ".popsection",
);

// Calls io_setup with a word on the stack that the unwind table takes for the return address.
global_asm!(
    ".pushsection .text.setup_with_false_return, \"ax\"",
    ".globl setup_with_false_return",
    ".type setup_with_false_return, @function",
    "setup_with_false_return:",
    ".cfi_startproc",
    "str x2, [sp, -16]!",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset 30, -16",
    "mov x8, 0",
    "svc 0",
    "add sp, sp, 16",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore 30",
    "ret",
    ".cfi_endproc",
    ".size setup_with_false_return, . - setup_with_false_return",
    ".popsection",
);
