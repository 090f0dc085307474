//! Answers to the questions of the model: what has to be looked up in the running system. Of a process a helper looks
//! it up ([`crate::errand`]).

use std::fs;

use aiotrace_common::settings::target;
use serde::{Deserialize, Serialize};

use crate::{
    errand::{Errand as _, Place},
    event::{Address, Args, File, FileKind, Handle, Holder, Limit, Ring, RingFound},
    process, ring,
    source::bpf::{arguments, list::Lister, machine},
};

/// Holders told, at most.
const MOST_HOLDERS: usize = 10;

/// What is in the ring of a context, whether a thread destroys it, and how many completions a thread waits for.
/// `is_known`: whether a handle is that of another known context.
pub fn at_ring(
    pid: u32,
    ctx: Handle,
    is_known: impl Fn(Handle) -> bool,
) -> (RingFound, bool, Option<i64>) {
    let Some(AtPlace { ring, mapped, destroying, awaited }) = (Place { pid, handle: ctx }).ask()
    else {
        return (RingFound::Unknown, false, None);
    };
    let found = match (ring, mapped) {
        (Some(ring), _) => RingFound::There(ring),
        // One that nobody knows is perhaps this one, moved.
        (None, Some(rings)) if rings.iter().all(|it| *it != ctx && is_known(*it)) => {
            RingFound::Unmapped
        }
        _ => RingFound::Unknown,
    };
    (found, destroying, awaited)
}

/// What is where the ring of a context should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtPlace {
    ring: Option<Ring>,
    /// If it is not there: the rings that the process has mapped; `None` if that is not known.
    mapped: Option<Vec<Handle>>,
    destroying: bool,
    awaited: Option<i64>,
}

/// Looks there.
pub fn at_place(pid: u32, ctx: Handle) -> AtPlace {
    let ring = ring::read(pid, ctx.0);
    let mapped = if ring.is_none() { mapped(pid) } else { None };
    // Looked at last: who begins io_destroy after this had the ring mapped before.
    let (mut destroying, mut awaited) = (false, None);
    for it in process::blocked_calls(pid) {
        match arguments(it.syscall, &it.args) {
            Args::Destroy { ctx: of } => destroying |= of == ctx,
            Args::Getevents { ctx: of, min_nr, .. } if of == ctx => {
                awaited = awaited.max(Some(min_nr))
            }
            _ => (),
        }
    }
    AtPlace { ring, mapped, destroying, awaited }
}

fn mapped(pid: u32) -> Option<Vec<Handle>> {
    let maps = fs::read(format!("/proc/{pid}/maps")).ok().filter(|it| !it.is_empty())?;
    let rings = ring::mapped(&String::from_utf8_lossy(&maps)).into_iter().map(Handle).collect();
    process::is_alive(pid).then_some(rings)
}

/// What a descriptor is. Whoever serves the file is not asked (a dead NFS or FUSE server would hang us, too):
/// the size is what the kernel knows.
pub fn file(pid: u32, fd: u32) -> Option<File> {
    let path = std::ffi::CString::new(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let flags = libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_TYPE | libc::STATX_SIZE | libc::STATX_INO;
    let mut status = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: a path that ends with NUL, and room for the answer, which may be all zeros.
    let status = unsafe {
        if libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, wanted, status.as_mut_ptr()) != 0 {
            return None;
        }
        status.assume_init()
    };
    let (kind, size) = match u32::from(status.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => (FileKind::Storage, Some(status.stx_size)),
        libc::S_IFBLK => (FileKind::Storage, None),
        _ => (FileKind::Other, None),
    };
    let device = u64::from(status.stx_dev_major) << 32 | u64::from(status.stx_dev_minor);
    let info = fs::read(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = process::status_field(&info, "flags");
    let flags = flags.and_then(|it| i32::from_str_radix(it, 8).ok());
    let mount = process::status_field(&info, "mnt_id");
    Some(File {
        kind,
        size,
        id: Some((device, status.stx_ino)),
        direct: flags.map(|it| it & libc::O_DIRECT != 0),
        append: flags.map(|it| it & libc::O_APPEND != 0),
        in_memory: mount.is_some_and(|it| is_in_memory(pid, it)),
    })
}

/// Whether a mount is of a file system that has no disk.
fn is_in_memory(pid: u32, mount: &str) -> bool {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let line = mounts.lines().find(|it| it.split(' ').next() == Some(mount));
    // `ID PARENT DEVICE ROOT PLACE OPTIONS [TAG]... - KIND SOURCE OPTIONS`
    let kind = line.and_then(|it| it.split(" - ").nth(1)?.split(' ').next());
    matches!(kind, Some("tmpfs" | "ramfs" | "hugetlbfs" | "devtmpfs"))
}

/// Iovecs told, at most.
const MOST_IOVECS: u64 = 4;

/// What the first of these iovecs of a (64-bit) process are.
pub fn iovecs(pid: u32, at: Address, count: u64) -> Option<Vec<(Address, u64)>> {
    let mut bytes = vec![0; 16 * count.min(MOST_IOVECS) as usize];
    process::read_memory(pid, at.0, &mut bytes)?;
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
    let pairs = bytes.chunks_exact(16);
    pairs.map(|it| Some((Address(word(&it[..8])?), word(&it[8..])?))).collect()
}

/// Where a descriptor leads.
pub fn path(pid: u32, fd: u32) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    Some(path.into_os_string().into_vec())
}

