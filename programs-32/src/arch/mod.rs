//! What differs between processors: the numbers of system calls, and how one is made.

#[cfg(target_arch = "arm")]
mod arm;
#[cfg(target_arch = "x86")]
mod x86;

#[cfg(target_arch = "arm")]
pub use arm::*;
#[cfg(target_arch = "x86")]
pub use x86::*;
