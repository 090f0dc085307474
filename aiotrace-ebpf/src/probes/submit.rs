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
}

/// One for each program: see [`crate::ring::Moment`].
#[map]
static IOCB_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2, 0);

#[inline(always)]
pub fn entered(thread: &mut Thread, sample: RingSample) {
    send_iocbs(thread, sample, 0, Memory::Read);
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, sample: RingSample) {
    if thread.unread != 0 {
        let first = thread.unread - 1;
        send_iocbs(thread, RingSample::UNREAD, first, Memory::ReadLate);
    }
    let header = records::header(thread, Kind::Submitted, left.flags, left.time);
    records::emit(|record: *mut Submitted| {
        // SAFETY: room in the ring buffer.
        unsafe { *record = Submitted { call: records::call(thread, header, left), ring: sample } };
    });
}

/// Sends the iocbs from index `first` on.
#[inline(always)]
fn send_iocbs(thread: &mut Thread, sample: RingSample, first: u32, how: Memory) {
    let late = matches!(how, Memory::ReadLate);
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(late as u32) else {
        return;
    };
    // SAFETY: scratch memory of this CPU and program.
    let record = unsafe { &mut (*scratch).record };
    let total = (thread.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u32;
    record.args = [thread.args[0], thread.args[1], thread.args[2]];
    record.ring = sample;
    record.first = first;
    for _ in 0..ITEMS_PER_CALL / IOCBS_PER_RECORD {
        let first = user::unknown(&record.first);
        record.count = total.saturating_sub(first).min(IOCBS_PER_RECORD as u32);
        if read_iocbs(late as u32) != 0 && thread.unread == 0 {
            thread.unread = first + 1;
        }
        let count = user::unknown(&record.count);
        if count > IOCBS_PER_RECORD as u32 {
            return;
        }
        let more = count == IOCBS_PER_RECORD as u32 && first + count < total;
        let flags = if more { flag::MORE } else { 0 } | if late { flag::LATE } else { 0 };
        record.header = records::header(thread, Kind::Submit, flags, thread.entered);
        let array = count as usize * size_of::<SubmittedIocb>();
        // SAFETY: the array follows the record.
        unsafe { records::emit_bytes(scratch.cast(), size_of::<Submit>() + array) };
        if !more {
            break;
        }
        record.first = first + count;
    }
}

/// Reads the iocbs of the record being built; not 0 if something could not be read.
///
/// A global function: the verifier walks through it once, and not once for each of the 64 records
/// of a long call in both programs. Such a function takes numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn read_iocbs(late: u32) -> u32 {
    let late = late & 1;
    let Some(scratch) = IOCB_SCRATCH.get_ptr_mut(late) else {
        return 0;
    };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { record, iocbs } = unsafe { &mut *scratch };
    let pointers = record.args[2].wrapping_add(u64::from(record.first) * 8);
    let count = record.count;
    let how = Memory::Read as u32 + late;
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
fn read_iocb(slot: &mut SubmittedIocb, pointer: u64, how: u32) -> u32 {
    // The helper zeroes what it cannot read, and nothing can be read at 0.
    let no_pointer = user::read_or_fail(&mut slot.address, pointer);
    let no_iocb = user::read_or_fail(&mut slot.iocb, slot.address);
    // SAFETY: 0 is Unread, and the masks leave either that or `how`.
    unsafe {
        (&raw mut slot.pointer).cast::<u32>().write(how & !no_pointer);
        (&raw mut slot.memory).cast::<u32>().write(how & !no_iocb);
    }
    no_pointer | no_iocb
}
