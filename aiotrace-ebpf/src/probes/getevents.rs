//! io_getevents(ctx, min_nr, nr, events, timeout) and io_pgetevents(..., sigset).

use aiotrace_common::{
    abi::{IoEvent, Syscall},
    record::{EVENTS_PER_RECORD, Events, ITEMS_PER_CALL, Kind, Memory, RingSample, Thread},
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

/// The timeout is read now: a call that never returns should still say how long it waits.
#[inline(always)]
pub fn entered(thread: &mut Thread) {
    let failed = user::read_or_fail(&mut thread.timeout, user::or_nowhere(thread.args[4]));
    thread.timeout_memory = Memory::Read as u32 & !failed;
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, sample: RingSample) {
    let Some(scratch) = EVENT_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: scratch memory of this CPU and of this program alone.
    let Scratch { record, .. } = unsafe { &mut *scratch };
    let header = records::first_header(thread, Kind::Events, left.flags, left.time);
    record.call = records::call(thread, header, left);
    record.ring = sample;
    record.timeout = thread.timeout;
    record.timeout_memory = calls::memory(thread.timeout_memory);
    if matches!(record.timeout_memory, Memory::Unread) {
        let at = user::or_nowhere(thread.args[4]);
        let late = Memory::ReadLate;
        user::read_marked(&mut record.timeout, &mut record.timeout_memory, at, late);
    }
    // `struct __aio_sigset` of fs/aio.c: the address of the mask, and its size.
    let is_pgetevents = matches!(left.syscall, Syscall::Pgetevents);
    let sigset = user::or_nowhere(if is_pgetevents { thread.args[5] } else { 0 });
    let how = Memory::Read;
    user::read_or_fail(&mut record.sigset_address, sigset);
    let size = if sigset == user::NOWHERE { sigset } else { sigset.wrapping_add(8) };
    user::read_marked(&mut record.sigset_size, &mut record.sigset_memory, size, how);
    let mask = user::or_nowhere(record.sigset_address);
    user::read_marked(&mut record.sigset, &mut record.mask_memory, mask, how);
    record.first = 0;
    for _ in 0..ITEMS_PER_CALL / EVENTS_PER_RECORD {
        if send_event_record() == 0 {
            break;
        }
    }
    thread.seq = record.call.header.seq;
}

/// Sends one record of events, and moves on; 0 when it was the last. See [`records`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_event_record() -> u32 {
    let Some(scratch) = EVENT_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: scratch memory of this CPU and of this program alone.
    let Scratch { record, events } = unsafe { &mut *scratch };
    let total = record.call.ret.clamp(0, ITEMS_PER_CALL as i64) as u32;
    let first = record.first;
    record.count = total.saturating_sub(first).min(EVENTS_PER_RECORD as u32);
    let count = user::unknown(&record.count);
    if count > EVENTS_PER_RECORD as u32 {
        return 0;
    }
    let more = first + count < total;
    records::next(&mut record.call.header, more);
    let bytes = count as usize * size_of::<IoEvent>();
    let address = record.call.args[3].wrapping_add(u64::from(first) * size_of::<IoEvent>() as u64);
    // SAFETY: `count` is at most the array's length.
    let read = unsafe { user::read_into(&raw mut *events, bytes as u32, address) };
    record.memory = if read { Memory::Read } else { Memory::Unread };
    let array = if read { bytes } else { 0 };
    // SAFETY: the array follows the record.
    unsafe { records::emit_bytes(scratch.cast(), size_of::<Events>() + array) };
    record.first = first + count;
    more as u32
}
