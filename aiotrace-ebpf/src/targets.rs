//! The set of traced processes. The probes keep it up to date at fork and exit, so that they miss
//! no child. If the target is a cgroup, or every process, the set holds those processes that have
//! made an AIO call.

use aiotrace_common::settings::target;
use aya_ebpf::{
    helpers::generated::bpf_get_current_ancestor_cgroup_id, macros::map, maps::HashMap,
};

use crate::settings::setting;

/// At most 16,384 processes.
#[map]
static TARGETS: HashMap<u32, u32> = HashMap::with_max_entries(16_384, 0);

/// Whether calls of this process, which must be the running one, are recorded.
#[inline(always)]
pub fn contain(pid: u32) -> bool {
    match setting!(target) {
        target::ALL => true,
        target::CGROUP => {
            let level = setting!(cgroup_level) as i32;
            // SAFETY: the helper has no preconditions.
            let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
            ancestor == setting!(cgroup_id)
        }
        _ => is_known(pid),
    }
}

/// Whether the process is in the set.
#[inline(always)]
pub fn is_known(pid: u32) -> bool {
    TARGETS.get_ptr(&pid).is_some()
}

/// Puts the process into the set. Returns whether there was room.
#[inline(always)]
pub fn add(pid: u32) -> bool {
    TARGETS.insert(&pid, &1, 0).is_ok()
}

/// Takes the process out of the set. Returns whether it was there: of several callers, only one
/// gets `true`.
#[inline(always)]
pub fn remove(pid: u32) -> bool {
    TARGETS.remove(&pid).is_ok()
}
