//! x86-64

use std::arch::{asm, global_asm};

use super::SetupSigned;

/// The number of io_pgetevents, for which libc has no name (arch/x86/entry/syscalls/syscall_64.tbl).
pub const IO_PGETEVENTS: i64 = 333;

/// There is none: these processors sign nothing.
pub const SETUP_SIGNED: Option<SetupSigned> = None;

/// The entry by which this program can make a call of 32-bit programs, if there is one.
pub const ENTER_32: Option<fn(u32) -> i64> = Some(enter_32);

fn enter_32(number: u32) -> i64 {
    let mut ret = u64::from(number);
    // SAFETY: the calls' arguments are 0, so they change nothing. LLVM reserves rbx, so it is saved
    // by hand.
    unsafe {
        asm!(
            "push rbx",
            "xor ebx, ebx",
            "int 0x80",
            "pop rbx",
            inout("rax") ret,
            in("rcx") 0, in("rdx") 0, in("rsi") 0, in("rdi") 0,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    i64::from(ret as i32)
}

/// Makes a system call. Gives what it returned, and what the register of the first argument then
/// holds. If the call makes a process, this one must have one thread.
pub fn system_call(number: i64, first: u64, second: u64) -> (i64, u64) {
    let (mut ret, mut after) = (number, first);
    // SAFETY: a process that the call makes runs on a copy of this stack.
    unsafe {
        asm!(
            "syscall",
            inout("rax") ret, inout("rdi") after, in("rsi") second,
            in("rdx") 0, in("r10") 0, in("r8") 0, out("rcx") _, out("r11") _,
        );
    }
    (ret, after)
}

/// Makes a system call by the processor's instruction itself.
///
/// # Safety
/// What the arguments lead to is alive.
pub unsafe fn syscall(number: i64, args: [u64; 5]) -> i64 {
    let ret;
    // SAFETY: the caller's; the kernel checks all addresses.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => ret,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
            in("r8") args[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    ret
}

// Calls io_setup with one more word on the stack than the unwind table says, so that an unwinder
// takes the word below it for the return address.
global_asm!(
    ".pushsection .text.setup_with_false_return, \"ax\"",
    ".globl setup_with_false_return",
    ".type setup_with_false_return, @function",
    "setup_with_false_return:",
    ".cfi_startproc",
    "push rdx",
    "mov eax, 206",
    "syscall",
    "lea rsp, [rsp + 8]",
    "ret",
    ".cfi_endproc",
    ".size setup_with_false_return, . - setup_with_false_return",
    ".popsection",
);
