//! The arguments of calls, and what they point to.

use aiotrace_common::abi;
use serde::{Deserialize, Serialize};

use super::{Address, Handle, IoEvent, Syscall, Timespec, Vectors};
use crate::bounded;

/// A call's arguments and what they point to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Args {
    /// io_setup
    Setup {
        /// Requests asked for.
        nr_events: u32,
        /// Where the handle is stored.
        ctxp: Address,
        /// What is stored there when the call returns, if it could be read.
        stored: Option<Handle>,
    },
    /// io_destroy
    Destroy {
        /// The context.
        ctx: Handle,
    },
    /// io_submit
    Submit {
        /// The context.
        ctx: Handle,
        /// Number of pointers, as the program gave it.
        nr: i64,
        /// The array of pointers.
        iocbpp: Address,
        /// The iocbs, in order; `None` where the record of them was lost or not yet made.
        #[serde(deserialize_with = "bounded::items")]
        iocbs: Vec<Option<Iocb>>,
        /// How many more iocbs there were.
        truncated: u64,
    },
    /// io_getevents and io_pgetevents
    Getevents {
        /// [`Syscall::Getevents`] or [`Syscall::Pgetevents`]
        syscall: Syscall,
        /// The context.
        ctx: Handle,
        /// How many events the program wants at least.
        min_nr: i64,
        /// For how many events there is room.
        nr: i64,
        /// Where the events are stored.
        events: Address,
        /// The timeout argument.
        timeout: Address,
        /// What it holds, if it could be read.
        timeout_value: Option<Timespec>,
        /// io_pgetevents: the last argument.
        sigset: Address,
        /// What it holds, if it could be read.
        sigset_value: Option<Sigset>,
        /// The events returned; `None` where they could not be read.
        #[serde(deserialize_with = "bounded::items")]
        list: Vec<Option<IoEvent>>,
        /// How many more events there were.
        truncated: u64,
        /// The indices of events that a fault rule changed, from 0.
        #[serde(deserialize_with = "bounded::items")]
        changed: Vec<u32>,
    },
    /// io_cancel
    Cancel {
        /// The context.
        ctx: Handle,
        /// The iocb's address.
        iocb: Address,
        /// Unused by the kernel.
        result: Address,
        /// The iocb, if it could be read.
        value: Option<abi::Iocb>,
    },
}

impl Args {
    /// The system call that these arguments belong to.
    pub fn syscall(&self) -> Syscall {
        match self {
            Self::Setup { .. } => Syscall::Setup,
            Self::Destroy { .. } => Syscall::Destroy,
            Self::Submit { .. } => Syscall::Submit,
            Self::Getevents { syscall, .. } => *syscall,
            Self::Cancel { .. } => Syscall::Cancel,
        }
    }

    /// On which context; 0 of io_setup, which needs none.
    pub fn handle(&self) -> Handle {
        match self {
            Self::Setup { .. } => Handle(0),
            Self::Destroy { ctx }
            | Self::Submit { ctx, .. }
            | Self::Getevents { ctx, .. }
            | Self::Cancel { ctx, .. } => *ctx,
        }
    }
}

/// One iocb of an io_submit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iocb {
    /// Its address, if the pointer could be read.
    pub address: Option<Address>,
    /// Its content, if it could be read.
    pub value: Option<abi::Iocb>,
    /// It could be read only when the call returned.
    pub read_late: bool,
    /// The iovecs of a vectored request. Read only while fault rules are armed, and if there are not too many.
    #[serde(default)]
    pub vectors: Option<Vectors>,
}

/// `struct __aio_sigset` of io_pgetevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sigset {
    /// Where the mask is; 0 for none.
    pub address: Address,
    /// Its size in bytes.
    pub size: u64,
    /// The mask, if it could be read: bit n-1 is signal n.
    pub mask: Option<u64>,
}
