//! x86-64, and i386 for 32-bit programs.

use crate::{
    abi::{Abi, Syscall},
    synchronous::Call,
};

/// What a place needs beside the instruction, the stack and the frame pointer: nothing.
pub type Link = [u64; 0];

/// The size of a kernel stack, at whose end are the registers of a system call; without KASAN:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/arch/x86/include/asm/page_64_types.h#L16>
pub const KERNEL_STACK: u32 = 16 << 10;

/// The member of `struct thread_info` that says whether a 32-bit system call is being served.
pub const COMPAT_MEMBER: &str = "status";

/// `TS_COMPAT`:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/arch/x86/include/asm/thread_info.h#L223>
pub const COMPAT_BIT: u32 = 2;

/// The kernel functions that serve the calls: io_setup, io_destroy, io_submit, io_getevents,
/// io_pgetevents, io_cancel.
pub const FUNCTIONS: [&str; 6] = [
    "__x64_sys_io_setup",
    "__x64_sys_io_destroy",
    "__x64_sys_io_submit",
    "__x64_sys_io_getevents",
    "__x64_sys_io_pgetevents",
    "__x64_sys_io_cancel",
];

/// The kernel functions that serve the calls of 32-bit programs, in the same order, with
/// io_pgetevents_time64 behind io_pgetevents; `None`: the function of 64-bit programs does.
pub const COMPAT_FUNCTIONS: [Option<&str>; 7] = [
    Some("__ia32_compat_sys_io_setup"),
    Some("__ia32_sys_io_destroy"),
    Some("__ia32_compat_sys_io_submit"),
    Some("__ia32_sys_io_getevents_time32"),
    Some("__ia32_compat_sys_io_pgetevents"),
    Some("__ia32_compat_sys_io_pgetevents_time64"),
    Some("__ia32_sys_io_cancel"),
];

/// The AIO call with this number:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/arch/x86/entry/syscalls/syscall_64.tbl#L218>
#[inline(always)]
pub const fn aio_call(number: u64) -> Option<Syscall> {
    match number {
        206 => Some(Syscall::Setup),
        207 => Some(Syscall::Destroy),
        208 => Some(Syscall::Getevents),
        209 => Some(Syscall::Submit),
        210 => Some(Syscall::Cancel),
        333 => Some(Syscall::Pgetevents),
        _ => None,
    }
}

/// The AIO call of a 32-bit program with this number:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/arch/x86/entry/syscalls/syscall_32.tbl#L260>
#[inline(always)]
pub const fn compat_aio_call(number: u64) -> Option<(Syscall, Abi)> {
    Some(match number {
        245 => (Syscall::Setup, Abi::Compat),
        246 => (Syscall::Destroy, Abi::Compat),
        247 => (Syscall::Getevents, Abi::Compat),
        248 => (Syscall::Submit, Abi::Compat),
        249 => (Syscall::Cancel, Abi::Compat),
        385 => (Syscall::Pgetevents, Abi::Compat),
        416 => (Syscall::Pgetevents, Abi::CompatTime64),
        _ => return None,
    })
}

/// The AIO call with this number, of a 64-bit or of a 32-bit program. The tables can be searched one
/// after the other: no number is an AIO call in both. (So `is_compat` is not asked.)
#[inline(always)]
pub fn any_aio_call(number: u64, _is_compat: impl FnOnce() -> bool) -> Option<(Syscall, Abi)> {
    match aio_call(number) {
        Some(syscall) => Some((syscall, Abi::Native)),
        None => compat_aio_call(number),
    }
}

/// The synchronous call with this number:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/arch/x86/entry/syscalls/syscall_64.tbl#L12>
#[inline(always)]
pub const fn synchronous(number: u64) -> Option<Call> {
    Some(match number {
        0 => Call::Read,
        1 => Call::Write,
        17 => Call::Pread,
        18 => Call::Pwrite,
        74 => Call::Fsync,
        75 => Call::Fdatasync,
        295 => Call::Preadv,
        296 => Call::Pwritev,
        327 => Call::Preadv2,
        328 => Call::Pwritev2,
        3 => Call::Close,
        9 => Call::Mmap,
        11 => Call::Munmap,
        19 => Call::Readv,
        20 => Call::Writev,
        26 => Call::Msync,
        33 => Call::Dup2,
        40 => Call::Sendfile,
        45 => Call::Recvfrom,
        72 => Call::Fcntl,
        162 => Call::Sync,
        275 => Call::Splice,
        285 => Call::Fallocate,
        292 => Call::Dup3,
        306 => Call::Syncfs,
        326 => Call::CopyFileRange,
        425 => Call::IoUringSetup,
        426 => Call::IoUringEnter,
        436 => Call::CloseRange,
        _ => return None,
    })
}

/// The synchronous call of a 32-bit program with this number:
/// <https://elixir.bootlin.com/linux/v6.12.117/source/arch/x86/entry/syscalls/syscall_32.tbl#L18>
#[inline(always)]
pub const fn compat_synchronous(number: u64) -> Option<Call> {
    Some(match number {
        3 => Call::Read,
        4 => Call::Write,
        118 => Call::Fsync,
        148 => Call::Fdatasync,
        180 => Call::Pread,
        181 => Call::Pwrite,
        333 => Call::Preadv,
        334 => Call::Pwritev,
        378 => Call::Preadv2,
        379 => Call::Pwritev2,
        6 => Call::Close,
        36 => Call::Sync,
        55 | 221 => Call::Fcntl,
        63 => Call::Dup2,
        91 => Call::Munmap,
        144 => Call::Msync,
        145 => Call::Readv,
        146 => Call::Writev,
        187 | 239 => Call::Sendfile,
        192 => Call::Mmap,
        313 => Call::Splice,
        324 => Call::Fallocate,
        330 => Call::Dup3,
        344 => Call::Syncfs,
        371 => Call::Recvfrom,
        377 => Call::CopyFileRange,
        425 => Call::IoUringSetup,
        426 => Call::IoUringEnter,
        436 => Call::CloseRange,
        _ => return None,
    })
}

/// The lower half of the position in the file that a 32-bit program gives to this call is this
/// argument, and the upper half the next one.
#[inline(always)]
pub const fn compat_position(_call: Call) -> usize {
    3
}
