//! The program behind `aiotrace ls`: it walks all tasks and lists every context of every address
//! space, with what each takes from fs.aio-nr, even where the program has unmapped the ring. It is
//! not attached to anything; it runs when its iterator is read.
//!
//! Old kernels (5.10) have no `bpf_loop`, so one walk looks at 1,024 places of each table, and the
//! reader walks again for the places behind them.
#![no_std]
#![no_main]

use aiotrace_common::record::{CONTEXTS_PER_WALK, Cursor, ListedContext};
use aiotrace_ebpf::{kernel::read, setting, task::Task};
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, RingBuf},
};

#[map]
static LISTED: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

#[map]
static CURSOR: Array<Cursor> = Array::with_max_entries(1, 0);

/// The last walk in which each address space was looked at.
#[map]
static LOOKED_AT: HashMap<u64, u32> = HashMap::with_max_entries(65_536, 0);

/// The table of contexts that is being listed.
#[repr(C)]
struct Table {
    at: u64,
    space: u64,
    pid: u32,
    kernel_pid: u32,
    length: u32,
    reserved: u32,
}

#[map]
static TABLE: Array<Table> = Array::with_max_entries(1, 0);

/// The kernel's `struct bpf_iter__task`.
#[repr(C)]
struct Context {
    meta: u64,
    task: u64,
}

#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn list_contexts(ctx: *const Context) -> i32 {
    // SAFETY: the kernel calls this program with such a context.
    let task = unsafe { (*ctx).task };
    if task != 0 {
        look_at(Task::at(task as *const u8));
    }
    0
}

#[inline(always)]
fn look_at(task: Task) -> Option<()> {
    let space = task.space();
    let cursor = cursor()?;
    // SAFETY: only one reader at a time.
    let done = unsafe { LOOKED_AT.get(space) };
    if space == 0 || done.is_some_and(|walk| *walk == cursor.walk) {
        return None;
    }
    let _ = LOOKED_AT.insert(space, cursor.walk, 0);
    let mm = space as *const u8;
    let at: u64 = read(mm, setting!(offsets.mm_struct_ioctx_table))?;
    if at == 0 {
        return None;
    }
    let length: u32 = read(at as *const u8, setting!(offsets.kioctx_table_nr))?;
    let kernel = task.kernel_ids();
    let ids = task.ids(kernel)?;
    let table = TABLE.get_ptr_mut(0)?;
    // SAFETY: only one reader at a time.
    unsafe {
        *table = Table { at, space, pid: ids.pid, kernel_pid: kernel.pid, length, reserved: 0 }
    };
    if length > cursor.first + CONTEXTS_PER_WALK {
        cursor.more = 1;
    }
    for index in 0..CONTEXTS_PER_WALK {
        if list_one(index) == 0 {
            break;
        }
    }
    Some(())
}

#[inline(always)]
fn cursor() -> Option<&'static mut Cursor> {
    // SAFETY: a map value; one reader at a time.
    CURSOR.get_ptr_mut(0).map(|cursor| unsafe { &mut *cursor })
}

/// Lists the context at a place of the table; 0 behind the end of the table. A global function, so
/// that the verifier walks it only once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn list_one(index: u32) -> u32 {
    match list(index) {
        Some(true) => 1,
        _ => 0,
    }
}

#[inline(always)]
fn list(index: u32) -> Option<bool> {
    let cursor = cursor()?;
    let table = TABLE.get_ptr_mut(0)?;
    // SAFETY: a map value; one reader at a time.
    let table = unsafe { &*table };
    let place = cursor.first + index;
    if place >= table.length {
        return Some(false);
    }
    let entry = (table.at as *const u8).wrapping_add(place as usize * 8);
    let kioctx: u64 = read(entry, setting!(offsets.kioctx_table_table)).unwrap_or(0);
    if kioctx == 0 {
        return Some(true);
    }
    let kioctx = kioctx as *const u8;
    let context = ListedContext {
        space: table.space,
        handle: read(kioctx, setting!(offsets.kioctx_user_id)).unwrap_or(0),
        pid: table.pid,
        charge: read(kioctx, setting!(offsets.kioctx_max_reqs)).unwrap_or(0),
        room: read(kioctx, setting!(offsets.kioctx_nr_events)).unwrap_or(0),
        kernel_pid: table.kernel_pid,
        kioctx: kioctx as u64,
        ring_file: read(kioctx, setting!(offsets.kioctx_aio_ring_file)).unwrap_or(0),
        taken: taken(kioctx).unwrap_or(u32::MAX),
        kept: kept(kioctx).unwrap_or(u32::MAX),
    };
    match LISTED.reserve::<ListedContext>(0) {
        Some(mut record) => {
            record.write(context);
            record.submit(0);
        }
        None => cursor.lost += 1,
    }
    Some(true)
}

/// Slots of the ring that are taken: by requests in flight, or by processors that keep a batch for
/// themselves. The kernel does not give a slot back when its completion is reaped, but later, in
/// `refill_reqs_available`; until then `completed_events` counts it:
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n996>
#[inline(always)]
fn taken(kioctx: *const u8) -> Option<u32> {
    let slots: u32 = read(kioctx, setting!(offsets.kioctx_nr_events))?;
    let free: u32 = read(kioctx, setting!(offsets.kioctx_reqs_available))?;
    let completed: u32 = read(kioctx, setting!(offsets.kioctx_completed_events))?;
    // The kernel changes these numbers while they are read.
    let taken = slots.wrapping_sub(1).wrapping_sub(free).wrapping_sub(completed);
    if taken < slots { Some(taken) } else { Some(0) }
}

/// Slots that processors keep free for themselves; `None` if the kernel does not say where per-CPU
/// memory is (it does with CONFIG_KALLSYMS_ALL).
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n962>
#[inline(always)]
fn kept(kioctx: *const u8) -> Option<u32> {
    let kept: u64 = read(kioctx, setting!(offsets.kioctx_cpu))?;
    if setting!(per_cpu_offset) == 0 || kept == 0 {
        return None;
    }
    Some(kept_free(kept))
}

/// The sum of the slots that all processors keep free. A global function, so that the verifier
/// walks it only once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn kept_free(kept: u64) -> u32 {
    let mut sum: u32 = 0;
    for cpu in 0..MOST_CPUS {
        if cpu >= setting!(possible_cpus) {
            break;
        }
        let at = setting!(per_cpu_offset).wrapping_add(u64::from(cpu) * 8);
        let base: u64 = read(at as *const u8, 0).unwrap_or(0);
        let place = base.wrapping_add(kept) as *const u8;
        let free: u32 = read(place, setting!(offsets.kioctx_cpu_reqs_available)).unwrap_or(0);
        sum = sum.wrapping_add(free);
    }
    sum
}

/// How many processors are looked at, at most.
const MOST_CPUS: u32 = 512;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
