//! The answers of looks at the running system, for which the model has asked.

use serde::{Deserialize, Serialize};

use super::{Address, File, Handle, Open, Ring, Timespec};
use crate::bounded;

/// The answer of a look at the running system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Looked {
    /// The state of a context's ring.
    Ring {
        /// The context.
        ctx: Handle,
        /// What is at its address.
        found: RingFound,
        /// A thread is in io_destroy for this handle.
        destroying: bool,
        /// The largest number of completions for which a thread waits in io_getevents, if one waits.
        awaited: Option<i64>,
    },
    /// The file behind a descriptor of the process.
    File {
        /// The descriptor.
        fd: u32,
        /// The file; `None` if it cannot be found out.
        file: Option<File>,
        /// When the look was over, nanoseconds of CLOCK_MONOTONIC: the event's time is when it began.
        until: u64,
    },
    /// Who holds fs.aio-nr.
    Limit(Limit),
    /// Contexts of the process whose handle is nowhere in its writable memory.
    Unreferenced(#[serde(deserialize_with = "bounded::contexts")] Vec<Handle>),
    /// The path behind a descriptor of the process.
    Path {
        /// The descriptor.
        fd: u32,
        /// The path, which may have any bytes; `None` if it cannot be found out.
        #[serde(deserialize_with = "bounded::known_path")]
        path: Option<Vec<u8>>,
    },
    /// The iovecs of the process at this moment.
    Iovecs {
        /// Their address.
        at: Address,
        /// Base and length of the first ones; `None` if they could not be read.
        #[serde(deserialize_with = "bounded::iovecs")]
        list: Option<Vec<(Address, u64)>>,
    },
    /// Whether a descriptor of the process is open.
    Descriptor {
        /// The descriptor.
        fd: u32,
        /// Whether it is open, and for which file.
        open: Open,
        /// When the look was over, nanoseconds of CLOCK_MONOTONIC: the event's time is when it began.
        until: u64,
    },
    /// What all living threads of the process's address space do, sorted by their ids; `None` if that could not be
    /// found out for each of them.
    Threads(#[serde(deserialize_with = "bounded::threads")] Option<Vec<Thread>>),
    /// By what else the file of a descriptor may be read or written than by calls of the process that are watched.
    Ways {
        /// The descriptor.
        fd: u32,
        /// `None` if that cannot be told: the process has ended.
        ways: Option<Ways>,
    },
    /// Processes below this one that have contexts and are not traced, as far as could be found out.
    Below(#[serde(deserialize_with = "bounded::few")] Vec<User>),
}

/// A process that has contexts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The process.
    pub pid: u32,
    /// Its name: any bytes.
    #[serde(deserialize_with = "bounded::name")]
    pub name: Vec<u8>,
    /// How many contexts it has.
    pub contexts: u64,
}

/// By what else a file may be read or written than by calls of the process that are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ways {
    /// The process has mapped it, writable and shared: what it stores there goes to the file.
    pub stored: bool,
    /// The process has mapped it, in whatever way.
    pub mapped: bool,
    /// The process has an io_uring, which may need no calls.
    pub uring: bool,
    /// Another process has it open for writing.
    pub writers: Others,
    /// Another process has it open.
    pub others: Others,
}

/// Whether there are other processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Others {
    /// None of those that we may look at.
    #[default]
    None,
    /// One at least.
    Some,
    /// There are too many descriptors on the machine to look at all of them.
    Unknown,
}

/// A living thread at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// What it waits for in io_getevents or io_pgetevents; `None`: it does something else.
    pub waits: Option<Waits>,
    /// Signals that would interrupt the wait, because the thread handles them and does not block them. Bit n-1 is
    /// signal n.
    pub signals: u64,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// The context.
    pub ctx: Handle,
    /// The least number of completions that it waits for.
    pub min_nr: i64,
    /// The timeout argument.
    pub timeout: Address,
    /// The timeout at this moment, if it could be read. The kernel has read it when the call began.
    pub timeout_value: Option<Timespec>,
}

/// What is at the address where a context's ring should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingFound {
    /// The ring.
    There(Ring),
    /// Nothing that can be read; and the ring is nowhere else in the process.
    Unmapped,
    /// Unknown: the process is gone, or may not be looked at, or the ring was moved.
    Unknown,
    /// Something else that can be read, and the ring is nowhere else in the process. What the kernel finds there may pass
    /// for the ring, so that calls with the handle work still.
    Covered,
}

/// The limit on requests, and which processes use it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// fs.aio-nr
    pub used: u64,
    /// fs.aio-max-nr
    pub limit: u64,
    /// The processes that hold most, by charge.
    #[serde(deserialize_with = "bounded::few")]
    pub holders: Vec<Holder>,
}

/// A process that holds contexts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its name: any bytes.
    #[serde(deserialize_with = "bounded::name")]
    pub name: Vec<u8>,
    /// How many contexts it holds.
    pub contexts: u64,
    /// What they take from fs.aio-nr.
    pub charge: u64,
}
