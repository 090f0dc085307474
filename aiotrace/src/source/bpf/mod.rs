//! Events from BPF probes in the kernel.
//!
//! ```text
//!  kernel: probes -> ring buffer
//!                        |  drain thread: never waits for the output
//!                        v
//!                   bounded backlog: a queue, then a file
//!                        |  the caller's thread: decode, show
//!                        v
//!                     events
//! ```

pub mod adopt;
pub mod btf;
pub mod choice;
mod contexts;
pub mod counts;
pub mod decode;
pub mod drain;
pub mod faults;
pub mod features;
pub mod list;
pub mod load;
pub mod machine;
mod modify_return;
mod touch;

pub use choice::{ProbeSet, Wanted};
pub use decode::{Decoder, arguments};
pub use load::{Error, Probes};
