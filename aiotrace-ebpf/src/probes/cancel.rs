//! io_cancel(ctx, iocb, result).

use aiotrace_common::{
    abi::Iocb,
    record::{Cancel, Kind, Memory, RingSample, Thread},
};

use crate::{
    records::{self, Left},
    user,
};

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left, sample: RingSample) {
    let header = records::header(thread, Kind::Cancel, left.flags, left.time);
    records::emit(|record: *mut Cancel| {
        // SAFETY: room in the ring buffer. The helper fills what it cannot read with zeros.
        unsafe {
            let size = size_of::<Iocb>() as u32;
            let read = user::read_into(&raw mut (*record).iocb, size, thread.args[1]);
            records::write_call(&raw mut (*record).call, thread, header, left);
            (*record).ring = sample;
            (*record).memory = if read { Memory::Read } else { Memory::Unread };
            (*record).reserved = 0;
        }
    });
}
