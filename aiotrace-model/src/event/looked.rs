//! What a look at the running system found.

use serde::{Deserialize, Serialize};

use super::{Address, File, Handle, Open, Ring, Timespec};
use crate::bounded;

/// What a look at the running system found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Looked {
    /// Where the ring of a context is.
    Ring {
        /// The context.
        ctx: Handle,
        /// What is there.
        found: RingFound,
        /// A thread is in io_destroy for this handle.
        destroying: bool,
        /// Threads wait in io_getevents for completions of it: the most that one of them waits for.
        awaited: Option<i64>,
    },
    /// What a descriptor of the process is.
    File {
        /// The descriptor.
        fd: u32,
        /// What it is; `None` if that cannot be told.
        file: Option<File>,
        /// When the look was over, nanoseconds of CLOCK_MONOTONIC: the event's time is when it began.
        until: u64,
    },
    /// Who holds fs.aio-nr.
    Limit(Limit),
    /// Contexts of the process whose handle is nowhere in its writable memory.
    Unreferenced(#[serde(deserialize_with = "bounded::contexts")] Vec<Handle>),
    /// Where a descriptor of the process leads.
    Path {
        /// The descriptor.
        fd: u32,
        /// Any bytes; `None` if that cannot be told.
        #[serde(deserialize_with = "bounded::known_path")]
        path: Option<Vec<u8>>,
    },
    /// What iovecs of the process are now.
    Iovecs {
        /// Where they are.
        at: Address,
        /// Base and length of the first ones; `None` if they cannot be read.
        #[serde(deserialize_with = "bounded::iovecs")]
        list: Option<Vec<(Address, u64)>>,
    },
    /// Whether a descriptor of the process is open.
    Descriptor {
        /// The descriptor.
        fd: u32,
        /// Whether it is, and as what.
        open: Open,
        /// When the look was over, nanoseconds of CLOCK_MONOTONIC: the event's time is when it began.
        until: u64,
    },
    /// What all threads do that live in the address space of the process, by their ids; `None` if that cannot be told of
    /// each.
    Threads(#[serde(deserialize_with = "bounded::threads")] Option<Vec<Thread>>),
    /// Whether the process has mapped the file of a descriptor, writable and shared: what it stores there goes to the file.
    Mapped {
        /// The descriptor.
        fd: u32,
        /// `None` if that cannot be told.
        mapped: Option<bool>,
    },
}

/// A thread that lives, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// It sleeps in io_getevents or io_pgetevents and waits there for completions; `None`: it does something else.
    pub waits: Option<Waits>,
    /// Signals that would interrupt that: it handles them, and does not block them. Bit n-1 is signal n.
    pub signals: u64,
}

/// For what a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// The context.
    pub ctx: Handle,
    /// For at least so many completions.
    pub min_nr: i64,
    /// The timeout argument.
    pub timeout: Address,
    /// What is there now, if it could be read. The kernel has read it when the call began.
    pub timeout_value: Option<Timespec>,
}

/// What is where a context's ring should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingFound {
    /// The ring.
    There(Ring),
    /// Nothing, or something else; and the ring is nowhere else in the process.
    Unmapped,
    /// That cannot be told: the process is gone, or may not be looked at, or the ring was moved.
    Unknown,
}

/// The limit on requests, and who uses it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// fs.aio-nr
    pub used: u64,
    /// fs.aio-max-nr
    pub limit: u64,
    /// Whoever holds most, by charge.
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
    /// How many contexts.
    pub contexts: u64,
    /// What they take from fs.aio-nr.
    pub charge: u64,
}
