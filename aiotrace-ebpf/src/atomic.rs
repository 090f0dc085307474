//! Additions that several processors make to one number at the same time.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{bindings::BPF_NOEXIST, maps::HashMap};

/// The number of this key, which begins with 0; `None` if the map has no room for it.
#[inline(always)]
pub fn number<K>(numbers: &HashMap<K, u64>, key: &K) -> Option<*mut u64> {
    let number = numbers.get_ptr_mut(key);
    if number.is_some() {
        return number;
    }
    // Another processor may insert the same key first: then this insertion fails, which is fine.
    let _ = numbers.insert(key, &0, u64::from(BPF_NOEXIST));
    numbers.get_ptr_mut(key)
}

/// Adds `value` atomically. `AtomicU64` has no `fetch_add` for this target, because not all kernels
/// have a compare-and-swap for BPF programs; Linux 5.10 knows an atomic addition only if nobody
/// uses its result.
///
/// The compiler must not see a `value` of 0: it would make an atomic `or` of the addition, which
/// Linux 5.10 does not know.
///
/// # Safety
/// `to` must be aligned and in a map, and all changes of it must be atomic.
#[inline(always)]
pub unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: the caller keeps to what is asked above.
    let _ = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(to, value) };
}

/// [`add`] for a number of 32 bits.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub unsafe fn add_u32(to: *mut u32, value: u32) {
    // SAFETY: the caller keeps to what is asked above.
    let _ = unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(to, value) };
}
