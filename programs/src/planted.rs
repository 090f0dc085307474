//! A program with eleven places where AIO can fail, and a defect of each bad kind: for `aiotrace sweep`. With the
//! argument `repaired` it has none. It works in the directory of AIOTRACE_SWEEP_DIR.
//!
//! | where | defect |
//! |---|---|
//! | `write_batch` | drops the rest of a short io_submit; crashes on ENOSPC |
//! | `log_line` | ignores that its write failed |
//! | `read_header` | submits again for ever on EAGAIN; forgets its context when the read failed |
//! | `reap_header` | waits for ever after EINTR |
//! | `write_checked` | after a short write, writes the rest to the wrong place |

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::FileExt as _,
    },
    path::PathBuf,
    time::Duration,
};

use crate::aio::{self, IoEvent, Iocb, PREAD, PWRITE, Timespec, error};

const BLOCK: usize = 4096;
/// How often a call is tried again.
const TRIES: usize = 5;

/// What went wrong: the program says so, and ends with status 1.
type Done<T = ()> = Result<T, &'static str>;

/// Does all of it. `arguments`: `repaired`, and how many threads do it.
pub fn run(arguments: &[String]) {
    let repaired = arguments.iter().any(|it| it == "repaired");
    let threads = arguments.iter().find_map(|it| it.parse().ok()).unwrap_or(1);
    let all: Vec<_> =
        (0..threads).map(|number| std::thread::spawn(move || work(number, repaired))).collect();
    for it in all {
        if let Err(why) = it.join().expect("a thread that ends") {
            eprintln!("planted: {why}");
            std::process::exit(1);
        }
    }
}

/// Whether what `write_checked` wrote is right, if the program says that it is.
pub fn check() {
    if std::env::var("AIOTRACE_SWEEP_STATUS").as_deref() != Ok("0") {
        return;
    }
    for number in 0.. {
        let path = directory().join(format!("checked-{number}"));
        let Ok(found) = std::fs::read(&path) else {
            std::process::exit(i32::from(number == 0));
        };
        if found != content() {
            eprintln!("{} is not as it was written", path.display());
            std::process::exit(1);
        }
    }
}

