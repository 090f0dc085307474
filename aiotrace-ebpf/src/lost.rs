//! Counts lost records, by cause.

use aiotrace_common::record::Lost;
use aya_ebpf::{macros::map, maps::PerCpuArray};

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(Lost::ALL.len() as u32, 0);

/// Counts one more loss for `cause`.
#[inline(always)]
pub fn count(cause: Lost) {
    if let Some(counter) = LOST.get_ptr_mut(cause as u32) {
        // SAFETY: the slot is this CPU's own.
        unsafe { *counter += 1 };
    }
}
