//! What becomes of a request: io_submit refuses it, or it completes, on any thread and at any time.

use aiotrace_common::{
    abi::IoEvent,
    record::{Completion, Header, Kind, Refused, flag},
};

use super::{calls::now, context};
use crate::{kernel, records, settings::setting};

/// `io_submit_one` returns.
#[inline(always)]
pub fn submitted(iocb: u64, ret: i64) {
    let ret = i64::from(ret as i32);
    if ret == 0 {
        return;
    }
    let Some(thread) = context::caller() else { return };
    let header = records::header(thread, Kind::Refused, 0, now());
    records::emit(|record: *mut Refused| {
        // SAFETY: room in the ring buffer.
        unsafe { *record = Refused { header, iocb, ret } };
    });
}

/// `aio_complete` begins: the entry is not yet in the ring, so nobody can have reaped it.
#[inline(always)]
pub fn completed(request: u64) {
    let request = request as *const u8;
    let Some(kioctx) = kernel::read(request, setting!(offsets.aio_kiocb_ki_ctx)) else { return };
    let Some(owner) = context::owner(kioctx) else { return };
    let pid = owner.pid;
    let flags = if owner.gone != 0 { flag::DISCARDED } else { 0 };
    if owner.gone == 0 {
        context::count(owner);
    }
    let header = Header { kind: Kind::Completion, flags, seq: 0, time: now(), pid, tid: pid };
    let none = IoEvent { data: 0, obj: 0, res: 0, res2: 0 };
    let event = kernel::read(request, setting!(offsets.aio_kiocb_ki_res)).unwrap_or(none);
    let (space, handle) = (owner.space, context::handle(kioctx));
    records::emit(|record: *mut Completion| {
        // SAFETY: room in the ring buffer.
        unsafe { *record = Completion { header, space, handle, event } };
    });
}
