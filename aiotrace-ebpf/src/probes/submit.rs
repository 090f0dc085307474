//! io_submit(ctx, nr, iocbpp). The probe reads the iocbs at the entry: before the call returns, a
//! request may complete, be reaped, and its iocb be used again. It also sends them at the entry;
//! only the iocb of a call with one request stays in the thread's slot and is sent with the result,
//! which saves a record.

use core::ptr;

use aiotrace_common::{
    abi::{Abi, IoEvent},
    record::{
        EVENTS_PER_RECORD, IOCBS_PER_RECORD, ITEMS_PER_CALL, Kind, Memory, NewEntries, RingSample,
        Submit, Submitted, SubmittedIocb, SubmittedOne, Thread, flag,
    },
};
use aya_ebpf::{macros::map, maps::PerCpuArray};

use super::{calls, vectors};
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

/// One for each probe, see [`crate::ring::Moment`]: the index consists of the three bits below.
#[map]
static IOCB_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(8, 0);

/// Bit of the index into [`IOCB_SCRATCH`]: iocbs that are read when the call returns.
const LATE: u32 = 1;
/// Bit of the index: 32-bit calls.
const COMPAT: u32 = 2;
/// Bit of the index: the probe that sees every call return.
const TELLS: u32 = 4;

#[inline(always)]
pub fn entered(thread: &mut Thread, sample: RingSample) {
    if thread.args[1] == 1 {
        calls::keep_sample(thread, sample);
        thread.unread = keep_iocb(thread, Memory::Read);
        if vectors::are_told() && thread.unread == 0 {
            vectors::of_one(thread);
        }
    } else {
        thread.unread = send_iocbs(thread, sample, 0, 0);
    }
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, ring: RingSample, new: NewEntries) {
    let is_one = thread.args[1] == 1;
    if thread.unread != 0 {
        if is_one {
            keep_iocb(thread, Memory::ReadLate);
        } else {
            let first = thread.unread - 1;
            let slot = LATE | if left.tells { TELLS } else { 0 };
            send_iocbs(thread, RingSample::UNREAD, first, slot);
        }
    }
    let slot = if left.tells { 3 } else { thread.abi };
    if is_one {
        let Some(scratch) = ONE_SCRATCH.get_ptr_mut(slot) else { return };
        // SAFETY: scratch memory of this CPU and program.
        let SubmittedOne { submitted, ring_before, iocb } = unsafe { &mut (*scratch).record };
        fill(submitted, Kind::SubmittedOne, thread, left, ring, new);
        *ring_before = calls::kept_sample(thread);
        iocb.address = thread.iocb_address;
        iocb.pointer = calls::memory(thread.iocb_pointer);
        iocb.memory = calls::memory(thread.iocb_memory);
        // SAFETY: one is in the slot, the other in the scratch memory. (A plain assignment would
        // become a call that copies byte by byte, because the compiler does not know that they do
        // not overlap.)
        unsafe { ptr::copy_nonoverlapping(&raw const thread.iocb, &raw mut iocb.iocb, 1) };
        if send_one(slot) != 0 {
            ring::put_back(thread, new.first);
        }
    } else {
        let Some(scratch) = SUBMITTED_SCRATCH.get_ptr_mut(slot) else { return };
        // SAFETY: scratch memory of this CPU and program.
        let submitted = unsafe { &mut (*scratch).record };
        fill(submitted, Kind::Submitted, thread, left, ring, new);
        if send_submitted(slot) != 0 {
            ring::put_back(thread, new.first);
        }
    }
}

#[inline(always)]
fn fill(
    to: &mut Submitted,
    kind: Kind,
    thread: &mut Thread,
    left: &Left,
    ring: RingSample,
    new: NewEntries,
) {
    let header = records::header(thread, kind, left.flags, left.time);
    // SAFETY: the record is in the scratch memory.
    unsafe { records::write_call(&raw mut to.call, thread, header, left) };
    to.ring = ring;
    to.new = new;
}

/// Reads the only iocb of a call into the thread's slot. Returns 1 if something could not be read,
/// for [`Thread::unread`].
#[inline(always)]
fn keep_iocb(thread: &mut Thread, how: Memory) -> u32 {
    let abi = Abi::from_number(thread.abi);
    let pointer = user::read_pointer(&mut thread.iocb_address, thread.args[2], abi);
    thread.iocb_pointer = user::mark(pointer, how) as u32;
    let address = user::or_nowhere(thread.iocb_address);
    let iocb = user::read_or_fail(&mut thread.iocb, address);
    thread.iocb_memory = user::mark(iocb, how) as u32;
    (pointer | iocb) & 1
}

