//! What aiotrace knows of native AIO, and what it concludes from that. The crate is pure: nothing in it has a clock,
//! reads a file or asks an operating system. Cargo.toml names no crate that could do so, and `clippy.toml` forbids
//! what the standard library offers for it.
//!
//! ```text
//!  records   what probes write -> events
//!  event     one fact                        counted   what was counted instead
//!  trace     how a trace begins and ends     fault     what a fault rule says
//!  model     events -> findings, verdicts, report
//!  words, errno, opcode                      durations, numbers, signals, names of errors, operations
//! ```
//! Each room uses only those below it; the order stands in tests/pure.rs.

#![warn(clippy::iter_over_hash_type)]

mod any_order;
pub mod bounded;
pub mod counted;
pub mod errno;
pub mod event;
pub mod fault;
pub mod fnv;
pub mod model;
pub mod opcode;
pub mod records;
pub mod trace;
pub mod words;
