//! io_getevents(ctx, min_nr, nr, events, timeout) and io_pgetevents(..., sigset).

use aiotrace_common::{
    abi::{IoEvent, Syscall, Timespec},
    record::{EVENTS_PER_RECORD, Events, ITEMS_PER_CALL, Kind, Memory, RingSample, Thread, flag},
};
use aya_ebpf::{macros::map, maps::PerCpuArray};

use super::calls;
use crate::{
    records::{self, Left},
    user,
};

#[repr(C)]
struct Scratch {
    record: Events,
    events: [IoEvent; EVENTS_PER_RECORD],
}

#[map]
static EVENT_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// `struct __aio_sigset` of fs/aio.c.
#[repr(C)]
struct Sigset {
    mask: u64,
    size: u64,
}

/// The timeout is read now: a call that never returns should still say how long it waits.
#[inline(always)]
pub fn entered(thread: &mut Thread) {
    let timeout = timeout(thread);
    thread.timeout_memory = if timeout.is_some() { Memory::Read } else { Memory::Unread } as u32;
    thread.timeout = timeout.unwrap_or_default();
}

#[inline(always)]
fn timeout(thread: &Thread) -> Option<Timespec> {
    if thread.args[4] == 0 {
        return None;
    }
    user::read(thread.args[4])
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, sample: RingSample) {
    let Some(scratch) = EVENT_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    let mut timeout_memory = calls::memory(thread.timeout_memory);
    if thread.args[4] != 0
        && timeout_memory == Memory::Unread
        && let Some(timeout) = timeout(thread)
    {
        thread.timeout = timeout;
        timeout_memory = Memory::ReadLate;
    }
    let is_pgetevents = matches!(left.syscall, Syscall::Pgetevents);
    let sigset = if is_pgetevents { user::read::<Sigset>(thread.args[5]) } else { None };
    let mask = sigset.as_ref().and_then(|it| user::read::<u64>(it.mask));

    // SAFETY: scratch memory of this CPU and of this program alone.
    let Scratch { record, events } = unsafe { &mut *scratch };
    record.ring = sample;
    record.timeout = thread.timeout;
    record.timeout_memory = timeout_memory;
    record.sigset_memory = if sigset.is_some() { Memory::Read } else { Memory::Unread };
    record.mask_memory = if mask.is_some() { Memory::Read } else { Memory::Unread };
    let sigset = sigset.unwrap_or(Sigset { mask: 0, size: 0 });
    record.sigset_address = sigset.mask;
    record.sigset_size = sigset.size;
    record.sigset = mask.unwrap_or(0);

    let total = left.ret.clamp(0, ITEMS_PER_CALL as i64) as u32;
    record.first = 0;
    for _ in 0..ITEMS_PER_CALL / EVENTS_PER_RECORD {
        let first = user::unknown(&record.first);
        record.count = total.saturating_sub(first).min(EVENTS_PER_RECORD as u32);
        let count = user::unknown(&record.count);
        if count > EVENTS_PER_RECORD as u32 {
            return;
        }
        let more = first + count < total;
        let flags = left.flags | if more { flag::MORE } else { 0 };
        let header = records::header(thread, Kind::Events, flags, left.time);
        record.call = records::call(thread, header, left);
        let bytes = count as usize * size_of::<IoEvent>();
        let address = thread.args[3].wrapping_add(u64::from(first) * size_of::<IoEvent>() as u64);
        // SAFETY: `count` is at most the array's length.
        let read = unsafe { user::read_into(&raw mut *events, bytes as u32, address) };
        record.memory = if read { Memory::Read } else { Memory::Unread };
        // SAFETY: the array follows the record.
        unsafe { records::emit_bytes(scratch.cast(), size_of::<Events>() + bytes) };
        if !more {
            break;
        }
        record.first = first + count;
    }
}