fn directory() -> PathBuf {
    std::env::var_os("AIOTRACE_SWEEP_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

fn open(name: &str, number: u64) -> File {
    let path = directory().join(format!("{name}-{number}"));
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .expect("a file")
}

fn content() -> Vec<u8> {
    (0..BLOCK).map(|it| (it / 16) as u8).collect()
}

#[inline(never)]
fn work(number: u64, repaired: bool) -> Done {
    let ctx = open_context()?;
    let (batch, log, checked) =
        (open("batch", number), open("log", number), open("checked", number));
    write_batch(ctx, &batch, repaired)?;
    log_line(ctx, &log, repaired)?;
    write_checked(ctx, &checked, repaired)?;
    scan(&checked, repaired)?;
    poll_rest(ctx)?;
    close(ctx)
}

#[inline(never)]
fn open_context() -> Done<u64> {
    make_context()
}

#[inline(never)]
fn make_context() -> Done<u64> {
    let mut ctx = 0u64;
    match aio::setup_at(8, &raw mut ctx as u64) {
        0 => Ok(ctx),
        _ => Err("no context"),
    }
}

#[inline(never)]
fn close(ctx: u64) -> Done {
    if aio::destroy(ctx) == 0 { Ok(()) } else { Err("the context cannot be destroyed") }
}

fn iocb(opcode: u16, fd: RawFd, buffer: &[u8], offset: usize) -> Iocb {
    let (buf, nbytes) = (buffer.as_ptr() as u64, buffer.len() as u64);
    Iocb {
        data: offset as u64,
        opcode,
        fildes: fd,
        buf,
        nbytes,
        offset: offset as i64,
        ..Iocb::default()
    }
}

/// Submits again while the kernel says EAGAIN; returns how many were accepted.
#[inline(always)]
fn submit(ctx: u64, iocbs: &mut [Iocb], tries: usize) -> Done<usize> {
    for _ in 0..tries {
        match aio::submit(ctx, iocbs) {
            accepted if accepted >= 0 => return Ok(accepted as usize),
            ret if ret == error(libc::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
            _ => return Err("io_submit failed"),
        }
    }
    Err("io_submit failed again and again")
}

/// Waits for one completion.
#[inline(always)]
fn reap(ctx: u64, on_interrupt: impl Fn()) -> Done<IoEvent> {
    let mut events = [IoEvent::default()];
    for _ in 0..TRIES {
        match aio::getevents(ctx, 1, &mut events, None) {
            1 => return Ok(events[0]),
            ret if ret == error(libc::EINTR) => on_interrupt(),
            _ => return Err("io_getevents failed"),
        }
    }
    Err("io_getevents was interrupted again and again")
}

#[inline(never)]
fn write_batch(ctx: u64, file: &File, repaired: bool) -> Done {
    let blocks: Vec<Vec<u8>> = (0..4).map(|it| vec![it; BLOCK]).collect();
    let mut iocbs: Vec<Iocb> = (0..)
        .zip(&blocks)
        .map(|(index, block)| iocb(PWRITE, file.as_raw_fd(), block, index * BLOCK))
        .collect();
    let mut accepted = submit(ctx, &mut iocbs, TRIES)?;
    while repaired && accepted < iocbs.len() {
        accepted += submit(ctx, &mut iocbs[accepted..], TRIES)?;
    }
    for _ in 0..accepted {
        let event = reap_batch(ctx)?;
        if event.res == error(libc::ENOSPC) && !repaired {
            std::process::abort();
        }
        let index = event.data as usize / BLOCK;
        finish(file, &blocks[index], index * BLOCK, event.res)?;
    }
    Ok(())
}

#[inline(never)]
fn reap_batch(ctx: u64) -> Done<IoEvent> {
    reap(ctx, || ())
}

/// Writes what a short write left.
fn finish(file: &File, block: &[u8], at: usize, res: i64) -> Done {
    let written = usize::try_from(res).map_err(|_| "a write failed")?;
    file.write_all_at(&block[written..], (at + written) as u64).map_err(|_| "a write failed")
}

#[inline(never)]
fn log_line(ctx: u64, file: &File, repaired: bool) -> Done {
    /// Nothing else writes so far behind: so nobody can think that this was written in another way.
    const AT: usize = 1 << 20;
    let line = [b'x'; 64];
    submit(ctx, &mut [iocb(PWRITE, file.as_raw_fd(), &line, AT)], TRIES)?;
    let event = reap_line(ctx)?;
    if event.res < 0 && !repaired {
        return Ok(());
    }
    finish(file, &line, AT, event.res)
}

#[inline(never)]
fn reap_line(ctx: u64) -> Done<IoEvent> {
    reap(ctx, || ())
}

#[inline(never)]
fn write_checked(ctx: u64, file: &File, repaired: bool) -> Done {
    let content = content();
    submit(ctx, &mut [iocb(PWRITE, file.as_raw_fd(), &content, 0)], TRIES)?;
    let event = reap_checked(ctx)?;
    let written = usize::try_from(event.res).map_err(|_| "a write failed")?;
    let rest = &content[written..];
    let at = if repaired || rest.is_empty() { written } else { 0 };
    file.write_all_at(rest, at as u64).map_err(|_| "a write failed")
}

#[inline(never)]
fn reap_checked(ctx: u64) -> Done<IoEvent> {
    reap(ctx, || ())
}

#[inline(never)]
fn scan(file: &File, repaired: bool) -> Done {
    let ctx = scan_context()?;
    if read_header(ctx, file, repaired)? {
        close(ctx)?;
    }
    Ok(())
}

#[inline(never)]
fn scan_context() -> Done<u64> {
    make_context()
}

/// Whether the context is still to be destroyed.
#[inline(never)]
fn read_header(ctx: u64, file: &File, repaired: bool) -> Done<bool> {
    let mut header = vec![0; BLOCK];
    let mut iocbs = [iocb(PREAD, file.as_raw_fd(), &header, 0)];
    let tries = if repaired { TRIES } else { usize::MAX };
    submit(ctx, &mut iocbs, tries)?;
    let event = reap_header(ctx, repaired)?;
    if event.res == BLOCK as i64 {
        return Ok(true);
    }
    // What AIO could not read.
    file.read_exact_at(&mut header, 0).map_err(|_| "the header cannot be read")?;
    Ok(repaired || event.res > 0)
}

#[inline(never)]
fn reap_header(ctx: u64, repaired: bool) -> Done<IoEvent> {
    reap(ctx, || {
        if !repaired {
            std::thread::park();
        }
    })
}

#[inline(never)]
fn poll_rest(ctx: u64) -> Done {
    let mut events = [IoEvent::default(); 8];
    for _ in 0..TRIES {
        match aio::getevents(ctx, 0, &mut events, Some(Timespec::millis(0))) {
            0 => return Ok(()),
            ret if ret == error(libc::EINTR) => (),
            _ => return Err("something completed that nobody waited for"),
        }
    }
    Err("io_getevents was interrupted again and again")
}
