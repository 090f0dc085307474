//! What the program tells the probes while they are attached. See
//! [`aiotrace_common::names::SWITCHES`].

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, macros::map, maps::Array};

#[map]
static SWITCHES: Array<u32> = Array::with_max_entries(2, 0);

/// Whether all programs are attached.
#[inline(always)]
pub fn are_armed() -> bool {
    SWITCHES.get(0).is_some_and(|armed| *armed != 0)
}

/// How to hand over a record. Waking the reader costs an interrupt in the middle of a probe, and on a
/// kernel that can be preempted it has others skip that probe; so it is done only when the reader
/// sleeps. 0: the kernel wakes it if it has caught up.
#[inline(always)]
pub fn wakeup() -> u64 {
    match SWITCHES.get(1) {
        Some(1) => 0,
        _ => u64::from(BPF_RB_NO_WAKEUP),
    }
}
