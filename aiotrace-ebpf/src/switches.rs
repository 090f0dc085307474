//! What aiotrace tells the probes while they are attached. See
//! [`aiotrace_common::names::SWITCHES`].

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, macros::map, maps::Array};

#[map]
static SWITCHES: Array<u32> = Array::with_max_entries(2, 0);

/// Whether all probes are attached.
#[inline(always)]
pub fn are_armed() -> bool {
    SWITCHES.get(0).is_some_and(|armed| *armed != 0)
}

/// The flags for handing over a record; 0: the kernel wakes the reader if it has caught up. To wake
/// the reader costs an interrupt in the middle of a probe, and on a kernel that can be preempted
/// this interrupt makes the kernel skip other runs of that probe. So it is done only while the
/// reader sleeps.
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/kernel/bpf/ringbuf.c?h=v6.12.117#n511>
#[inline(always)]
pub fn wakeup() -> u64 {
    match SWITCHES.get(1) {
        Some(1) => 0,
        _ => u64::from(BPF_RB_NO_WAKEUP),
    }
}
