//! Completion rings of running processes, read from outside.

use std::io::{self, IoSliceMut};

use aiotrace_common::{
    abi::{IoEvent, RingHeader},
    record::PAGE,
};
use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes as _;

use super::{
    blocked::blocked_calls,
    file::lines,
    maps::Mapping,
    memory::read_memory,
    process::{children, is_alive},
};
use aiotrace_model::records::arguments;

use crate::event::{Args, Handle, Ring};

/// The header of the ring at this address of a process; `None` if there is no ring, or if it may
/// not be read.
pub fn header(pid: u32, handle: u64) -> Option<RingHeader> {
    let mut bytes = [0; size_of::<RingHeader>()];
    read_memory(pid, handle, &mut bytes)?;
    header_of(&bytes)
}

/// The header of a ring from its bytes; `None` if they are not a ring's.
pub fn header_of(bytes: &[u8]) -> Option<RingHeader> {
    let header = RingHeader::read_from_bytes(bytes).ok()?;
    header.is_ring().then_some(header)
}

/// The ring at this address of a process; `None` if there is no ring, or if it may not be read.
pub fn read(pid: u32, handle: u64) -> Option<Ring> {
    header(pid, handle).map(Ring::from)
}

/// Reads `count` entries from `first` on. The range must not wrap around.
pub fn entries(pid: u32, handle: u64, first: u32, count: u32) -> Option<Vec<IoEvent>> {
    let at = size_of::<RingHeader>() + first as usize * size_of::<IoEvent>();
    let mut bytes = vec![0; count as usize * size_of::<IoEvent>()];
    read_memory(pid, handle.checked_add(at as u64)?, &mut bytes)?;
    bytes.chunks_exact(size_of::<IoEvent>()).map(|it| IoEvent::read_from_bytes(it).ok()).collect()
}

/// Reads a byte of each page of the ring at this address of a process, as the program itself would.
/// Then the pages are in the program's page table, and a probe, which cannot sleep, can read them.
/// When a page is touched, the kernel maps a few around it, too, but a program that does not reap
/// from the ring touches only the first.
pub fn touch(pid: u32, handle: u64) {
    let Some(nr) = header(pid, handle).map(|it| it.nr) else { return };
    let pages: Vec<usize> = (0..bytes(nr).div_ceil(PAGE) as u64)
        .filter_map(|page| usize::try_from(handle.checked_add(page * PAGE as u64)?).ok())
        .collect();
    let pid = Pid::from_raw(pid as i32);
    for pages in pages.chunks(MOST_PARTS) {
        let parts: Vec<_> = pages.iter().map(|base| RemoteIoVec { base: *base, len: 1 }).collect();
        let mut to = [0; MOST_PARTS];
        if process_vm_readv(pid, &mut [IoSliceMut::new(&mut to)], &parts).is_err() {
            return;
        }
    }
}

/// The largest number of pages that one touch maps: `fault_around_bytes`, and only pages of the
/// same page table. (<https://elixir.bootlin.com/linux/v6.12/source/mm/memory.c#L5239>)
const PAGES_AT_ONCE: usize = 16;
/// How many bytes a page table maps.
const TABLE: u64 = 2 << 20;
/// The kernel's `UIO_MAXIOV`.
const MOST_PARTS: usize = 1024;

/// Whether the whole ring at this address, with this many entries, is mapped when its first page is
/// touched.
pub fn is_mapped_at_once(handle: u64, nr: u32) -> bool {
    let last = handle.saturating_add(bytes(nr) as u64 - 1);
    bytes(nr) <= PAGES_AT_ONCE * PAGE && handle / TABLE == last / TABLE
}

/// The size of a ring with this many entries, in bytes.
fn bytes(nr: u32) -> usize {
    size_of::<RingHeader>() + nr as usize * size_of::<IoEvent>()
}

/// The headers of the rings at these addresses. `all_pages`: read a byte of each page first
/// ([`touch`]).
pub fn headers(pid: u32, handles: Vec<u64>, all_pages: bool) -> Vec<Option<RingHeader>> {
    let of = |it: u64| {
        if all_pages {
            touch(pid, it);
        }
        header(pid, it)
    };
    handles.into_iter().map(of).collect()
}

/// The rings that a process has mapped, with their inode numbers; `None` if that is not known.
pub fn of_process(pid: u32) -> Option<Vec<(u64, u64)>> {
    match found(pid) {
        Ok((rings, has_memory)) => (has_memory || is_alive(pid)).then_some(rings),
        // Some kernels give this error for a process that has no memory.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) && is_alive(pid) => {
            Some(Vec::new())
        }
        Err(_) => None,
    }
}

