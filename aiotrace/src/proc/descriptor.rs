//! What the descriptors of a process lead to.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, RawFd},
    path::PathBuf,
};

use super::{
    file,
    memory::read_memory,
    process::{status_field, threads},
};
use crate::event::{Address, Alignment, AlignmentSource, File, FileKind, Open};

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
    let wanted = libc::STATX_TYPE
        | libc::STATX_SIZE
        | libc::STATX_INO
        | libc::STATX_DIOALIGN
        | libc::STATX_DIO_READ_ALIGN;
    let status = status_of(&format!("/proc/{pid}/fd/{fd}"), wanted).ok()?;
    let (kind, size) = match u32::from(status.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => (FileKind::Storage, Some(status.stx_size)),
        libc::S_IFBLK => (FileKind::Storage, None),
        _ => (FileKind::Other, None),
    };
    let info = file::read(format!("/proc/{pid}/fdinfo/{fd}")).unwrap_or_default();
    let flags = status_field(&info, "flags");
    let flags = flags.and_then(|it| i32::from_str_radix(it, 8).ok());
    let mount = status_field(&info, "mnt_id");
    let direct = flags.map(|it| it & libc::O_DIRECT != 0);
    let file_system = mount.and_then(|it| file_system(pid, it)).unwrap_or_default();
    let is_one_of = |all: &[&str]| all.iter().any(|it| it.as_bytes() == file_system);
    let in_memory = is_one_of(&IN_MEMORY);
    let has_alignment = direct == Some(true) && kind == FileKind::Storage && !in_memory;
    Some(File {
        kind,
        size: size.filter(|_| !is_one_of(&GENERATED)),
        id: Some(identity(&status)),
        direct,
        append: flags.map(|it| it & libc::O_APPEND != 0),
        in_memory,
        alignment: has_alignment.then(|| alignment(&status)).flatten(),
    })
}

