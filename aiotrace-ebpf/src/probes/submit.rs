//! io_submit(ctx, nr, iocbpp): the iocbs leave when the call is entered, the result when it
//! returns. A completion may come, be reaped, and its iocb be used again in between.

use aiotrace_common::record::{
    IOCBS_PER_RECORD, ITEMS_PER_CALL, Kind, Memory, RingSample, Submit, Submitted, SubmittedIocb,
    Thread, flag,
};
use aya_ebpf::{macros::map, maps::PerCpuArray};

use crate::{
    records::{self, Left},
    user,
};

#[repr(C)]
struct Scratch {
    record: Submit,
    iocbs: [SubmittedIocb; IOCBS_PER_RECORD],
    /// As in [`Thread::unread`].
    unread: u32,
}

/// One for each program: see [`crate::ring::Moment`].
#[map]
static IOCB_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2, 0);

#[inline(always)]
pub fn entered(thread: &mut Thread, sample: RingSample) {
    thread.unread = send_iocbs(thread, sample, 0, 0);
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, sample: RingSample) {
    if thread.unread != 0 {
        let first = thread.unread - 1;
        send_iocbs(thread, RingSample::UNREAD, first, flag::LATE);
    }
    let header = records::header(thread, Kind::Submitted, left.flags, left.time);
    records::emit(|record: *mut Submitted| {
        // SAFETY: room in the ring buffer.
        unsafe { *record = Submitted { call: records::call(thread, header, left), ring: sample } };
    });
}

/// Sends the iocbs from index `first` on. `flags`: [`flag::LATE`] or nothing. Returns what could
/// not be read, as in [`Thread::unread`].
#[inline(always)]
fn send_iocbs(thread: &mut Thread, sample: RingSample, first: u32, flags: u16) -> u32 {
    let late = (flags == flag::LATE) as u32;
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(late) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, unread, .. } = unsafe { &mut *scratch };
    record.header = records::first_header(thread, Kind::Submit, flags, thread.entered);
    record.args = [thread.args[0], thread.args[1], thread.args[2]];
    record.ring = sample;
    record.first = first;
    *unread = 0;
    for _ in 0..ITEMS_PER_CALL / IOCBS_PER_RECORD {
        if send_iocb_record(late) == 0 {
            break;
        }
    }
    thread.seq = record.header.seq;
    *unread
}

/// Sends one record of iocbs, and moves on; 0 when it was the last.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_iocb_record(late: u32) -> u32 {
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(late & 1) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, unread, .. } = unsafe { &mut *scratch };
    let total = (record.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u32;
    let first = record.first;
    record.count = total.saturating_sub(first).min(IOCBS_PER_RECORD as u32);
    if read_iocbs(late) != 0 && *unread == 0 {
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
pub extern "C" fn read_iocbs(late: u32) -> u32 {
    let late = late & 1;
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(late) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, iocbs, .. } = unsafe { &mut *scratch };
    let pointers = record.args[2].wrapping_add(u64::from(record.first) * 8);
    let count = record.count;
    let how = if late == 1 { Memory::ReadLate } else { Memory::Read };
    let mut failed = 0;
    for (index, slot) in iocbs.iter_mut().enumerate() {
        if index as u32 >= count {
            break;
        }
        failed |= read_iocb(slot, pointers.wrapping_add(index as u64 * 8), how);
    }
    failed
}

/// Reads one iocb; not 0 if something could not be read. No branches.
#[inline(always)]
fn read_iocb(slot: &mut SubmittedIocb, pointer: u64, how: Memory) -> u32 {
    user::read_marked(&mut slot.address, &mut slot.pointer, pointer, how)
        | user::read_marked(&mut slot.iocb, &mut slot.memory, slot.address, how)
}
