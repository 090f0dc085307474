//! Answers to the questions of the model: what has to be looked up in the running system.

use std::fs;

use aiotrace_common::settings::target;

use crate::{
    event::{Args, File, FileKind, Handle, Holder, Limit, RingFound, Syscall},
    process, ring,
    source::bpf::{arguments, list::Lister, machine},
};

/// Holders told, at most.
const MOST_HOLDERS: usize = 10;

/// What is in the ring of a context. `is_known`: whether a handle is that of another known context.
pub fn at_ring(pid: u32, ctx: Handle, is_known: impl Fn(Handle) -> bool) -> (RingFound, bool) {
    let found = match ring::read(pid, ctx.0) {
        Some(ring) => RingFound::There(ring),
        None => missing(pid, ctx, is_known),
    };
    // Looked at last: who begins io_destroy after this had the ring mapped before.
    let destroying = process::blocked_calls(pid).iter().any(|it| {
        it.syscall == Syscall::Destroy
            && matches!(arguments(it.syscall, &it.args), Args::Destroy { ctx: of } if of == ctx)
    });
    (found, destroying)
}

fn missing(pid: u32, ctx: Handle, is_known: impl Fn(Handle) -> bool) -> RingFound {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else {
        return RingFound::Unknown;
    };
    if maps.is_empty() || !process::is_alive(pid) {
        return RingFound::Unknown;
    }
    let mut rings = ring::mapped(&maps).into_iter().map(Handle);
    // One that nobody knows is perhaps this one, moved.
    if rings.any(|it| it == ctx || !is_known(it)) {
        return RingFound::Unknown;
    }
    RingFound::Unmapped
}

/// What a descriptor is. Whoever serves the file is not asked (a dead NFS or FUSE server would hang us, too):
/// the size is what the kernel knows.
pub fn file(pid: u32, fd: u32) -> Option<File> {
    let path = std::ffi::CString::new(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let flags = libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_TYPE | libc::STATX_SIZE;
    let mut status = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: a path that ends with NUL, and room for the answer, which may be all zeros.
    let status = unsafe {
        if libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, wanted, status.as_mut_ptr()) != 0 {
            return None;
        }
        status.assume_init()
    };
    Some(match u32::from(status.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => File { kind: FileKind::Storage, size: Some(status.stx_size) },
        libc::S_IFBLK => File { kind: FileKind::Storage, size: None },
        _ => File { kind: FileKind::Other, size: None },
    })
}

/// Where a descriptor leads.
pub fn path(pid: u32, fd: u32) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    Some(path.into_os_string().into_vec())
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
        assert_eq!(found, Some(File { kind: FileKind::Storage, size: Some(7) }));
        let (reader, _writer) = std::io::pipe().unwrap();
        let found = file(us, reader.as_raw_fd() as u32);
        assert_eq!(found, Some(File { kind: FileKind::Other, size: None }));
        assert_eq!(file(us, 9999), None);
        assert_eq!(file(u32::MAX, 0), None);
    }

    #[test]
    fn where_no_ring_is_it_is_unmapped_and_where_nobody_is_nothing_is_known() {
        let page = vec![0u64; 1024];
        let at = Handle(page.as_ptr() as u64);
        assert_eq!(at_ring(std::process::id(), at, |_| true), (RingFound::Unmapped, false));
        assert_eq!(at_ring(u32::MAX, at, |_| true), (RingFound::Unknown, false));
    }
}
