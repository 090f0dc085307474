//! What the probes (kernel side) and the program (user side) agree on: the records in the ring
//! buffer, the settings a probe reads, the names the loader looks up, and the fault rules. Nothing here allocates
//! or knows an operating system, so that both sides compile it.
#![no_std]

pub mod abi;
pub mod counts;
pub mod fault;
pub mod names;
pub mod record;
pub mod settings;
pub mod slots;
pub mod started;
pub mod synchronous;
