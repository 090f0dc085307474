//! What the descriptors of a process lead to.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, RawFd},
    path::PathBuf,
};

use super::{file, memory::read_memory, process::status_field};
use crate::event::{Address, File, FileKind};

/// A path that leads to what a descriptor of ours leads to, wherever that is by now.
pub fn path_of_ours(descriptor: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()).into()
}

/// What the kernel tells of a descriptor of ours, as fields (as [`status_field`] reads them).
pub fn info_of_ours(descriptor: RawFd) -> Option<Vec<u8>> {
    file::read(format!("/proc/self/fdinfo/{descriptor}")).ok()
}

/// The line of a mount in mountinfo, by its id (`mnt_id` of a descriptor's information).
///
/// # Errors
/// Those of the file.
pub fn mount(of: &str, id: &str) -> io::Result<Option<Vec<u8>>> {
    let mut found = None;
    file::lines(format!("/proc/{of}/mountinfo"), |line| {
        // `ID PARENT DEVICE ROOT PLACE OPTIONS [TAG]... - KIND SOURCE OPTIONS`
        if line.split(|it| *it == b' ').next() == Some(id.as_bytes()) {
            found = Some(line.to_vec());
        }
    })?;
    Ok(found)
}

/// What a descriptor is. Whoever serves the file is not asked (a dead NFS or FUSE server would hang us, too):
/// the size is what the kernel knows.
pub fn file(pid: u32, fd: u32) -> Option<File> {
    let path = std::ffi::CString::new(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let flags = libc::AT_STATX_DONT_SYNC;
    let wanted = libc::STATX_TYPE | libc::STATX_SIZE | libc::STATX_INO;
    let mut status = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends with NUL, and there is room for the answer, for which all zeros are
    // valid.
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
    let info = file::read(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = status_field(&info, "flags");
    let flags = flags.and_then(|it| i32::from_str_radix(it, 8).ok());
    let mount = status_field(&info, "mnt_id");
    Some(File {
        kind,
        size,
        id: Some((device, status.stx_ino)),
        direct: flags.map(|it| it & libc::O_DIRECT != 0),
        append: flags.map(|it| it & libc::O_APPEND != 0),
        in_memory: mount.is_some_and(|it| is_in_memory(pid, it)),
    })
}

/// Whether a mount is of a file system without a disk.
fn is_in_memory(pid: u32, mount: &str) -> bool {
    const IN_MEMORY: [&[u8]; 4] = [b"tmpfs", b"ramfs", b"hugetlbfs", b"devtmpfs"];
    let line = self::mount(&pid.to_string(), mount).ok().flatten().unwrap_or_default();
    let words = line.split(|it| *it == b' ');
    let kind = words.skip_while(|it| *it != b"-").nth(1).unwrap_or_default();
    IN_MEMORY.contains(&kind)
}

/// The largest number of iovecs that are read of a request.
const MOST_IOVECS: u64 = 4;

/// The first of the iovecs at this address of a (64-bit) process.
pub fn iovecs(pid: u32, at: Address, count: u64) -> Option<Vec<(Address, u64)>> {
    let mut bytes = vec![0; 16 * count.min(MOST_IOVECS) as usize];
    read_memory(pid, at.0, &mut bytes)?;
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
    let pairs = bytes.chunks_exact(16);
    pairs.map(|it| Some((Address(word(&it[..8])?), word(&it[8..])?))).collect()
}

/// The path to which a descriptor leads.
pub fn path(pid: u32, fd: u32) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    Some(path.into_os_string().into_vec())
}

/// The position of a descriptor.
pub fn position(pid: u32, fd: u32) -> Option<i64> {
    let info = file::read(format!("/proc/{pid}/fdinfo/{fd}")).ok()?;
    status_field(&info, "pos")?.parse().ok()
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
}
