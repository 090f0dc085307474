//! io_setup(nr_events, ctxp): the handle is in `*ctxp` when it returns.

use aiotrace_common::record::{Kind, Memory, Setup, Thread};

use crate::{
    records::{self, Left},
    ring, user,
};

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left) {
    let handle: Option<u64> = user::read(thread.args[1]);
    if let (0, Some(handle)) = (left.ret, handle) {
        ring::created(thread, handle);
    }
    let header = records::header(thread, Kind::Setup, left.flags, left.time);
    records::emit(|record: *mut Setup| {
        // SAFETY: room in the ring buffer.
        unsafe {
            *record = Setup {
                call: records::call(thread, header, left),
                handle: handle.unwrap_or(0),
                memory: if handle.is_some() { Memory::Read } else { Memory::Unread },
                reserved: 0,
            };
        }
    });
}
