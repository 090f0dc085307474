//! What differs between architectures: registers, system calls by number, and unwinding. Each
//! architecture is one file with the same items. (What probes and program share of this is in
//! `aiotrace_common::arch`.)

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(any(test, target_arch = "aarch64"))]
mod signed;
#[cfg(not(target_arch = "aarch64"))]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(not(target_arch = "aarch64"))]
pub use x86_64::*;

use aiotrace_common::{
    abi::{Abi, Syscall},
    arch,
};

/// "Make it again, unless a handler runs": `ERESTARTNOHAND` of include/linux/errno.h.
pub const RESTART: i64 = -514;

/// The number of clone3, which is the same in each table.
pub const CLONE3: u64 = 435;

/// A call that a thread was in a moment before it was stopped, by /proc/PID/task/TID/syscall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Before {
    /// The number of the call.
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// The instruction after the call.
    pub ip: u64,
}

/// A call at whose end a thread is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The number of the call.
    pub number: u64,
    /// Its arguments. (Some architectures overwrite the first one with the result.)
    pub args: [u64; 6],
    /// What it returns, or [`RESTART`].
    pub ret: i64,
}

/// The AIO call with this number in the table of an architecture (`AUDIT_ARCH_*`).
pub fn aio_call(table: u32, number: u64) -> Option<(Syscall, Abi)> {
    match table {
        NATIVE => arch::aio_call(number).map(|it| (it, Abi::Native)),
        COMPAT => arch::compat_aio_call(number),
        _ => None,
    }
}

/// The number of clone in the table of an architecture.
pub fn clone(table: u32) -> Option<u64> {
    match table {
        NATIVE => Some(CLONE[0]),
        COMPAT => Some(CLONE[1]),
        _ => None,
    }
}