fn status_of(path: &str, wanted: u32) -> io::Result<libc::statx> {
    let path = std::ffi::CString::new(path)?;
    let flags = libc::AT_STATX_DONT_SYNC;
    let mut status = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends with NUL, and there is room for the answer, for which all zeros are
    // valid.
    unsafe {
        match libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, wanted, status.as_mut_ptr()) {
            0 => Ok(status.assume_init()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Its device and inode.
fn identity(status: &libc::statx) -> (u64, u64) {
    let device = u64::from(status.stx_dev_major) << 32 | u64::from(status.stx_dev_minor);
    (device, status.stx_ino)
}

/// Threads looked at, at most.
const MOST_THREADS: usize = 256;

/// Whether a descriptor is open. Each thread may have descriptors of its own (unshare(2), CLONE_FILES), and one that ends
/// has none: so it is closed only if no thread has it, and some thread has others.
pub fn open(pid: u32, fd: u32) -> Open {
    let threads = threads(pid);
    if threads.len() > MOST_THREADS {
        return Open::Unknown;
    }
    let (mut found, mut is_closed) = (None, false);
    for tid in threads {
        let all = format!("/proc/{pid}/task/{tid}/fd");
        match status_of(&format!("{all}/{fd}"), libc::STATX_INO) {
            Ok(status) if found.is_none_or(|it| it == identity(&status)) => {
                found = Some(identity(&status));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                is_closed |= fs::read_dir(all).is_ok_and(|mut it| it.next().is_some());
            }
            Ok(_) | Err(_) => return Open::Unknown,
        }
    }
    match (found, is_closed) {
        (Some(id), false) => Open::As(id),
        (None, true) => Open::No,
        (Some(_), true) | (None, false) => Open::Unknown,
    }
}

/// What alignment a file asks of requests with O_DIRECT: what statx(2) says (from Linux 6.1 on, and not of each file
/// system), else the size of a logical block of its device, else that of a block of its file system.
fn alignment(status: &libc::statx) -> Option<Alignment> {
    let (memory, write) = (status.stx_dio_mem_align, status.stx_dio_offset_align);
    if status.stx_mask & libc::STATX_DIOALIGN != 0 && memory > 0 && write > 0 {
        let read = match read_offset_align(status) {
            0 => write,
            read if status.stx_mask & libc::STATX_DIO_READ_ALIGN != 0 => read,
            _ => write,
        };
        return Some(Alignment { memory, write, read, source: AlignmentSource::Statx });
    }
    let is_device = u32::from(status.stx_mode) & libc::S_IFMT == libc::S_IFBLK;
    let device = match is_device {
        true => (status.stx_rdev_major, status.stx_rdev_minor),
        false => (status.stx_dev_major, status.stx_dev_minor),
    };
    let of_file_system = || Some((status.stx_blksize, AlignmentSource::FileSystem));
    let of_device = || Some((logical_block(device)?, AlignmentSource::Device));
    let (size, source) = of_device().or_else(of_file_system)?;
    (size > 0).then_some(Alignment { memory: size, write: size, read: size, source })
}

/// `stx_dio_read_offset_align` (Linux 6.14), for which not every C library has a name:
/// <https://elixir.bootlin.com/linux/v6.18/source/include/uapi/linux/stat.h#L187>
fn read_offset_align(status: &libc::statx) -> u32 {
    const AT: usize = std::mem::offset_of!(libc::statx, stx_atomic_write_segments_max) + 4;
    // SAFETY: the structure goes on behind this word, and its bytes are numbers of the kernel.
    unsafe { std::ptr::from_ref(status).byte_add(AT).cast::<u32>().read() }
}

/// The size of a logical block of a disk, or of the disk of a partition.
fn logical_block((major, minor): (u32, u32)) -> Option<u32> {
    let device = format!("/sys/dev/block/{major}:{minor}");
    let place = |of: &str| format!("{device}{of}/queue/logical_block_size");
    let text = file::read(place("")).or_else(|_| file::read(place("/.."))).ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok()
}

/// File systems that have no disk.
const IN_MEMORY: [&str; 4] = ["tmpfs", "ramfs", "hugetlbfs", "devtmpfs"];
/// File systems whose files have the content that the kernel makes when it is read, and a size (0, or that of a page)
/// that says nothing of it.
const GENERATED: [&str; 16] = [
    "sysfs",
    "proc",
    "debugfs",
    "tracefs",
    "cgroup",
    "cgroup2",
    "configfs",
    "securityfs",
    "bpf",
    "pstore",
    "efivarfs",
    "fusectl",
    "binfmt_misc",
    "selinuxfs",
    "nfsd",
    "resctrl",
];

/// What file system a mount is of.
fn file_system(pid: u32, mount: &str) -> Option<Vec<u8>> {
    let line = self::mount(&pid.to_string(), mount).ok().flatten()?;
    let words = line.split(|it| *it == b' ');
    words.skip_while(|it| *it != b"-").nth(1).map(<[u8]>::to_vec)
}

/// The largest number of iovecs that are read of a request (`UIO_MAXIOV`).
const MOST_IOVECS: u64 = 1024;

/// The iovecs at this address of a (64-bit) process.
pub fn iovecs(pid: u32, at: Address, count: u64) -> Option<Vec<(Address, u64)>> {
    let mut bytes = vec![0; 16 * count.min(MOST_IOVECS) as usize];
    read_memory(pid, at.0, &mut bytes)?;
    let word = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).ok();
    let pairs = bytes.chunks_exact(16);
    pairs.map(|it| Some((Address(word(&it[..8])?), word(&it[8..])?))).collect()
}

/// Whether the process has mapped the file of a descriptor, writable and shared. (The device of a mapping is another one than
/// that of statx(2) on some file systems, such as btrfs, so only the inodes are compared: another file with the same number
/// may pass for this one.)
pub fn is_mapped(pid: u32, fd: u32) -> Option<bool> {
    let (_, inode) = identity(&status_of(&format!("/proc/{pid}/fd/{fd}"), libc::STATX_INO).ok()?);
    let mut is_mapped = false;
    let told = file::lines(format!("/proc/{pid}/maps"), |line| {
        is_mapped |= shared_inode(line) == Some(inode);
    });
    (is_mapped || told.ok()? == file::Told::All).then_some(is_mapped)
}

/// The inode of a line of maps, if the mapping is writable and shared.
fn shared_inode(line: &[u8]) -> Option<u64> {
    // `FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH`
    let mut words = line.split(|it| *it == b' ').skip(1);
    let permissions = words.next()?;
    if permissions.get(1) != Some(&b'w') || permissions.get(3) != Some(&b's') {
        return None;
    }
    str::from_utf8(words.nth(2)?).ok()?.parse().ok().filter(|it| *it != 0)
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
        assert_eq!(found.alignment, None, "it is open without O_DIRECT");
        // What the kernel makes has no size.
        for made in ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"] {
            let Ok(made) = fs::File::open(made) else { continue };
            let found = file(us, made.as_raw_fd() as u32);
            assert_eq!(found.map(|it| (it.kind, it.size)), Some((FileKind::Storage, None)));
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        let found = file(us, reader.as_raw_fd() as u32);
        assert_eq!(found.map(|it| (it.kind, it.size)), Some((FileKind::Other, None)));
        assert_eq!(file(us, 9999), None);
        assert_eq!(file(u32::MAX, 0), None);
    }

    #[test]
    fn a_descriptor_is_open_or_not() {
        use std::os::fd::AsRawFd as _;
        let us = std::process::id();
        let (reader, writer) = std::io::pipe().unwrap();
        let Open::As(pipe) = open(us, reader.as_raw_fd() as u32) else { panic!("it is open") };
        assert_eq!(open(us, writer.as_raw_fd() as u32), Open::As(pipe), "the same pipe");
        assert_ne!(open(us, 0), Open::As(pipe));
        assert_eq!(open(us, 999_999), Open::No);
        assert_eq!(open(u32::MAX, 0), Open::Unknown);
        // A zombie has none, and neither is closed by whoever has it.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        nix::sys::wait::waitid(
            nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(child.id() as i32)),
            nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
        )
        .unwrap();
        assert_eq!(open(child.id(), 0), Open::Unknown);
        child.wait().unwrap();
    }

    #[test]
    fn a_file_is_mapped_where_stores_go_to_it() {
        use std::os::fd::AsRawFd as _;
        let (us, file) = (std::process::id(), tempfile::tempfile().unwrap());
        file.set_len(4096).unwrap();
        let fd = file.as_raw_fd() as u32;
        assert_eq!(is_mapped(us, fd), Some(false));
        let options = memmap2::MmapOptions::new();
        // SAFETY: nobody else has the file, and nobody reads the mappings.
        let (only_read, copied) =
            unsafe { (options.map(&file).unwrap(), options.map_copy(&file).unwrap()) };
        assert_eq!(is_mapped(us, fd), Some(false));
        // SAFETY: as above.
        let shared = unsafe { options.map_mut(&file).unwrap() };
        assert_eq!(is_mapped(us, fd), Some(true));
        drop((only_read, copied, shared));
        assert_eq!(is_mapped(us, fd), Some(false));
        assert_eq!(is_mapped(us, 9999), None);
        assert_eq!(shared_inode(b"7f00-7f01 rw-s 00000000 08:01 77   /a b"), Some(77));
        assert_eq!(shared_inode(b"7f00-7f01 rw-p 00000000 08:01 77   /a"), None);
        assert_eq!(shared_inode(b"7f00-7f01 rw-s 00000000 00:00 0 "), None);
        assert_eq!(shared_inode(b"7f00-7f01 rw"), None);
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
