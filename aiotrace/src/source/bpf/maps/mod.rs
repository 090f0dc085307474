//! The maps that the probes share with aiotrace, one in each file, as in aiotrace-ebpf.

mod records;
pub mod stacks;
mod switches;
mod targets;
mod threads;
