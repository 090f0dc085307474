//! One slot per thread that has made an AIO call: made at the first call, used by every later
//! one, removed at exec and exit. Never an insert and a delete per call.

use aiotrace_common::{
    abi::Abi,
    record::{Lost, Thread},
};
use aya_ebpf::{macros::map, maps::HashMap};

use crate::{
    probes::{calls::now, count, lifetime},
    settings::setting,
    switches, targets,
    task::{KernelIds, Task, current_kernel_ids, in_compat_syscall},
};

/// Preallocated: 16,384 threads, 5 MiB. Keyed by the kernel's tid.
#[map]
static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(16_384, 0);

// SAFETY: it has numbers only.
static EMPTY: Thread = unsafe { core::mem::zeroed() };

/// The slot of the running thread and whether it is new, or `None` if it is not traced.
#[inline(always)]
pub fn current(abi: Abi) -> Result<Option<(*mut Thread, bool)>, Lost> {
    let kernel = current_kernel_ids();
    if setting!(only_pid) != 0 && setting!(only_pid) != kernel.pid {
        return Ok(None);
    }
    if let Some(thread) = THREADS.get_ptr_mut(&kernel.tid) {
        // SAFETY: the slot belongs to the running thread, or to a dead one that had its id.
        if unsafe { (*thread).kernel_pid } == kernel.pid {
            return Ok(Some((thread, false)));
        }
        remove(kernel.tid);
    }
    // Without namespaces the ids are known for nothing, so that other processes pay no more.
    if setting!(pid_namespace) == 0 && !targets::contain(kernel.pid) {
        return Ok(None);
    }
    Ok(begin(kernel, abi)?.map(|thread| (thread, true)))
}

/// Makes the slot and tells the program who the thread is.
#[inline(always)]
fn begin(kernel: KernelIds, abi: Abi) -> Result<Option<*mut Thread>, Lost> {
    if !switches::are_armed() {
        return Ok(None);
    }
    if in_compat_syscall() != abi.is_32_bit() {
        // A call of the other table that happens to have the number of an AIO call.
        return Ok(None);
    }
    let task = Task::current();
    let Some(ids) = task.ids(kernel) else {
        return Ok(None);
    };
    if setting!(pid_namespace) != 0 && !targets::contain(ids.pid) {
        return Ok(None);
    }
    if !targets::is_known(ids.pid) && !targets::add(ids.pid) {
        return Err(Lost::NoTargetSlot);
    }
    THREADS.insert(&kernel.tid, &EMPTY, 0).map_err(|_| Lost::NoThreadSlot)?;
    let thread = THREADS.get_ptr_mut(&kernel.tid).ok_or(Lost::NoThreadSlot)?;
    // SAFETY: the slot belongs to the running thread.
    let slot = unsafe { &mut *thread };
    slot.kernel_pid = kernel.pid;
    slot.pid = ids.pid;
    slot.tid = ids.tid;
    slot.space = task.space();
    lifetime::seen(task, slot, now());
    Ok(Some(thread))
}

/// The slot of another thread, by the kernel's tid.
#[inline(always)]
pub fn of(tid: u32) -> Option<*mut Thread> {
    THREADS.get_ptr_mut(&tid)
}

/// Forgets a thread.
#[inline(always)]
pub fn remove(tid: u32) {
    if setting!(counting) != 0
        && let Some(thread) = of(tid)
    {
        // SAFETY: the thread is dead, or the running one.
        count::ended(unsafe { &*thread });
    }
    let _ = THREADS.remove(&tid);
}