/// Processes looked at below one.
const MOST_BELOW: usize = 64;

/// The processes below this one that have rings, and how many: the first ones of them.
pub fn below(pid: u32) -> Vec<(u32, u64)> {
    let mut all = children(pid);
    let mut next = 0;
    while let Some(of) = all.get(next).copied().filter(|_| next < MOST_BELOW) {
        next += 1;
        all.extend(children(of));
    }
    all.truncate(MOST_BELOW);
    let rings = |pid: u32| Some((pid, found(pid).ok()?.0.len() as u64));
    all.into_iter().filter_map(rings).filter(|it| it.1 > 0).collect()
}

/// The rings that a process has mapped, and whether it has memory: a process that is ending, or
/// whose first thread has ended, shows none.
fn found(pid: u32) -> io::Result<(Vec<(u64, u64)>, bool)> {
    let (mut rings, mut has_memory) = (Vec::new(), false);
    lines(format!("/proc/{pid}/maps"), |line| {
        has_memory = true;
        rings.extend(mapped(line));
    })?;
    Ok((rings, has_memory))
}

/// The ring in a line of `/proc/PID/maps`: its file is `/[aio] (deleted)`, and its inode number is
/// its own. A forked child inherits the mapping (up to Linux 7.0), but not the context.
pub fn mapped(line: &[u8]) -> Option<(u64, u64)> {
    let it = Mapping::parse(line).filter(Mapping::is_ring)?;
    Some((it.start, it.inode))
}

/// What is at the place where the ring of a context should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtPlace {
    /// The ring, if it is there.
    pub ring: Option<Ring>,
    /// Whether something is there that the process can read.
    pub is_readable: bool,
    /// If the ring is not there: the rings that the process has mapped; `None` if these are not
    /// known.
    pub mapped: Option<Vec<Handle>>,
    /// Whether a thread is in io_destroy of the context.
    pub destroying: bool,
    /// The largest number of completions for which a thread waits; `None` if none waits.
    pub awaited: Option<i64>,
}

/// Looks at the place where the ring of a context should be.
pub fn at_place(pid: u32, ctx: Handle) -> AtPlace {
    let ring = read(pid, ctx.0);
    let is_readable = ring.is_some() || read_memory(pid, ctx.0, &mut [0; 4]).is_some();
    let mapped = if ring.is_none() { found(pid).ok() } else { None };
    let mapped = mapped.filter(|(_, has_memory)| *has_memory).map(|it| it.0);
    // Look at the calls last: a thread that enters io_destroy after this had the ring mapped when
    // we read it.
    let (mut destroying, mut awaited) = (false, None);
    for it in blocked_calls(pid) {
        match arguments(it.syscall, &it.args) {
            Args::Destroy { ctx: of } => destroying |= of == ctx,
            Args::Getevents { ctx: of, min_nr, .. } if of == ctx => {
                awaited = awaited.max(Some(min_nr))
            }
            _ => (),
        }
    }
    let mapped = mapped.map(|it| it.into_iter().map(|it| Handle(it.0)).collect());
    AtPlace { ring, is_readable, mapped, destroying, awaited }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_found_among_the_mappings() {
        let ring = "7f1c6a400000-7f1c6a401000 rw-s 00000000 00:11 2057      /[aio] (deleted)";
        assert_eq!(mapped(ring.as_bytes()), Some((0x7f1c_6a40_0000, 2057)));
        for other in [
            "7f1c6a401000-7f1c6a402000 rw-p 00000000 00:00 0 ",
            "7f1c6a403000-7f1c6a404000 r--p 00000000 08:01 99    /tmp/[aio] x",
            "/[aio] (deleted)",
        ] {
            assert_eq!(mapped(other.as_bytes()), None);
        }
        assert_eq!(of_process(u32::MAX), None);
    }

    #[test]
    fn what_is_no_ring_is_none() {
        let zeros = [0u64; 8];
        assert_eq!(read(std::process::id(), zeros.as_ptr() as u64), None);
        assert_eq!(read(std::process::id(), 8), None);
    }

    #[test]
    fn a_size_that_no_ring_has_is_refused() {
        let with = |nr| RingHeader { nr, magic: RingHeader::MAGIC, ..RingHeader::default() };
        let looked = |it: &RingHeader| header(std::process::id(), std::ptr::from_ref(it) as u64);
        assert!(looked(&with(127)).is_some());
        assert!(looked(&with(u32::MAX)).is_none(), "the program wrote that");
    }
}
