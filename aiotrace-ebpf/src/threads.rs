//! One slot for each thread that has made an AIO call: taken at its first call, used by every later
//! one, and freed at exec and exit. A call never inserts and deletes a slot.
//! [`slots`](aiotrace_common::slots) says which slot a thread has.

use aiotrace_common::{
    abi::Abi,
    record::{Lost, Thread},
    slots::{self, PLACES, SLOTS},
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};

use crate::{
    atomic,
    probes::{calls::now, count, lifetime},
    settings::setting,
    switches, targets,
    task::{KernelIds, Task, current_kernel_ids, in_compat_syscall},
};

/// An index outside of the array.
const NOWHERE: u32 = u32::MAX;

#[map]
static THREADS: Array<Thread> = Array::with_max_entries(SLOTS, 0);

/// Which slots are taken, and by which thread. (Not all kernels have a compare-and-swap for BPF
/// programs; but when two threads insert the same key, one insertion fails.)
#[map]
static TAKEN: HashMap<u32, u32> = HashMap::with_max_entries(SLOTS, 0);

/// For each place, how many threads wanted it first and have another one. If it is 0, a search that
/// finds nothing at this place is over.
#[map]
static ELSEWHERE: Array<u64> = Array::with_max_entries(SLOTS, 0);

// SAFETY: a `Thread` consists of numbers only.
static EMPTY: Thread = unsafe { core::mem::zeroed() };

/// The slot of the running thread, and whether it is new; `None` if the thread is not traced.
#[inline(always)]
pub fn current(abi: Abi) -> Result<Option<(*mut Thread, bool)>, Lost> {
    let kernel = current_kernel_ids();
    if setting!(only_pid) != 0 && setting!(only_pid) != kernel.pid {
        return Ok(None);
    }
    if let Some(thread) = of(kernel.tid) {
        // SAFETY: the slot belongs to the running thread, or to a dead one that had its id.
        if unsafe { (*thread).kernel_pid } == kernel.pid {
            return Ok(Some((thread, false)));
        }
        remove(kernel.tid);
    }
    // In the initial pid namespace the ids cost nothing, so processes that are not traced pay no
    // more than this.
    if setting!(pid_namespace) == 0 && !targets::contain(kernel.pid) {
        return Ok(None);
    }
    Ok(begin(kernel, abi)?.map(|thread| (thread, true)))
}

/// The slot of the running thread, if it has one.
#[inline(always)]
pub fn known() -> Option<*mut Thread> {
    let kernel = current_kernel_ids();
    // SAFETY: the slot belongs to the running thread, or to a dead one that had its id.
    of(kernel.tid).filter(|thread| unsafe { (**thread).kernel_pid } == kernel.pid)
}

/// Takes a slot for the running thread and records who the thread is.
#[inline(always)]
fn begin(kernel: KernelIds, abi: Abi) -> Result<Option<*mut Thread>, Lost> {
    if !switches::are_armed() {
        return Ok(None);
    }
    if in_compat_syscall() != abi.is_32_bit() {
        // A call of the other table that only has the number of an AIO call.
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
    let place = take_place(kernel.tid);
    THREADS.set(place, &EMPTY, 0).map_err(|_| Lost::NoThreadSlot)?;
    let thread = THREADS.get_ptr_mut(place).ok_or(Lost::NoThreadSlot)?;
    // SAFETY: the slot belongs to the running thread.
    let slot = unsafe { &mut *thread };
    slot.kernel_tid = kernel.tid;
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
    THREADS.get_ptr_mut(find(tid))
}

/// Frees the slot of a thread.
#[inline(always)]
pub fn remove(tid: u32) {
    let place = find(tid);
    let Some(thread) = THREADS.get_ptr_mut(place) else { return };
    // SAFETY: the slot belongs to a dead thread, or to the running one.
    let thread = unsafe { &mut *thread };
    if setting!(counting) != 0 {
        count::ended(thread);
    }
    thread.syscall = 0;
    thread.kernel_tid = 0;
    let _ = TAKEN.remove(&place);
    if place != slots::place(tid, 0) {
        count_elsewhere(tid, u64::MAX);
    }
}

/// Adds `more` to the [`ELSEWHERE`] of the thread's first place; it may be -1.
#[inline(always)]
fn count_elsewhere(tid: u32, more: u64) {
    if let Some(count) = ELSEWHERE.get_ptr_mut(slots::place(tid, 0)) {
        // SAFETY: a number in a map, changed by atomic additions only.
        unsafe { atomic::add(count, more) };
    }
}

/// Whether this is the slot of this thread. (An interrupt of an idle processor has the thread id
/// 0.)
#[inline(always)]
fn is_of(place: u32, tid: u32) -> bool {
    // SAFETY: a number in a map, which only its thread changes.
    THREADS.get_ptr(place).is_some_and(|it| unsafe { (*it).kernel_tid } == tid) && tid != 0
}

/// The place of the thread's slot, or [`NOWHERE`].
#[inline(always)]
fn find(tid: u32) -> u32 {
    let place = slots::place(tid, 0);
    if is_of(place, tid) {
        return place;
    }
    match ELSEWHERE.get(place) {
        Some(0) | None => NOWHERE,
        _ => find_elsewhere(tid),
    }
}

/// The place of the thread's slot if it is not its first place, or [`NOWHERE`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_elsewhere(tid: u32) -> u32 {
    for step in 1..PLACES {
        let place = slots::place(tid, step);
        if is_of(place, tid) {
            return place;
        }
    }
    NOWHERE
}

/// Takes a free slot and returns its place; [`NOWHERE`] if none of the thread's places is free.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn take_place(tid: u32) -> u32 {
    for step in 0..PLACES {
        let place = slots::place(tid, step);
        if TAKEN.insert(&place, &tid, u64::from(BPF_NOEXIST)).is_ok() {
            if step != 0 {
                count_elsewhere(tid, 1);
            }
            return place;
        }
    }
    NOWHERE
}
