//! What differs between architectures: the numbers of system calls, the kernel functions that serve
//! them, and registers. Each architecture is one file with the same items; those of the architecture
//! that this is built for are also here.
//!
//! The probes are built for the BPF target; `bpf_target_arch` is what the kernel below them runs on.

pub mod aarch64;
pub mod x86_64;

#[cfg(any(target_arch = "aarch64", bpf_target_arch = "aarch64"))]
pub use aarch64::*;
#[cfg(not(any(target_arch = "aarch64", bpf_target_arch = "aarch64")))]
pub use x86_64::*;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where a program is in its code and on its stack.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Place {
    /// The address of the instruction after the system call.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer, if the program keeps it there.
    pub bp: u64,
    /// What else is needed to find the caller.
    pub link: Link,
}
