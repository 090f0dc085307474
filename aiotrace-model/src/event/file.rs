//! The file behind a descriptor, as a look finds it.

use serde::{Deserialize, Serialize};

/// The file behind a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its kind.
    pub kind: FileKind,
    /// Its size in bytes, where it has one. (One of sysfs or procfs has none that is true.)
    pub size: Option<u64>,
    /// Its device and inode.
    pub id: Option<(u64, u64)>,
    /// It is open with O_DIRECT; `None` if that could not be read.
    pub direct: Option<bool>,
    /// It is open with O_APPEND, so that writes go to its end, whatever their offset is; `None` if that could not be
    /// read.
    pub append: Option<bool>,
    /// It is a regular file, and its file system is in memory: tmpfs, for instance.
    pub in_memory: bool,
    /// How its requests must be aligned, if it is open with O_DIRECT.
    pub alignment: Option<Alignment>,
}

impl File {
    /// Whether it is a regular file: reads end at its end, and writes make it longer.
    pub fn is_regular(self) -> bool {
        self.kind == FileKind::Storage && self.size.is_some()
    }
}

/// The numbers of bytes of which a request to a file with O_DIRECT must be a multiple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alignment {
    /// For the address of a buffer.
    pub memory: u32,
    /// For the offset and the length of a write.
    pub write: u32,
    /// For the offset and the length of a read.
    pub read: u32,
    /// Where these numbers come from.
    pub source: AlignmentSource,
}

/// Where the alignment of a file is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlignmentSource {
    /// statx(2) says so.
    Statx,
    /// The size of a logical block of the device is taken instead, which is a guess.
    Device,
    /// The size of a block of the file system is taken instead, which is a guess, too.
    FileSystem,
}

/// Whether a descriptor is open, in all threads of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// It leads to this device and inode.
    As((u64, u64)),
    /// It is not open.
    No,
    /// Unknown: the process ends, or may not be looked at, or its threads have different descriptors.
    Unknown,
}

/// The kind of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file or a block device: its requests are done in bounded time.
    Storage,
    /// Anything else: a request may pend for ever by design.
    #[default]
    Other,
}