/// A record, followed by the new entries of the ring.
#[repr(C)]
struct WithEntries<T> {
    record: T,
    entries: [IoEvent; EVENTS_PER_RECORD],
}

/// One for each probe: the return of the call in each of 3 ABIs, and the probe that sees every call
/// return.
#[map]
static SUBMITTED_SCRATCH: PerCpuArray<WithEntries<Submitted>> = PerCpuArray::with_max_entries(4, 0);

/// As [`SUBMITTED_SCRATCH`], for calls with one iocb.
#[map]
static ONE_SCRATCH: PerCpuArray<WithEntries<SubmittedOne>> = PerCpuArray::with_max_entries(4, 0);

/// Sends the record that was built, with the new entries; 1 if these could not be read. See
/// [`records`] for why this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_submitted(slot: u32) -> u32 {
    let Some(scratch) = SUBMITTED_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    send(unsafe { &mut *scratch }, |record| record)
}

/// [`send_submitted`] for a call with one iocb.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_one(slot: u32) -> u32 {
    let Some(scratch) = ONE_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    send(unsafe { &mut *scratch }, |record| &mut record.submitted)
}

#[inline(always)]
fn send<T>(scratch: &mut WithEntries<T>, submitted: impl FnOnce(&mut T) -> &mut Submitted) -> u32 {
    let Submitted { call, new, .. } = submitted(&mut scratch.record);
    let count = user::unknown(&new.count);
    if count > EVENTS_PER_RECORD as u32 {
        return 0;
    }
    let (mut bytes, mut failed) = (0, 0);
    if count != 0 {
        bytes = count as usize * size_of::<IoEvent>();
        let at = ring::entry(call.args[0], new.first);
        // SAFETY: `count` is at most the array's length.
        if unsafe { user::read_into(&raw mut scratch.entries, bytes as u32, at) } {
            new.memory = Memory::Read;
        } else {
            (bytes, failed) = (0, 1);
            (new.count, new.beyond) = (0, count);
        }
    }
    // SAFETY: the array follows the record.
    unsafe { records::emit_bytes(core::ptr::from_ref(scratch).cast(), size_of::<T>() + bytes) };
    failed
}

/// Sends the iocbs from index `first` on. `slot` has bits of the index into [`IOCB_SCRATCH`].
/// Returns which iocb could not be read, for [`Thread::unread`].
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

/// Sends all iocbs of the call. See [`records`] for why this is a function.
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

/// Sends one record of iocbs and moves on; 0 if it was the last.
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
    if vectors::are_told() && slot & LATE == 0 {
        send_vectors(slot);
    }
    record.first = first + count;
    more as u32
}

/// Sends the iovecs of the iocbs in the record that was sent.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_vectors(slot: u32) -> u32 {
    for index in 0..IOCBS_PER_RECORD {
        send_vectors_of(slot, index as u32);
    }
    0
}

/// Sends the iovecs of one iocb in the record that was sent.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_vectors_of(slot: u32, index: u32) -> u32 {
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, iocbs, .. } = unsafe { &mut *scratch };
    // (The mask is for the verifier, and for the compiler: neither has to check again.)
    let it = &iocbs[index as usize % IOCBS_PER_RECORD];
    if index < record.count && matches!(it.memory, Memory::Read) {
        vectors::of(record.header, record.first + index, &it.iocb, slot & COMPAT != 0);
    }
    0
}

/// Reads the iocbs of the record that is being built; not 0 if something could not be read.
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

/// Reads one iocb, without branches; not 0 if something could not be read. `width` is that of the
/// pointer to the iocb.
#[inline(always)]
fn read_iocb(slot: &mut SubmittedIocb, pointer: u64, width: u32, how: Memory) -> u32 {
    slot.address = 0;
    // SAFETY: `width` is at most 8. The bytes above it stay 0, as do all of them if the read fails.
    let read = unsafe { user::read_into(&raw mut slot.address, width, pointer) };
    slot.pointer = if read { how } else { Memory::Unread };
    user::read_marked(&mut slot.iocb, &mut slot.memory, slot.address, how) | !read as u32
}
