//! Where files end: reads that begin behind it, and writes that go there whatever they ask for.

use std::time::Duration;

use crate::{
    aio::{self, Iocb},
    files::Temporary,
    tasks::is_readable_within,
};

/// A file has so many bytes.
const SIZE: usize = 60;
/// Bytes of a request.
const PIECE: i64 = 8;

fn read(file: &Temporary, buffer: &mut u64, offset: i64) -> Iocb {
    Iocb { offset, ..aio::pread(file.fd(), buffer, 1) }
}

/// bad-reads-past-end: the program reads the second half of a file that it believes to be twice as long, and looks at no
/// result.
pub fn read_on() {
    let file = Temporary::of(&[7; SIZE]);
    let (ctx, mut buffer) = (aio::setup(8), 0);
    for piece in SIZE as i64 / PIECE + 1..SIZE as i64 * 2 / PIECE {
        assert_eq!(
            aio::submit(ctx, &mut [read(&file, &mut buffer, piece * PIECE)]),
            1,
            "io_submit"
        );
        aio::reap(ctx, 1);
    }
    // What the file is, is looked up while we live.
    crate::wait();
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// good-reads-past-end: three times it reads to the end, with four reads in flight, of which three begin behind it;
/// then it waits there for more, as tail(1) does.
pub fn read_to_the_end() {
    let file = Temporary::of(&[7; SIZE]);
    let (ctx, mut buffer) = (aio::setup(8), 0);
    for _ in 0..3 {
        let mut is_over = false;
        let mut next = (0..).map(|it| it * 4 * PIECE);
        while !is_over {
            let first = next.next().expect("no end");
            let mut reads = [0, 1, 2, 3].map(|it| read(&file, &mut buffer, first + it * PIECE));
            assert_eq!(aio::submit(ctx, &mut reads), 4, "io_submit");
            is_over = aio::reap(ctx, 4).iter().any(|it| it.res == 0);
        }
    }
    for _ in 0..6 {
        assert_eq!(aio::submit(ctx, &mut [read(&file, &mut buffer, SIZE as i64)]), 1, "io_submit");
        assert_eq!(aio::reap(ctx, 1)[0].res, 0, "at the end");
    }
    crate::wait();
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Says `ready`, and writes a piece to a file that is open with O_APPEND every 20 ms until a line comes. `offset`: of
/// one behind so many others.
fn append(offset: fn(i64) -> i64) {
    let file = Temporary::of(&[7; SIZE]);
    // SAFETY: has no pointers.
    assert_eq!(unsafe { libc::fcntl(file.fd(), libc::F_SETFL, libc::O_APPEND) }, 0, "fcntl");
    let (ctx, buffer) = (aio::setup(8), 0u64);
    crate::say("ready");
    for written in 0.. {
        let write = Iocb {
            data: 1,
            opcode: aio::PWRITE,
            fildes: file.fd(),
            buf: &raw const buffer as u64,
            nbytes: PIECE as u64,
            offset: offset(written),
            ..Iocb::default()
        };
        assert_eq!(aio::submit(ctx, &mut [write]), 1, "io_submit");
        assert_eq!(aio::reap(ctx, 1)[0].res, PIECE, "all of it");
        let end = file.file().metadata().expect("the file").len();
        assert_eq!(end as i64, SIZE as i64 + (written + 1) * PIECE, "at the end");
        if is_readable_within(0, Duration::from_millis(20)) {
            break;
        }
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// bad-ignored-offset: where the file begins, each time.
pub fn written_at_the_beginning() {
    append(|_| 0);
}

/// good-ignored-offset: where the file ends.
pub fn written_where_it_ends() {
    append(|written| SIZE as i64 + written * PIECE);
}
