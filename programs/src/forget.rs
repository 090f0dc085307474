//! Removes copies of a number from memory.

use std::hint::black_box;

/// How deep calls go that may have left a copy on the stack, in bytes.
const DEPTH: usize = 256 << 10;

/// Overwrites the stack below the caller.
#[inline(never)]
pub fn scrub_stack() {
    let mut bytes = [0u8; DEPTH];
    for byte in &mut bytes {
        // SAFETY: the pointer is to a byte of the array.
        unsafe { std::ptr::from_mut(byte).write_volatile(0) };
    }
    black_box(&bytes);
}

/// Overwrites a variable, even if nobody reads it any more.
pub fn forget(number: &mut u64) {
    // SAFETY: the pointer comes from a reference.
    unsafe { std::ptr::from_mut(number).write_volatile(0) };
}
