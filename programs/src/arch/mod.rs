//! What the programs do by the processor's own instructions. Each architecture is one file with the
//! same items.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::*;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;

/// Calls io_setup from a function that signs its return address, if the processor does, and writes
/// the address as it is on the stack.
pub type SetupSigned = unsafe extern "C" fn(nr: u32, ctx: *mut u64, address: *mut u64) -> i64;

unsafe extern "C" {
    /// Calls io_setup from a place whose unwind table is wrong: an unwinder takes `address` for the
    /// return address.
    pub fn setup_with_false_return(nr: u32, ctx: *mut u64, address: u64) -> i64;
}
