//! What aiotrace knows of native AIO, and what it concludes from it. Pure: nothing here has a clock, reads a file or
//! asks an operating system, and Cargo.toml names no crate that could. `clippy.toml` forbids what the standard library
//! has of that.

pub mod bounded;
pub mod counted;
pub mod errno;
pub mod event;
pub mod fault;
pub mod records;
pub mod trace;
pub mod words;
