//! The registers of a system call, of the architecture that the probes run on. Each architecture is
//! one file with the same items.

#[cfg(bpf_target_arch = "aarch64")]
mod aarch64;
#[cfg(not(bpf_target_arch = "aarch64"))]
mod x86_64;

#[cfg(bpf_target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(not(bpf_target_arch = "aarch64"))]
pub use x86_64::*;

use crate::kernel;

/// A word of registers at an address of which the verifier knows nothing; 0 if it cannot be read.
#[inline(always)]
fn word(regs: *const u8, offset: usize) -> u64 {
    kernel::read(regs, offset as u32).unwrap_or(0)
}

/// `CLONE_VFORK`: <https://elixir.bootlin.com/linux/v6.12.117/source/include/uapi/linux/sched.h#L18>
const CLONE_VFORK: u64 = 0x4000;
