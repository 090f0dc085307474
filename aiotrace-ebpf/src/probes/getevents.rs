//! io_getevents(ctx, min_nr, nr, events, timeout) and io_pgetevents(..., sigset).

use aiotrace_common::{
    abi::{Abi, IoEvent, Syscall},
    record::{EVENTS_PER_RECORD, Events, ITEMS_PER_CALL, Kind, Memory, RingSample, Sigset, Thread},
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

/// One for each probe, see [`crate::ring::Moment`]: 2 calls for each of 3 ABIs, and the probe that
/// sees every call return.
#[map]
static EVENT_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(7, 0);

/// Reads the timeout at the entry, so that a call that never returns still says how long it waits.
#[inline(always)]
pub fn entered(thread: &mut Thread) {
    thread.timeout_memory = Memory::Unread as u32;
    if thread.args[4] != 0 {
        let abi = Abi::from_number(thread.abi);
        let failed = user::read_timespec(&mut thread.timeout, thread.args[4], abi);
        thread.timeout_memory = user::mark(failed, Memory::Read) as u32;
    }
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, sample: RingSample) {
    let abi = Abi::from_number(thread.abi);
    let is_pgetevents = matches!(left.syscall, Syscall::Pgetevents);
    let slot = if left.tells { 6 } else { abi as u32 * 2 + is_pgetevents as u32 };
    let Some(scratch) = EVENT_SCRATCH.get_ptr_mut(slot) else { return };
    // SAFETY: scratch memory of this CPU and of this program alone.
    let Scratch { record, .. } = unsafe { &mut *scratch };
    if is_pgetevents && thread.args[5] != 0 {
        send_sigset(thread, left, abi);
    }
    let header = records::first_header(thread, Kind::Events, left.flags, left.time);
    // SAFETY: the record is in the scratch memory.
    unsafe { records::write_call(&raw mut record.call, thread, header, left) };
    record.ring = sample;
    record.timeout = thread.timeout;
    record.timeout_memory = calls::memory(thread.timeout_memory);
    if thread.args[4] != 0 && matches!(record.timeout_memory, Memory::Unread) {
        let failed = user::read_timespec(&mut record.timeout, thread.args[4], abi);
        record.timeout_memory = user::mark(failed, Memory::ReadLate);
    }
    record.first = 0;
    send_event_records(slot);
    thread.seq = record.call.header.seq;
}

/// `struct __aio_sigset`: the address of the mask and its size, one word each.
/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n2287>
#[inline(always)]
fn send_sigset(thread: &mut Thread, left: &Left, abi: Abi) {
    let at = thread.args[5];
    let (mut address, mut size, mut mask) = (0, 0, 0u64);
    user::read_pointer(&mut address, at, abi);
    let word = if abi.is_32_bit() { 4 } else { 8 };
    let failed = user::read_pointer(&mut size, at.wrapping_add(word), abi);
    let memory = user::mark(failed, Memory::Read);
    let failed = user::read_or_fail(&mut mask, user::or_nowhere(address));
    let mask_memory = user::mark(failed, Memory::Read);
    let header = records::header(thread, Kind::Sigset, left.flags, left.time);
    records::emit(|record: *mut Sigset| {
        // SAFETY: room in the ring buffer.
        unsafe { *record = Sigset { header, address, size, mask, memory, mask_memory } };
    });
}

/// Sends all events of the call. See [`records`] for why this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_event_records(slot: u32) -> u32 {
    for _ in 0..ITEMS_PER_CALL / EVENTS_PER_RECORD {
        if send_event_record(slot) == 0 {
            break;
        }
    }
    0
}

/// Sends one record of events and moves on; 0 if it was the last. See [`records`] for why this is a
/// function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_event_record(slot: u32) -> u32 {
    let Some(scratch) = EVENT_SCRATCH.get_ptr_mut(slot) else { return 0 };
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
