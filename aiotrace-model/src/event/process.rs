//! Changes of processes.

use serde::{Deserialize, Serialize};

use crate::bounded;

/// The number of an address space: processes that share one have it in common. The kernel's address of it stays unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash, PartialOrd, Ord)]
#[serde(transparent)]
pub struct SpaceId(pub u64);

/// A process changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name of the process as it set it: any bytes.
    #[serde(deserialize_with = "bounded::name")]
    pub name: Vec<u8>,
    /// Name of the thread as it set it: any bytes.
    #[serde(deserialize_with = "bounded::name")]
    pub thread_name: Vec<u8>,
    /// When the process started, nanoseconds of CLOCK_BOOTTIME, if known.
    pub started: Option<u64>,
    /// The address space, if known; of a fork, that of the child. (One that is not traced, and that its parent waits for, as
    /// with vfork(2), has none.)
    pub space: Option<SpaceId>,
    /// What changed.
    pub change: Change,
}

/// How a process changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// We attached to it.
    Attached,
    /// The thread makes its first AIO call.
    Seen,
    /// It created a process.
    Fork {
        /// The child.
        child: u32,
        /// Whether the child is traced.
        followed: bool,
    },
    /// It runs a new program.
    Exec {
        /// The path as it was given to the kernel.
        #[serde(deserialize_with = "bounded::path")]
        path: Vec<u8>,
    },
    /// Its last thread is gone.
    Exit {
        /// How it ended.
        status: ExitStatus,
    },
    /// It is in exit and has not ended, because the thread waits there for AIO requests in flight.
    ExitWaits,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It called exit with this status.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// Converts the status that wait(2) gives.
    pub fn from_wait(status: u32) -> Self {
        match status & 0x7f {
            0 => Self::Code((status >> 8 & 0xff) as i32),
            signal => Self::Signal(signal as i32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(ExitStatus::from_wait(0x0300), ExitStatus::Code(3));
        assert_eq!(ExitStatus::from_wait(0x0089), ExitStatus::Signal(9));
    }
}
