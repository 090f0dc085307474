//! Requests to a file with O_DIRECT: each part of them has to be aligned.

use crate::{
    aio::{self, Iocb},
    cases::disk::{Named, letters},
};

/// A read of a page of a file with O_DIRECT that begins there; gives its result.
fn read(offset: i64) -> i64 {
    const PAGE: u64 = 4096;
    let file = Named::direct("aligned").filled(3);
    let (ctx, buffer) = (aio::setup(8), letters(1) as u64);
    let read = Iocb {
        data: 1,
        opcode: aio::PREAD,
        fildes: file.fd(),
        buf: buffer,
        nbytes: PAGE,
        offset,
        ..Iocb::default()
    };
    assert_eq!(aio::submit(ctx, &mut [read]), 1, "io_submit");
    let result = aio::reap(ctx, 1)[0].res;
    // What the file is, is looked up while we live.
    crate::wait();
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    result
}

/// bad-direct-io-misaligned: 100 bytes behind the beginning of a page.
pub fn misaligned() {
    assert_eq!(read(100), aio::error(libc::EINVAL));
}

/// good-direct-io-misaligned: where a page begins.
pub fn aligned() {
    assert_eq!(read(4096), 4096);
}
