//! Additions that several processors make to one number.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Adds. (The target has no compare-and-swap on all kernels, so `AtomicU64` has no `fetch_add`. 5.10 knows an
/// addition whose result nobody uses.)
///
/// The value must not be 0 where the compiler sees it: it makes an `or` of that, which 5.10 does not know.
///
/// # Safety
/// `to` must be in a map, and aligned; all changes of it must be atomic.
#[inline(always)]
pub unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: the caller's.
    let _ = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(to, value) };
}
