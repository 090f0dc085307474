//! io_destroy(ctx): the ring is gone afterwards, so it is looked at before.

use aiotrace_common::record::{Destroy, Kind, RingSample, Thread};

use super::calls;
use crate::{
    records::{self, Left},
    ring,
};

#[inline(always)]
pub fn entered(thread: &mut Thread, sample: RingSample) {
    // The kernel unmaps the ring first and waits then; meanwhile another io_setup may get the same
    // address.
    ring::destroyed(thread, thread.args[0]);
    calls::keep_sample(thread, sample);
}

#[inline(always)]
pub fn left(thread: &mut Thread, left: &Left) {
    let header = records::header(thread, Kind::Destroy, left.flags, left.time);
    records::emit(|record: *mut Destroy| {
        // SAFETY: room in the ring buffer.
        unsafe {
            records::write_call(&raw mut (*record).call, thread, header, left);
            (*record).ring = calls::kept_sample(thread);
        }
    });
}
