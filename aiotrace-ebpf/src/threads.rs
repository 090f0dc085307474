//! One slot per thread that has made an AIO call: made at the first call, used by every later
//! one, freed at exec and exit. Never an insert and a delete per call.
//! Where it is: [`slots`](aiotrace_common::slots).

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

/// Outside the array.
const NOWHERE: u32 = u32::MAX;

#[map]
static THREADS: Array<Thread> = Array::with_max_entries(SLOTS, 0);

/// Which slots are taken, and by which thread. (Not all kernels have a compare-and-swap for programs, but of
/// two inserts one fails.)
#[map]
static TAKEN: HashMap<u32, u32> = HashMap::with_max_entries(SLOTS, 0);

/// How many threads wanted this place first and have another, so that who finds nothing here mostly need not
/// look on.
#[map]
static ELSEWHERE: Array<u64> = Array::with_max_entries(SLOTS, 0);

// SAFETY: it has numbers only.
static EMPTY: Thread = unsafe { core::mem::zeroed() };

/// The slot of the running thread and whether it is new, or `None` if it is not traced.
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
    // Without namespaces the ids are known for nothing, so that other processes pay no more.
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

/// Forgets a thread.
#[inline(always)]
pub fn remove(tid: u32) {
    let place = find(tid);
    let Some(thread) = THREADS.get_ptr_mut(place) else { return };
    // SAFETY: the thread is dead, or the running one.
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

/// `more` may be -1.
#[inline(always)]
fn count_elsewhere(tid: u32, more: u64) {
    if let Some(count) = ELSEWHERE.get_ptr_mut(slots::place(tid, 0)) {
        // SAFETY: a number in a map, which is only added to.
        unsafe { atomic::add(count, more) };
    }
}

/// Whether the slot is this thread's. (Interrupts while nothing runs have the thread 0.)
#[inline(always)]
fn is_of(place: u32, tid: u32) -> bool {
    // SAFETY: a number in a map, which its thread alone changes.
    THREADS.get_ptr(place).is_some_and(|it| unsafe { (*it).kernel_tid } == tid) && tid != 0
}

/// Where the thread's slot is, or [`NOWHERE`].
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

/// Where it is if not in its first place, or [`NOWHERE`].
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

/// Takes a free slot; [`NOWHERE`]: none of its places is free.
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
