//! Reads structures of the kernel, at the offsets that the loader took from BTF.

use aiotrace_common::settings::ABSENT;
use aya_ebpf::helpers::bpf_probe_read_kernel;

/// The member at `offset` of the structure at `base`, unless this kernel has no such member.
#[inline(always)]
pub fn read<T>(base: *const u8, offset: u32) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()) }.ok()
}
