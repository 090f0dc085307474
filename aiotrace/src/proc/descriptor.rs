//! What the descriptors of a process lead to.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, RawFd},
    path::PathBuf,
};

use super::{
    file,
    memory::read_memory,
    process::{share_descriptors, status_field, threads},
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

/// Most tables of descriptors of a process that are looked at.
const MOST_TABLES: usize = 64;
/// Most threads whose tables are told apart.
const MOST_THREADS: usize = 4096;

/// Where the descriptors of a process are in /proc. Threads have the same ones as a rule, but each may have a table of its own
/// (unshare(2), or clone(2) without CLONE_FILES), and the first thread has none any more if it has ended before the others.
/// `None`: there are more than are looked at.
fn tables(pid: u32) -> Option<Vec<String>> {
    let mut tids = threads(pid);
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    if tids.len() > MOST_THREADS {
        return None;
    }
    let mut owners: Vec<u32> = Vec::new();
    for tid in tids {
        let is_same = |owner: &u32| share_descriptors(*owner, tid) == Some(true);
        if !owners.iter().any(is_same) {
            owners.push(tid);
        }
        if owners.len() > MOST_TABLES {
            return None;
        }
    }
    Some(owners.iter().map(|tid| format!("/proc/{pid}/task/{tid}")).collect())
}

/// The directory of /proc in which this descriptor of a process is; `None` if it is in none, or leads to different files in
/// different tables.
pub(super) fn place(pid: u32, fd: u32) -> Option<String> {
    let mut tables = tables(pid)?;
    if tables.len() == 1 {
        return tables.pop();
    }
    let mut found = None;
    for table in tables {
        let Ok(status) = status_of(&format!("{table}/fd/{fd}"), libc::STATX_INO) else { continue };
        let info = file::read(format!("{table}/fdinfo/{fd}")).unwrap_or_default();
        let what = (identity(&status), status_field(&info, "flags").map(str::to_owned));
        match &found {
            None => found = Some((what, table)),
            Some((other, _)) if *other == what => (),
            Some(_) => return None,
        }
    }
    found.map(|it| it.1)
}

/// What a descriptor is. Whoever serves the file is not asked (a dead NFS or FUSE server would hang us, too):
/// the size is what the kernel knows.
pub fn file(pid: u32, fd: u32) -> Option<File> {
    let wanted = libc::STATX_TYPE
        | libc::STATX_SIZE
        | libc::STATX_INO
        | libc::STATX_DIOALIGN
        | libc::STATX_DIO_READ_ALIGN;
    let place = place(pid, fd)?;
    let status = status_of(&format!("{place}/fd/{fd}"), wanted).ok()?;
    let (kind, size) = match u32::from(status.stx_mode) & libc::S_IFMT {
        libc::S_IFREG => (FileKind::Storage, Some(status.stx_size)),
        libc::S_IFBLK => (FileKind::Storage, None),
        _ => (FileKind::Other, None),
    };
    let info = file::read(format!("{place}/fdinfo/{fd}")).unwrap_or_default();
    let flags = status_field(&info, "flags");
    let flags = flags.and_then(|it| i32::from_str_radix(it, 8).ok());
    let mount = status_field(&info, "mnt_id");
    let direct = flags.map(|it| it & libc::O_DIRECT != 0);
    let file_system = mount.and_then(|it| file_system(pid, it)).unwrap_or_default();
    let is_one_of = |all: &[&str]| all.iter().any(|it| it.as_bytes() == file_system);
    // The node of a block device is in /dev, which is in memory; what it leads to is not.
    let in_memory = size.is_some() && is_one_of(&IN_MEMORY);
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

pub(super) fn status_of(path: &str, wanted: u32) -> io::Result<libc::statx> {
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
pub(super) fn identity(status: &libc::statx) -> (u64, u64) {
    let device = u64::from(status.stx_dev_major) << 32 | u64::from(status.stx_dev_minor);
    (device, status.stx_ino)
}

/// Whether a descriptor is open. It is closed only if no thread has it, and some thread has others.
pub fn open(pid: u32, fd: u32) -> Open {
    let Some(tables) = tables(pid) else { return Open::Unknown };
    let (mut found, mut is_closed) = (None, false);
    for table in tables {
        let all = format!("{table}/fd");
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

/// The path to which a descriptor leads.
pub fn path(pid: u32, fd: u32) -> Option<Vec<u8>> {
    target(&place(pid, fd)?, fd)
}

/// The path to which a descriptor of a thread leads.
pub fn path_of_thread(tid: u32, fd: u32) -> Option<Vec<u8>> {
    target(&format!("/proc/{tid}"), fd)
}

fn target(table: &str, fd: u32) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    let path = fs::read_link(format!("{table}/fd/{fd}")).ok()?;
    Some(path.into_os_string().into_vec())
}

/// The position of a descriptor of a thread.
pub fn position(tid: u32, fd: u32) -> Option<i64> {
    let info = file::read(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
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
    fn a_thread_may_have_descriptors_of_its_own() {
        use std::{io::Write as _, os::fd::AsRawFd as _, sync::mpsc::channel};
        let us = std::process::id();
        let (mut ours, mut its) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        ours.write_all(b"1").unwrap();
        its.write_all(b"22").unwrap();
        let fd = ours.as_raw_fd();
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        let its = its.as_raw_fd();
        let thread = std::thread::spawn(move || {
            // SAFETY: from here on the thread has descriptors of its own, and puts another file at the number.
            unsafe {
                assert_eq!(libc::unshare(libc::CLONE_FILES), 0);
                assert_eq!(libc::dup2(its, fd), fd);
                tell.send(libc::gettid() as u32).unwrap();
            }
            let _ = ended.recv();
            // SAFETY: it is this thread's, and nobody else uses the number here.
            unsafe { libc::close(libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY)) };
        });
        let tid = told.recv().unwrap();
        let only_there = its as u32;
        assert_eq!(file(us, fd as u32), None, "it is one file or the other");
        assert_eq!(open(us, fd as u32), Open::Unknown);
        assert!(file(us, only_there).is_some(), "both have the same there");
        assert_ne!(path_of_thread(tid, fd as u32), path_of_thread(us, fd as u32));
        drop(end);
        thread.join().unwrap();
        assert_eq!(file(us, fd as u32).and_then(|it| it.size), Some(1));
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
