//! io_setup(nr_events, ctxp): the handle is in `*ctxp` when the call returns.

use aiotrace_common::{
    abi::Abi,
    record::{Kind, Memory, Setup, Thread},
};

use crate::{
    records::{self, Left},
    ring, user,
};

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left) {
    let mut handle = 0;
    let abi = Abi::from_number(thread.abi);
    let failed = user::read_pointer(&mut handle, user::or_nowhere(thread.args[1]), abi);
    if left.ret == 0 && failed == 0 {
        ring::created(thread, handle);
    }
    let header = records::header(thread, Kind::Setup, left.flags, left.time);
    records::emit(|record: *mut Setup| {
        // SAFETY: room in the ring buffer.
        unsafe {
            records::write_call(&raw mut (*record).call, thread, header, left);
            (*record).handle = handle;
            (*record).memory = user::mark(failed, Memory::Read);
            (*record).reserved = 0;
        }
    });
}
