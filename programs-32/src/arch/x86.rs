//! i386

use core::arch::{asm, naked_asm};

// The numbers of arch/x86/entry/syscalls/syscall_32.tbl.
pub const EXIT: u32 = 1;
pub const OPEN: u32 = 5;
pub const IO_SETUP: u32 = 245;
pub const IO_DESTROY: u32 = 246;
pub const IO_GETEVENTS: u32 = 247;
pub const IO_SUBMIT: u32 = 248;
pub const IO_CANCEL: u32 = 249;
pub const IO_PGETEVENTS: u32 = 385;
pub const IO_PGETEVENTS_TIME64: u32 = 416;

/// Makes a system call.
pub fn call(number: u32, args: [usize; 6]) -> i32 {
    let ret;
    // SAFETY: the kernel checks all addresses. The asm may not name esi and ebp as operands, so all
    // six arguments are loaded from memory.
    unsafe {
        asm!(
            "push ebp",
            "push esi",
            "push ebx",
            "mov ebx, [edi]",
            "mov ecx, [edi + 4]",
            "mov edx, [edi + 8]",
            "mov esi, [edi + 12]",
            "mov ebp, [edi + 20]",
            "mov edi, [edi + 16]",
            "int 0x80",
            "pop ebx",
            "pop esi",
            "pop ebp",
            inout("eax") number => ret,
            inout("edi") args.as_ptr() => _,
            out("ecx") _,
            out("edx") _,
        );
    }
    ret
}

/// Where the kernel starts the program. The stack is aligned to 16 bytes here, as a call requires.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("call {run}", run = sym crate::run)
}