/// The position of a descriptor.
pub fn position(pid: u32, fd: u32) -> Option<i64> {
    let info = fs::read(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    process::status_field(&info, "pos")?.parse().ok()
}

/// Who holds fs.aio-nr: exact with BPF, else only the limit is known.
pub fn limit() -> Option<Limit> {
    let number =
        |name: &str| fs::read_to_string(format!("/proc/sys/fs/{name}")).ok()?.trim().parse().ok();
    let (used, limit) = (number("aio-nr")?, number("aio-max-nr")?);
    let listed = machine::settings(target::ALL)
        .and_then(|settings| Lister::load(&settings))
        .and_then(|mut lister| lister.list());
    let mut holders: Vec<Holder> = Vec::new();
    for it in listed.map_or(Vec::new(), |(contexts, _)| contexts) {
        match holders.iter_mut().find(|known| known.pid == it.pid) {
            Some(known) => {
                known.contexts += 1;
                known.charge += u64::from(it.charge);
            }
            None => holders.push(Holder {
                pid: it.pid,
                name: process::name(it.pid).unwrap_or_default(),
                contexts: 1,
                charge: u64::from(it.charge),
            }),
        }
    }
    holders.sort_by_key(|it| (std::cmp::Reverse(it.charge), it.pid));
    holders.truncate(MOST_HOLDERS);
    Some(Limit { used, limit, holders })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_storage_or_not() {
        use std::{io::Write as _, os::fd::AsRawFd as _};
        let us = std::process::id();
        let mut regular = tempfile::tempfile().unwrap();
        regular.write_all(b"1234567").unwrap();
        let found = file(us, regular.as_raw_fd() as u32);
        let found = found.unwrap();
        assert_eq!((found.kind, found.size), (FileKind::Storage, Some(7)));
        assert_eq!((found.direct, found.append), (Some(false), Some(false)));
        let (reader, _writer) = std::io::pipe().unwrap();
        let found = file(us, reader.as_raw_fd() as u32);
        assert_eq!(found.map(|it| (it.kind, it.size)), Some((FileKind::Other, None)));
        assert_eq!(file(us, 9999), None);
        assert_eq!(file(u32::MAX, 0), None);
    }

    #[test]
    fn iovecs_are_read_from_a_process() {
        let iovecs = [0x1000u64, 512, 0x2000, 1024];
        let at = Address(iovecs.as_ptr() as u64);
        let found = super::iovecs(std::process::id(), at, 2);
        assert_eq!(found, Some(vec![(Address(0x1000), 512), (Address(0x2000), 1024)]));
        assert_eq!(super::iovecs(std::process::id(), Address(8), 1), None);
    }

    #[test]
    fn where_no_ring_is_it_is_unmapped_and_where_nobody_is_nothing_is_known() {
        let page = vec![0u64; 1024];
        let at = Handle(page.as_ptr() as u64);
        assert_eq!(at_ring(std::process::id(), at, |_| true), (RingFound::Unmapped, false, None));
        assert_eq!(at_ring(u32::MAX, at, |_| true), (RingFound::Unknown, false, None));
    }
}
