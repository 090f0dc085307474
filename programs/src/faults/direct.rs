//! Requests to a file with O_DIRECT: each part of them has to be aligned.

use crate::{
    aio::{self, Iocb},
    cases::disk::{Named, letters},
};

/// Reads of two pages of a file with O_DIRECT, one after the other, so much behind the beginnings of its pages; gives
/// their results.
fn read(behind: i64) -> [i64; 2] {
    const PAGE: u64 = 4096;
    let file = Named::direct("aligned").filled(3);
    let (ctx, buffer) = (aio::setup(8), letters(1) as u64);
    let results = [0, PAGE as i64].map(|page| {
        let read = Iocb {
            data: 1,
            opcode: aio::PREAD,
            fildes: file.fd(),
            buf: buffer,
            nbytes: PAGE,
            offset: page + behind,
            ..Iocb::default()
        };
        assert_eq!(aio::submit(ctx, &mut [read]), 1, "io_submit");
        aio::reap(ctx, 1)[0].res
    });
    // What the file is, is looked up while we live.
    crate::wait();
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    results
}

/// bad-direct-io-misaligned: both begin 100 bytes behind a page.
pub fn misaligned() {
    assert_eq!(read(100), [aio::error(libc::EINVAL); 2]);
}

/// good-direct-io-misaligned: where pages begin.
pub fn aligned() {
    assert_eq!(read(0), [4096; 2]);
}
