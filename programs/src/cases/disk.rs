//! Files that have a name for as long as the program runs.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::PathBuf,
};

use super::PAGE;

/// A file that is removed on drop.
pub struct Named {
    pub file: File,
    pub path: PathBuf,
}

impl Named {
    /// An empty file, `aio-NAME-PID`, opened for reading and writing with these flags.
    pub fn with(name: &str, flags: i32) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("aio-{name}-{}", std::process::id()));
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.custom_flags(flags).open(&path);
        let file = file.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Ok(Self { file, path })
    }

    /// An empty file.
    pub fn new(name: &str) -> Self {
        Self::with(name, 0).expect("a temporary file")
    }

    /// An empty file with O_DIRECT on a disk. (A file system in memory would take any address and
    /// length.)
    pub fn direct(name: &str) -> Self {
        match Self::with(name, libc::O_DIRECT) {
            Ok(named) if !named.is_in_memory() => named,
            _ => super::cannot_run("no disk with O_DIRECT"),
        }
    }

    /// An empty file, with O_DIRECT if that is possible.
    pub fn direct_if_possible(name: &str) -> Self {
        Self::with(name, libc::O_DIRECT).unwrap_or_else(|_| Self::new(name))
    }

    fn is_in_memory(&self) -> bool {
        /// The constant of include/uapi/linux/magic.h.
        const RAMFS: libc::c_long = 0x8584_58f6;
        // SAFETY: statfs is a structure of numbers, for which zeros are valid, and there is room
        // for it.
        let kind = unsafe {
            let mut about: libc::statfs = std::mem::zeroed();
            assert_eq!(libc::fstatfs(self.fd(), &raw mut about), 0, "fstatfs");
            about.f_type
        };
        // Their types differ between C libraries.
        let is = |of: libc::c_long| i128::from(kind) == i128::from(of);
        is(libc::TMPFS_MAGIC) || is(RAMFS)
    }

    /// Fills the file with this many pages of `x`.
    pub fn filled(self, pages: u64) -> Self {
        let content = letters(pages as usize);
        // SAFETY: the pages are there, and nobody else has them.
        let content = unsafe { std::slice::from_raw_parts(content, (pages * PAGE) as usize) };
        self.file.write_all_at(content, 0).expect("the temporary file");
        self
    }

    /// Another descriptor of the file, to be used after the name is removed.
    pub fn unnamed(&self) -> File {
        self.file.try_clone().expect("a descriptor")
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub fn length(&self) -> u64 {
        self.file.metadata().expect("the temporary file").len()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// New pages, filled with `x`. They stay mapped.
pub fn letters(pages: usize) -> *mut u8 {
    let at = crate::aio::pages(pages);
    // SAFETY: the mapping has this size, and nobody else knows it yet.
    unsafe { at.write_bytes(b'x', pages * PAGE as usize) };
    at
}

/// A number that is not an open descriptor.
pub fn closed_descriptor(of: &Named) -> RawFd {
    // SAFETY: the descriptors are ours.
    unsafe {
        let fd = libc::dup(of.fd());
        assert_eq!(libc::close(fd), 0, "close");
        fd
    }
}
