//! The usual things, done right, and a program that leaks.

use std::time::Duration;

use crate::aio::{self, IoEvent, Iocb};

/// Makes `nr` reads in one io_submit, and reaps them all.
pub fn submit(nr: u64) {
    let ctx = aio::setup(nr);
    let fd = aio::zero();
    let mut buffers = vec![0u64; nr as usize];
    let mut iocbs: Vec<Iocb> =
        buffers.iter_mut().zip(1..).map(|(buffer, data)| aio::pread(fd, buffer, data)).collect();
    assert_eq!(aio::submit(ctx, &mut iocbs), nr as i64, "io_submit");
    let mut events = vec![IoEvent::default(); nr as usize];
    assert_eq!(aio::getevents(ctx, nr as i64, &mut events, None), nr as i64, "io_getevents");
    assert!(events.iter().all(|it| it.res == 8), "each read gives 8 bytes");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Makes one submit and one reap, `count` times.
pub fn pairs(count: u64) {
    let ctx = aio::setup(8);
    for data in 1..=count {
        pair(ctx, data);
    }
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Makes pairs of submit and reap without end.
pub fn storm() {
    crate::say("ready");
    let ctx = aio::setup(8);
    loop {
        pair(ctx, 1);
    }
}

/// Makes one submit and one reap.
pub fn pair(ctx: u64, data: u64) {
    use std::sync::OnceLock;
    static ZERO: OnceLock<i32> = OnceLock::new();
    let mut buffer = 1;
    let mut iocb = [aio::pread(*ZERO.get_or_init(aio::zero), &mut buffer, data)];
    assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
    let mut events = [IoEvent::default()];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
    assert_eq!((events[0].data, events[0].res), (data, 8));
}

/// Makes a context every 100 ms, uses it, and loses it; at most 2,000 of them.
pub fn leak() {
    for _ in 0..2000 {
        let ctx = aio::setup(32);
        for data in 1..=4 {
            pair(ctx, data);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Blocks in io_submit: a read of a pipe waits there for a byte, and none comes.
pub fn submit_blocked() {
    let ctx = aio::setup(1);
    let (reader, _writer) = aio::pipe();
    let mut buffer = 0;
    let ret = aio::submit(ctx, &mut [aio::pread(reader, &mut buffer, 7)]);
    unreachable!("io_submit = {ret}");
}

/// Has a thread name and a path that contain terminal escapes and are not UTF-8.
pub fn hostile() {
    use std::os::{fd::AsRawFd as _, unix::ffi::OsStringExt as _};
    let name = b"\x1b[31m\xffred\0";
    // SAFETY: the name ends with NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    let mut path = std::env::temp_dir().into_os_string().into_vec();
    // Use the pid: other processes of this program may run, and a killed one may have left its
    // file.
    path.extend_from_slice(format!("/aio-{}-", std::process::id()).as_bytes());
    path.extend_from_slice(b"\x1b]0;title\x07\"\xfe\n-file");
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(path));
    let file = std::fs::File::create(&path).expect("a temporary file");
    let ctx = aio::setup(1);
    let buffer = 7u64;
    let mut iocb = [Iocb {
        opcode: aio::PWRITE,
        fildes: file.as_raw_fd(),
        buf: std::ptr::from_ref(&buffer) as u64,
        nbytes: 8,
        ..Iocb::default()
    }];
    assert_eq!(aio::submit(ctx, &mut iocb), 1, "io_submit");
    crate::wait();
    let mut events = [IoEvent::default()];
    assert_eq!(aio::getevents(ctx, 1, &mut events, None), 1, "io_getevents");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    std::fs::remove_file(&path).expect("the temporary file");
}
