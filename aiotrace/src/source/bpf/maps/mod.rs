//! The maps that the probes share with us, one a file, as on their side.

mod records;
pub mod stacks;
mod switches;
mod targets;
mod threads;
