//! io_destroy(ctx). The ring is gone when it returns, so the probe looks at it before.

use aiotrace_common::record::{Destroy, Kind, RingSample, Thread};

use super::calls;
use crate::{
    records::{self, Left},
    ring,
};

#[inline(always)]
pub fn entered(thread: &mut Thread, sample: RingSample) {
    // The kernel first unmaps the ring and then waits for the requests; in the meantime another
    // io_setup may get the same address:
    // <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n1484>
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
