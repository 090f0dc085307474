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
mod attach;
pub mod btf;
pub mod choice;
pub mod counts;
pub mod drain;
pub mod error;
pub mod faults;
pub mod features;
pub mod list;
pub mod load;
pub mod machine;
mod maps;
mod modify_return;
mod objects;
mod runs;
mod touch;

pub use aiotrace_model::records::{Decoder, arguments};
pub use choice::{ProbeSet, Wanted};
pub use error::{Error, reason};
pub use load::Probes;
