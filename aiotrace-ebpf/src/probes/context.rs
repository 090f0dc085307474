//! The kernel's own structure for a context, `struct kioctx`. Nothing in it leads to the process
//! that uses it, so the probes learn this when a traced thread creates or uses a context.

use aiotrace_common::record::{ContextGone, ContextMoved, End, Header, Kind, Lost, Owner, Thread};
use aya_ebpf::{macros::map, maps::LruHashMap};

use super::calls::now;
use crate::{
    atomic, kernel, lost, records,
    settings::setting,
    targets,
    task::{Task, current_kernel_ids},
    threads,
};

/// The owner of a context, by the address of its `struct kioctx`. At most 16,384 contexts; the one
/// not used for longest makes room.
#[map]
static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(16_384, 0);

/// The address of the `struct kioctx`, by the address of the ring's `struct file`.
#[map]
static RING_FILES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(16_384, 0);

/// The owner of this context, if it is a traced process.
#[inline(always)]
pub fn owner(kioctx: u64) -> Option<&'static Owner> {
    // SAFETY: a map value; at worst it has been given to a new owner.
    OWNERS.get_ptr(&kioctx).map(|owner| unsafe { &*owner })
}

/// Counts one more completed request of this context, on any processor.
#[inline(always)]
pub fn count(owner: &Owner) {
    // SAFETY: a map value; all changes of it are atomic.
    unsafe { atomic::add((&raw const owner.completed).cast_mut(), 1) };
}

/// The handle of a `struct kioctx`.
#[inline(always)]
pub fn handle(kioctx: u64) -> u64 {
    kernel::read(kioctx as *const u8, setting!(offsets.kioctx_user_id)).unwrap_or(0)
}

/// The slot of the running thread, if it is inside an AIO call.
#[inline(always)]
pub fn caller() -> Option<&'static mut Thread> {
    let thread = threads::of(current_kernel_ids().tid)?;
    // SAFETY: the slot belongs to the running thread.
    let thread = unsafe { &mut *thread };
    (thread.syscall != 0).then_some(thread)
}

/// Whether a function that returns a pointer returned an error or null.
#[inline(always)]
fn is_error(pointer: u64) -> bool {
    pointer == 0 || pointer >= -4095i64 as u64
}

/// `ioctx_alloc` returns, in any process.
#[inline(always)]
pub fn allocated(kioctx: u64) {
    if is_error(kioctx) {
        return;
    }
    match caller() {
        Some(thread) => remember(kioctx, thread),
        // The context belongs to another process; its address may have been that of a traced
        // process's context.
        None => {
            let _ = OWNERS.remove(&kioctx);
        }
    }
}

/// `lookup_ioctx` returns, in any process.
#[inline(always)]
pub fn used(kioctx: u64) {
    if is_error(kioctx) {
        return;
    }
    if let Some(thread) = caller()
        && owner(kioctx).is_none_or(|owner| owner.space != thread.space)
    {
        remember(kioctx, thread);
    }
}

#[inline(always)]
fn remember(kioctx: u64, thread: &Thread) {
    let owner = Owner {
        space: thread.space,
        handle: handle(kioctx),
        pid: thread.pid,
        kernel_pid: current_kernel_ids().pid,
        completed: 0,
        gone: 0,
        reserved: 0,
    };
    let known = OWNERS.insert(&kioctx, &owner, 0).is_ok();
    let offset = setting!(offsets.kioctx_aio_ring_file);
    if let Some(file) = kernel::read::<u64>(kioctx as *const u8, offset) {
        let _ = RING_FILES.insert(&file, &kioctx, 0);
    }
    if !known {
        lost::count(Lost::NoContextSlot);
    }
}

/// `kill_ioctx` begins; the ring is still mapped. The caller is io_destroy, an io_setup that fails
/// late, or `exit_aio`, for each context of an address space that ends. The latter may run in any
/// task that was the last to hold the address space:
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n859>
#[inline(always)]
pub fn killed(space: u64, kioctx: u64) {
    let dead: u32 = kernel::read(kioctx as *const u8, setting!(offsets.kioctx_dead)).unwrap_or(0);
    if dead != 0 {
        return; // Another call of `kill_ioctx` was first.
    }
    let kernel = current_kernel_ids();
    let task = Task::current();
    let is_own = task.space() == space;
    let (pid, kernel_pid, completed) = match OWNERS.get_ptr_mut(&kioctx) {
        Some(owner) => {
            // SAFETY: a map value.
            let owner = unsafe { &mut *owner };
            if owner.gone != 0 {
                return;
            }
            owner.gone = 1;
            (owner.pid, owner.kernel_pid, owner.completed)
        }
        // The context was not used since the attach.
        None => match task.ids(kernel) {
            Some(ids) if targets::is_known(ids.pid) && (is_own || task.is_exiting()) => {
                (ids.pid, kernel.pid, 0)
            }
            _ => return, // Perhaps this task was only the last reader of another process's memory.
        },
    };
    if is_own && caller().is_none_or(|it| it.syscall != DESTROY) {
        return; // An io_setup that failed: no program ever had the handle.
    }
    let end = if is_own {
        End::Destroy
    } else if task.is_exiting() || kernel_pid != kernel.pid {
        End::Exit
    } else {
        End::Exec
    };
    // An exiting task has used this address space itself; any other task only looked into it.
    let by_other = u32::from(matches!(end, End::Exit) && !task.is_exiting());
    let handle = handle(kioctx);
    let header = Header { kind: Kind::ContextGone, flags: 0, seq: 0, time: now(), pid, tid: pid };
    records::emit(|record: *mut ContextGone| {
        // SAFETY: room in the ring buffer.
        unsafe { *record = ContextGone { header, space, handle, completed, end, by_other } };
    });
}

const DESTROY: u32 = aiotrace_common::abi::Syscall::Destroy as u32;

/// `aio_ring_mremap` returns.
#[inline(always)]
pub fn moved(area: u64, ret: i64) {
    if ret as i32 != 0 {
        return;
    }
    let area = area as *const u8;
    let file: Option<u64> = kernel::read(area, setting!(offsets.vm_area_struct_vm_file));
    let to: Option<u64> = kernel::read(area, setting!(offsets.vm_area_struct_vm_start));
    let (Some(file), Some(to)) = (file, to) else { return };
    let Some(kioctx) = RING_FILES.get_ptr(&file) else { return };
    // SAFETY: a map value.
    let Some(owner) = OWNERS.get_ptr_mut(unsafe { &*kioctx }) else { return };
    // SAFETY: a map value; two threads do not move the same ring at once.
    let owner = unsafe { &mut *owner };
    let Owner { space, handle: from, pid, .. } = *owner;
    // A forked child has the mapping but not the context; and the kernel uses addresses of files
    // again.
    if space != Task::current().space() || owner.gone != 0 {
        return;
    }
    owner.handle = to;
    let header = Header { kind: Kind::ContextMoved, flags: 0, seq: 0, time: now(), pid, tid: pid };
    records::emit(|record: *mut ContextMoved| {
        // SAFETY: room in the ring buffer.
        unsafe { *record = ContextMoved { header, space, from, to } };
    });
}
