//! Opens the files of a target. Their owner may want aiotrace to open something else (a FIFO, on
//! which the open would wait; a device, which does something when it is opened), or want it to
//! wait.
//!
//! So a file is first found without being opened (`O_PATH`), then looked at, and then opened
//! through that descriptor: whatever happens to its path in the meantime, the file is the one that
//! was looked at. It is opened with `O_NONBLOCK` because of leases, which would make the open wait:
//! fcntl(2), `F_SETLEASE`.

use std::{
    ffi::OsStr,
    fs::{File, Metadata},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
};

use memmap2::MmapOptions;
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use super::maps::{self, Mapped};
use crate::proc::file::{Told, lines};

/// The directory of debug files.
const DEBUG: &str = "/usr/lib/debug";
/// Opens the very file that is mapped at this place, even if it was deleted or replaced, or is in a
/// container's root. Also returns its `O_PATH` descriptor. Only a helper may call this.
pub fn of_region(pid: u32, (start, end): (u64, u64), mapped: &Mapped) -> Option<(File, File)> {
    // A program that serves the file system (FUSE) may wait for something, and then this read would
    // wait, too.
    let mut kinds = Kinds::of(&mapped.identity.0)?;
    for it in ["self".to_owned(), pid.to_string()] {
        let told = lines(format!("/proc/{it}/mountinfo"), |line| kinds.line(line));
        // The process may be gone, or it may have more mounts than are read.
        if matches!(told, Ok(Told::Some)) || told.is_err() && it == "self" {
            return None;
        }
        kinds.are_all &= told.is_ok();
    }
    if kinds.may_be_served() {
        return None;
    }
    let path = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
    let found = match open(&*path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
        // These links are only for root (or CAP_CHECKPOINT_RESTORE):
        // <https://elixir.bootlin.com/linux/v6.12.117/source/fs/proc/base.c#L2280>
        Err(Errno::EPERM | Errno::EACCES) => in_root(pid, &mapped.path),
        other => other,
    };
    let found = File::from(found.ok()?);
    let file = read_through(&found, |metadata| metadata.ino() == mapped.identity.1)?;
    let is_it = identity(&file).is_some_and(|it| it == mapped.identity);
    is_it.then_some((file, found))
}

/// The device and the inode, as the kernel writes them into maps. (fstat(2) gives another device on
/// btrfs and overlayfs.) They come from a mapping of the file in this process, which is not read.
fn identity(file: &File) -> Option<(Vec<u8>, u64)> {
    // SAFETY: nothing reads the mapping, so it does not matter what becomes of the file.
    let map = unsafe { MmapOptions::new().len(1).map(file) }.ok()?;
    let (address, mut found) = (map.as_ptr() as u64, None);
    lines("/proc/self/maps", |line| {
        found = found.take().or_else(|| maps::identity_at(line, address))
    })
    .ok()?;
    found
}

/// Finds a path as the process sees it.
fn in_root(pid: u32, path: &[u8]) -> Result<OwnedFd, Errno> {
    let directory = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let root = open(&*format!("/proc/{pid}/root"), directory, Mode::empty())?;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    openat2(root, Path::new(OsStr::from_bytes(path)), how)
}

/// Opens for reading a file that was found, if it is a regular file and `is_meant` says that it is
/// the right one.
pub fn read_through(found: &File, is_meant: impl FnOnce(&Metadata) -> bool) -> Option<File> {
    let metadata = found.metadata().ok()?;
    if !metadata.is_file() || !is_meant(&metadata) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(&*path, flags, Mode::empty()).ok().map(File::from)
}

/// Opens a file below the directory of debug files, if root owns it and no other user can write to
/// it.
pub fn of_debug(path: &Path) -> Option<File> {
    beneath(Path::new(DEBUG), path, |it| it.uid() == 0 && it.mode() & 0o022 == 0)
}

/// Opens a file below a directory, if it is a regular file and `is_meant` says that it is the right
/// one. No link on the way leads out of the directory.
pub fn beneath(
    directory: &Path,
    path: &Path,
    is_meant: impl FnOnce(&Metadata) -> bool,
) -> Option<File> {
    let how = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let directory = open(directory, how, Mode::empty()).ok()?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    read_through(&File::from(openat2(directory, path, how).ok()?), is_meant)
}

