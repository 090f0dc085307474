//! arm (EABI)

use core::arch::{asm, naked_asm};

// The numbers of arch/arm/tools/syscall.tbl.
pub const EXIT: u32 = 1;
pub const OPEN: u32 = 5;
pub const IO_SETUP: u32 = 243;
pub const IO_DESTROY: u32 = 244;
pub const IO_GETEVENTS: u32 = 245;
pub const IO_SUBMIT: u32 = 246;
pub const IO_CANCEL: u32 = 247;
pub const IO_PGETEVENTS: u32 = 399;
pub const IO_PGETEVENTS_TIME64: u32 = 416;

/// Makes a system call.
pub fn call(number: u32, args: [usize; 6]) -> i32 {
    let ret;
    // SAFETY: the kernel checks all addresses. r7 has the number, and the asm may not name it as an
    // operand everywhere, so it is kept in another register meanwhile.
    unsafe {
        asm!(
            "mov {kept}, r7",
            "mov r7, {number}",
            "svc 0",
            "mov r7, {kept}",
            kept = out(reg) _,
            number = in(reg) number,
            inlateout("r0") args[0] => ret,
            in("r1") args[1],
            in("r2") args[2],
            in("r3") args[3],
            in("r4") args[4],
            in("r5") args[5],
            options(nostack),
        );
    }
    ret
}

/// Where the kernel starts the program.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("bl {run}", run = sym crate::run)
}
