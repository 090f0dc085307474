//! Contexts that existed before the trace.

use aiotrace_common::abi::RingHeader;

/// A context that existed before the trace.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its process.
    pub pid: u32,
    /// Its handle.
    pub handle: u64,
    /// Its address space; `None` without BPF.
    pub space: Option<u64>,
    /// What it takes from fs.aio-nr; `None` without BPF.
    pub charge: Option<u32>,
    /// Its requests in flight; `None` without BPF, or without what the kernel keeps of them.
    pub in_flight: Option<u32>,
    /// Its ring; `None` if it cannot be read: unmapped, for instance.
    pub ring: Option<RingHeader>,
}
