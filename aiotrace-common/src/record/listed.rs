//! What the program behind `aiotrace ls` writes: the contexts of all processes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A context in the `mm->ioctx_table` of a process (`aiotrace ls`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ListedContext {
    /// The address space, as in [`Process::space`](super::Process::space).
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// The charge: what io_setup was asked for, and what the context takes from fs.aio-nr.
    pub charge: u32,
    /// How many requests it has room for.
    pub room: u32,
    /// The process, as the initial pid namespace sees it.
    pub kernel_pid: u32,
    /// The address of the `struct kioctx`.
    pub kioctx: u64,
    /// The address of the ring's `struct file`; 0 if it cannot be read.
    pub ring_file: u64,
    /// How many slots are taken by requests in flight, or kept free by a processor; [`u32::MAX`] if
    /// unknown.
    pub taken: u32,
    /// How many of these slots a processor keeps free; [`u32::MAX`] if unknown.
    pub kept: u32,
}

impl ListedContext {
    /// The exact number of requests in flight.
    pub fn in_flight(&self) -> Option<u32> {
        match (self.taken, self.kept) {
            (0, _) => Some(0),
            (u32::MAX, _) | (_, u32::MAX) => None,
            // The kernel changes both while they are read.
            (taken, kept) => Some(taken.saturating_sub(kept)),
        }
    }

    /// An upper bound for the number of requests in flight.
    pub fn in_flight_at_most(&self) -> Option<u32> {
        (self.taken != u32::MAX).then_some(self.taken)
    }
}

/// How many places of one table are looked at in one walk; a table may have more.
pub const CONTEXTS_PER_WALK: u32 = 1024;

/// The state of the walks over all tasks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Cursor {
    /// The number of the walk: each walk looks at an address space only once.
    pub walk: u32,
    /// The first place to look at in each table.
    pub first: u32,
    /// 1: a table has more places.
    pub more: u32,
    /// Contexts for which there was no room in the ring buffer.
    pub lost: u32,
}
