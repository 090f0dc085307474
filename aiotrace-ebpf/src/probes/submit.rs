//! io_submit(ctx, nr, iocbpp): the iocbs leave when the call is entered, the result when it
//! returns. A completion may come, be reaped, and its iocb be used again in between.

use aiotrace_common::{
    abi::{Abi, IoEvent},
    record::{
        EVENTS_PER_RECORD, IOCBS_PER_RECORD, ITEMS_PER_CALL, Kind, Memory, NewEntries, RingSample,
        Submit, Submitted, SubmittedIocb, Thread, flag,
    },
};
use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::{
    records::{self, Left},
    ring, user,
};

#[repr(C)]
struct Scratch {
    record: Submit,
    iocbs: [SubmittedIocb; IOCBS_PER_RECORD],
    /// As in [`Thread::unread`].
    unread: u32,
}

/// One for each program, see [`crate::ring::Moment`]: entry and return, of the 64-bit call and of the
/// 32-bit one.
#[map]
static IOCB_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(8, 0);

/// Bit of the index into [`IOCB_SCRATCH`] for what is read when the call is left.
const LATE: u32 = 1;
/// Bit of the index for 32-bit calls.
const COMPAT: u32 = 2;
/// Bit of the index for the one program that sees every call left.
const TELLS: u32 = 4;

#[inline(always)]
pub fn entered(thread: &mut Thread, sample: RingSample) {
    thread.unread = send_iocbs(thread, sample, 0, 0);
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, ring: RingSample, new: NewEntries) {
    if thread.unread != 0 {
        let first = thread.unread - 1;
        let slot = LATE | if left.tells { TELLS } else { 0 };
        send_iocbs(thread, RingSample::UNREAD, first, slot);
    }
    let slot = if left.tells { 3 } else { thread.abi };
    let Some(scratch) = SUBMITTED_SCRATCH.get_ptr_mut(slot) else { return };
    let header = records::header(thread, Kind::Submitted, left.flags, left.time);
    let call = records::call(thread, header, left);
    // SAFETY: scratch memory of this CPU and program.
    unsafe { (*scratch).record = Submitted { call, ring, new } };
    send_submitted(slot);
}

#[repr(C)]
struct SubmittedScratch {
    record: Submitted,
    entries: [IoEvent; EVENTS_PER_RECORD],
}

/// One for each program: return of the 64-bit call, of the 32-bit ones, and the one program that sees every
/// call left.
#[map]
static SUBMITTED_SCRATCH: PerCpuArray<SubmittedScratch> = PerCpuArray::with_max_entries(4, 0);

/// Sends the record that was built, with the entries that are new.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_submitted(slot: u32) -> u32 {
    let Some(scratch) = SUBMITTED_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let SubmittedScratch { record, entries } = unsafe { &mut *scratch };
    let count = user::unknown(&record.new.count);
    if count > EVENTS_PER_RECORD as u32 {
        return 0;
    }
    let mut bytes = 0;
    if count != 0 {
        bytes = count as usize * size_of::<IoEvent>();
        let at = ring::entry(record.call.args[0], record.new.first);
        // SAFETY: `count` is at most the array's length.
        if unsafe { user::read_into(&raw mut *entries, bytes as u32, at) } {
            record.new.memory = Memory::Read;
        } else {
            bytes = 0;
        }
    }
    // SAFETY: the array follows the record.
    unsafe { records::emit_bytes(scratch.cast(), size_of::<Submitted>() + bytes) };
    0
}

/// Sends the iocbs from index `first` on. `slot`: bits of the index into [`IOCB_SCRATCH`]. Returns what
/// could not be read, as in [`Thread::unread`].
#[inline(always)]
fn send_iocbs(thread: &mut Thread, sample: RingSample, first: u32, slot: u32) -> u32 {
    let compat = if Abi::from_number(thread.abi).is_32_bit() { COMPAT } else { 0 };
    let slot = slot | compat;
    let flags = if slot & LATE != 0 { flag::LATE } else { 0 };
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, unread, .. } = unsafe { &mut *scratch };
    record.header = records::first_header(thread, Kind::Submit, flags, thread.entered);
    record.args = [thread.args[0], thread.args[1], thread.args[2]];
    record.ring = sample;
    record.first = first;
    *unread = 0;
    send_iocb_records(slot);
    thread.seq = record.header.seq;
    *unread
}

/// Sends all iocbs of the call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_iocb_records(slot: u32) -> u32 {
    for _ in 0..ITEMS_PER_CALL / IOCBS_PER_RECORD {
        if send_iocb_record(slot) == 0 {
            break;
        }
    }
    0
}

/// Sends one record of iocbs, and moves on; 0 when it was the last.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_iocb_record(slot: u32) -> u32 {
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, unread, .. } = unsafe { &mut *scratch };
    let total = (record.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u32;
    let first = record.first;
    record.count = total.saturating_sub(first).min(IOCBS_PER_RECORD as u32);
    if read_iocbs(slot) != 0 && *unread == 0 {
        *unread = first + 1;
    }
    let count = user::unknown(&record.count);
    if count > IOCBS_PER_RECORD as u32 {
        return 0;
    }
    let more = first + count < total;
    records::next(&mut record.header, more);
    let array = count as usize * size_of::<SubmittedIocb>();
    // SAFETY: the array follows the record.
    unsafe { records::emit_bytes(scratch.cast(), size_of::<Submit>() + array) };
    record.first = first + count;
    more as u32
}

/// Reads the iocbs of the record being built; not 0 if something could not be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_iocbs(slot: u32) -> u32 {
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, iocbs, .. } = unsafe { &mut *scratch };
    let width = if slot & COMPAT != 0 { 4 } else { 8 };
    let pointers = record.args[2].wrapping_add(u64::from(record.first) * width);
    let count = record.count;
    let how = if slot & LATE != 0 { Memory::ReadLate } else { Memory::Read };
    let mut failed = 0;
    for (index, iocb) in iocbs.iter_mut().enumerate() {
        if index as u32 >= count {
            break;
        }
        failed |= read_iocb(iocb, pointers.wrapping_add(index as u64 * width), width as u32, how);
    }
    failed
}

/// Reads one iocb; not 0 if something could not be read. No branches. `width`: of the pointer to it.
#[inline(always)]
fn read_iocb(slot: &mut SubmittedIocb, pointer: u64, width: u32, how: Memory) -> u32 {
    slot.address = 0;
    // SAFETY: `width` is at most 8. What is above it stays 0, as all of it if it cannot be read.
    let read = unsafe { user::read_into(&raw mut slot.address, width, pointer) };
    slot.pointer = if read { how } else { Memory::Unread };
    user::read_marked(&mut slot.iocb, &mut slot.memory, slot.address, how) | !read as u32
}
