//! What the probes (kernel side) and aiotrace (user side) agree on: the records in the ring buffer,
//! the settings that a probe reads, the names that the loader looks up, and the fault rules.
//! Nothing here allocates or uses an operating system, so both sides can compile it.
#![no_std]

pub mod abi;
pub mod arch;
pub mod counts;
pub mod fault;
pub mod names;
pub mod record;
pub mod settings;
pub mod slots;
pub mod started;
pub mod synchronous;
