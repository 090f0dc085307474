//! arm64, and arm (EABI) for 32-bit programs.

use crate::{
    abi::{Abi, Syscall},
    synchronous::Call,
};

/// What a place needs beside the instruction, the stack and the frame pointer: the link register. A
/// function that calls no other, as the stubs of system calls are, has its return address only there.
pub type Link = [u64; 1];

/// The size of a kernel stack, at whose end are the registers of a system call; without KASAN, and
/// with pages of at most 16 KiB:
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/include/asm/memory.h#L124>
pub const KERNEL_STACK: u32 = 16 << 10;

/// The member of `struct thread_info` that says whether a 32-bit system call is being served.
pub const COMPAT_MEMBER: &str = "flags";

/// `TIF_32BIT`:
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/include/asm/thread_info.h#L78>
pub const COMPAT_BIT: u32 = 1 << 22;

/// The kernel functions that serve the calls: io_setup, io_destroy, io_submit, io_getevents,
/// io_pgetevents, io_cancel.
pub const FUNCTIONS: [&str; 6] = [
    "__arm64_sys_io_setup",
    "__arm64_sys_io_destroy",
    "__arm64_sys_io_submit",
    "__arm64_sys_io_getevents",
    "__arm64_sys_io_pgetevents",
    "__arm64_sys_io_cancel",
];

/// The kernel functions that serve the calls of 32-bit programs, in the same order, with
/// io_pgetevents_time64 behind io_pgetevents; `None`: the function of 64-bit programs does.
pub const COMPAT_FUNCTIONS: [Option<&str>; 7] = [
    Some("__arm64_compat_sys_io_setup"),
    None,
    Some("__arm64_compat_sys_io_submit"),
    Some("__arm64_sys_io_getevents_time32"),
    Some("__arm64_compat_sys_io_pgetevents"),
    Some("__arm64_compat_sys_io_pgetevents_time64"),
    None,
];

/// The AIO call with this number:
/// <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/asm-generic/unistd.h#L21>
#[inline(always)]
pub const fn aio_call(number: u64) -> Option<Syscall> {
    match number {
        0 => Some(Syscall::Setup),
        1 => Some(Syscall::Destroy),
        2 => Some(Syscall::Submit),
        3 => Some(Syscall::Cancel),
        4 => Some(Syscall::Getevents),
        292 => Some(Syscall::Pgetevents),
        _ => None,
    }
}

/// The AIO call of a 32-bit program with this number:
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm/tools/syscall.tbl#L261>
#[inline(always)]
pub const fn compat_aio_call(number: u64) -> Option<(Syscall, Abi)> {
    Some(match number {
        243 => (Syscall::Setup, Abi::Compat),
        244 => (Syscall::Destroy, Abi::Compat),
        245 => (Syscall::Getevents, Abi::Compat),
        246 => (Syscall::Submit, Abi::Compat),
        247 => (Syscall::Cancel, Abi::Compat),
        399 => (Syscall::Pgetevents, Abi::Compat),
        416 => (Syscall::Pgetevents, Abi::CompatTime64),
        _ => return None,
    })
}

/// The AIO call with this number, of a 64-bit or of a 32-bit program. A number of either table is
/// another call in the other one (1 is io_destroy, and exit of a 32-bit program).
#[inline(always)]
pub fn any_aio_call(number: u64, is_compat: impl FnOnce() -> bool) -> Option<(Syscall, Abi)> {
    if aio_call(number).is_none() && compat_aio_call(number).is_none() {
        return None;
    }
    let is_compat = is_compat();
    // The tables are searched again, and the compiler must not see that: it would keep what it found
    // on the stack, and the verifier of Linux 6.1 refuses to read that where nothing was found.
    let number = core::hint::black_box(number);
    if is_compat { compat_aio_call(number) } else { aio_call(number).map(|it| (it, Abi::Native)) }
}

/// The synchronous call with this number:
/// <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/asm-generic/unistd.h#L21>
#[inline(always)]
pub const fn synchronous(number: u64) -> Option<Call> {
    Some(match number {
        24 => Call::Dup3,
        25 => Call::Fcntl,
        47 => Call::Fallocate,
        57 => Call::Close,
        63 => Call::Read,
        64 => Call::Write,
        65 => Call::Readv,
        66 => Call::Writev,
        67 => Call::Pread,
        68 => Call::Pwrite,
        69 => Call::Preadv,
        70 => Call::Pwritev,
        71 => Call::Sendfile,
        76 => Call::Splice,
        81 => Call::Sync,
        82 => Call::Fsync,
        83 => Call::Fdatasync,
        207 => Call::Recvfrom,
        215 => Call::Munmap,
        222 => Call::Mmap,
        227 => Call::Msync,
        267 => Call::Syncfs,
        285 => Call::CopyFileRange,
        286 => Call::Preadv2,
        287 => Call::Pwritev2,
        425 => Call::IoUringSetup,
        426 => Call::IoUringEnter,
        436 => Call::CloseRange,
        _ => return None,
    })
}

/// The synchronous call of a 32-bit program with this number:
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm/tools/syscall.tbl#L16>
#[inline(always)]
pub const fn compat_synchronous(number: u64) -> Option<Call> {
    Some(match number {
        3 => Call::Read,
        4 => Call::Write,
        6 => Call::Close,
        36 => Call::Sync,
        55 | 221 => Call::Fcntl,
        63 => Call::Dup2,
        91 => Call::Munmap,
        118 => Call::Fsync,
        144 => Call::Msync,
        145 => Call::Readv,
        146 => Call::Writev,
        148 => Call::Fdatasync,
        180 => Call::Pread,
        181 => Call::Pwrite,
        187 | 239 => Call::Sendfile,
        192 => Call::Mmap,
        291 | 292 => Call::Recvfrom,
        340 => Call::Splice,
        352 => Call::Fallocate,
        358 => Call::Dup3,
        361 => Call::Preadv,
        362 => Call::Pwritev,
        373 => Call::Syncfs,
        391 => Call::CopyFileRange,
        392 => Call::Preadv2,
        393 => Call::Pwritev2,
        425 => Call::IoUringSetup,
        426 => Call::IoUringEnter,
        436 => Call::CloseRange,
        _ => return None,
    })
}

/// The lower half of the position in the file that a 32-bit program gives to this call is this
/// argument, and the upper half the next one. (The EABI puts a value of 64 bits into a pair of
/// registers that begins with an even one; preadv and the like take two words:
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/kernel/sys32.c#L77>)
#[inline(always)]
pub const fn compat_position(call: Call) -> usize {
    match call {
        Call::Pread | Call::Pwrite => 4,
        _ => 3,
    }
}
