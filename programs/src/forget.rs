//! To leave no trace of a number in memory.

use std::hint::black_box;

/// How deep the calls go that may have left a copy on the stack.
const DEPTH: usize = 256 << 10;

/// Overwrites the stack below the caller.
#[inline(never)]
pub fn scrub_stack() {
    let mut bytes = [0u8; DEPTH];
    for byte in &mut bytes {
        // SAFETY: a byte of ours.
        unsafe { std::ptr::from_mut(byte).write_volatile(0) };
    }
    black_box(&bytes);
}

/// Overwrites a variable, though nobody reads it any more.
pub fn forget(number: &mut u64) {
    // SAFETY: a variable of ours.
    unsafe { std::ptr::from_mut(number).write_volatile(0) };
}
