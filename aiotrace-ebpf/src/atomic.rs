//! Additions that several processors make to one number.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{bindings::BPF_NOEXIST, maps::HashMap};

/// The number of this key, which begins with 0; `None` if there is no room for it.
#[inline(always)]
pub fn number<K>(numbers: &HashMap<K, u64>, key: &K) -> Option<*mut u64> {
    let number = numbers.get_ptr_mut(key);
    if number.is_some() {
        return number;
    }
    // Another processor may do the same.
    let _ = numbers.insert(key, &0, u64::from(BPF_NOEXIST));
    numbers.get_ptr_mut(key)
}

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

/// The same of a smaller number.
///
/// # Safety
/// As of [`add`].
#[inline(always)]
pub unsafe fn add_u32(to: *mut u32, value: u32) {
    // SAFETY: the caller's.
    let _ = unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(to, value) };
}
