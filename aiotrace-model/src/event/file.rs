//! What a look finds behind a descriptor.

use serde::{Deserialize, Serialize};

/// What is behind a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its kind.
    pub kind: FileKind,
    /// Its size in bytes, where it has one. (One of sysfs or procfs has none that is true.)
    pub size: Option<u64>,
    /// Its device and inode.
    pub id: Option<(u64, u64)>,
    /// It is open with O_DIRECT, if that could be read.
    pub direct: Option<bool>,
    /// It is open with O_APPEND, if that could be read: writes go to its end, wherever they are asked to.
    pub append: Option<bool>,
    /// Its file system is in memory: tmpfs, for instance.
    pub in_memory: bool,
    /// How its requests must be aligned, if it is open with O_DIRECT.
    pub alignment: Option<Alignment>,
}

impl File {
    /// It is a regular file: reads end where it does, and writes make it longer.
    pub fn is_regular(self) -> bool {
        self.kind == FileKind::Storage && self.size.is_some()
    }
}

/// Of what each request to a file with O_DIRECT must be a multiple, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alignment {
    /// The address of a buffer.
    pub memory: u32,
    /// The offset and the length of a write.
    pub write: u32,
    /// The offset and the length of a read.
    pub read: u32,
    /// How it is known.
    pub source: AlignmentSource,
}

/// How it is known what alignment a file asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlignmentSource {
    /// statx(2) says so.
    Statx,
    /// It is the size of a logical block of the device: a guess.
    Device,
    /// It is the size of a block of the file system: a guess, too.
    FileSystem,
}

/// Whether a descriptor is open, in all threads of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// It leads to this device and inode.
    As((u64, u64)),
    /// It is not.
    No,
    /// That cannot be told: the process ends, or may not be looked at, or its threads have different descriptors.
    Unknown,
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file or a block device: what is asked of it is done in bounded time.
    Storage,
    /// Anything else: a request may pend for ever, by design.
    #[default]
    Other,
}