/// Reads a part of a file; `None` if it has more than `most` bytes, or if the file ends before. (It
/// is never mapped: a user who may write to the file can cut it short, and to read a page that is
/// gone is SIGBUS.)
pub fn read(file: &File, offset: u64, length: u64, most: usize) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let length = usize::try_from(length).ok().filter(|it| *it <= most)?;
    // If the file ends before, take neither memory nor time.
    if offset.checked_add(length as u64)? > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// What the mounts say about the file system of a device. If no mount has the device (any more), a
/// program may serve it, unless it is a disk. A line of mountinfo looks like this (proc(5)):
/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
pub(super) struct Kinds {
    device: String,
    is_disk: bool,
    is_found: bool,
    is_fuse: bool,
    /// Whether all mounts were read.
    are_all: bool,
}

impl Kinds {
    /// Begins with a device, as maps has it; `None` if it is not one.
    pub fn of(device: &[u8]) -> Option<Self> {
        let number = |hex| u32::from_str_radix(hex, 16).ok();
        let (major, minor) = str::from_utf8(device).ok()?.split_once(':')?;
        let (major, minor) = (number(major)?, number(minor)?);
        let device = format!("{major}:{minor}");
        Some(Self { device, is_disk: major != 0, is_found: false, is_fuse: false, are_all: true })
    }

    /// Adds a line of mountinfo.
    pub fn line(&mut self, line: &[u8]) {
        let mut words = line.split(|it| *it == b' ');
        if words.nth(2) == Some(self.device.as_bytes()) {
            let kind = words.skip_while(|it| *it != b"-").nth(1).unwrap_or_default();
            self.is_found = true;
            self.is_fuse |= kind.starts_with(b"fuse");
        }
    }

    /// Whether a program may serve the file system.
    pub fn may_be_served(&self) -> bool {
        let is_known = self.is_disk || self.is_found && self.are_all;
        self.is_fuse || !is_known
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_that_a_program_serves_are_told_by_their_device() {
        let mounts = b"22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n\
            99 22 0:61 / /mnt\xff rw shared:1 - fuse.sshfs host:/ rw\n\
            98 22 0:62 / /tmp rw - tmpfs tmpfs rw\n";
        let may_be_served = |mounts: &[u8], device: &[u8]| {
            let mut kinds = Kinds::of(device)?;
            mounts.split(|it| *it == b'\n').for_each(|line| kinds.line(line));
            Some(kinds.may_be_served())
        };
        assert_eq!(may_be_served(mounts, b"00:3d"), Some(true), "FUSE");
        assert_eq!(may_be_served(mounts, b"fe:01"), Some(false), "ext4");
        assert_eq!(may_be_served(mounts, b"00:3e"), Some(false), "tmpfs");
        assert_eq!(
            may_be_served(mounts, b"08:01"),
            Some(false),
            "a disk of another mount namespace"
        );
        assert_eq!(may_be_served(mounts, b"00:3f"), Some(true), "a mount that was taken away");
        assert_eq!(may_be_served(mounts, b"nonsense"), None);
    }

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (fifo, file) = (directory.path().join("fifo"), directory.path().join("file"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        fs::write(&file, b"abc").unwrap();
        let found = |path: &Path| {
            let found = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
            read_through(&File::from(found), |_| true)
        };
        let of_file = identity(&File::open(&file).unwrap());
        assert_eq!(of_file.map(|it| it.1), Some(fs::metadata(&file).unwrap().ino()));
        assert!(found(&fifo).is_none());
        assert!(found(Path::new("/dev/null")).is_none());
        let file = found(&file).unwrap();
        assert_eq!(read(&file, 1, 2, 10), Some(b"bc".to_vec()));
        assert_eq!(read(&file, 1, 2, 1), None, "more than is allowed");
        assert_eq!(read(&file, 2, 2, 10), None, "beyond the end");
    }

    #[test]
    fn debug_files_are_only_those_below_their_directory() {
        for path in ["/etc/passwd", "../../../etc/passwd", "/usr/lib/debug/x"] {
            assert!(of_debug(Path::new(path)).is_none(), "{path}");
        }
    }
}
