//! The records of what begins and ends: contexts and processes.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use super::{Header, PATH_BYTES};

/// Why a context ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum End {
    /// io_destroy ended it.
    Destroy = 1,
    /// The process exited.
    Exit = 2,
    /// The process executed a new program.
    Exec = 3,
}

/// A context ends: from this time on its handle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextGone {
    /// The record's header, which is not counted.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// How many requests of the context have completed since the probes know it, whether recorded
    /// or not.
    pub completed: u64,
    /// Why the context ended.
    pub end: End,
    /// 1: it may be [`End::Exec`] as well. A process that read the memory of the target, in /proc
    /// for instance, was the last to hold its address space and so ended the context.
    pub by_other: u32,
}

/// A ring was moved with mremap(2), so its context has another handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextMoved {
    /// The record's header, which is not counted.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The old handle.
    pub from: u64,
    /// The new handle.
    pub to: u64,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Change {
    /// A thread made its first AIO call since the attach.
    Seen = 1,
    /// The thread created the process `other`.
    Fork = 2,
    /// The thread executed a new program.
    Exec = 3,
    /// The last thread of the process is gone.
    Exit = 4,
}

/// Something happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// The record's header.
    pub header: Header,
    /// When the process started, in nanoseconds of CLOCK_BOOTTIME; 0 if unknown.
    pub started: u64,
    /// The address space: a number that processes that share one have in common; 0 if unknown. For
    /// a fork, that of the child.
    pub space: u64,
    /// What happened.
    pub change: Change,
    /// For a fork, the child. For an exec, the thread that called it.
    pub other: u32,
    /// For an exit, the status as wait(2) gives it.
    pub status: u32,
    /// For a fork, 1 if the child is traced.
    pub followed: u32,
    /// The name of the thread, padded with NULs.
    pub thread_name: [u8; 16],
    /// The name of the process, padded with NULs.
    pub name: [u8; 16],
    /// For an exec, the path as it was given, terminated by NUL and cut at this size.
    pub path: [u8; PATH_BYTES],
}
