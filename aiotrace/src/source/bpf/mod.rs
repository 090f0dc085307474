//! Events from BPF probes in the kernel.
//!
//! ```text
//!  kernel: probes -> ring buffer
//!                        |  drain thread: never waits for the output
//!                        v
//!                   bounded queue of batches
//!                        |  the caller's thread: decode, show
//!                        v
//!                     events
//! ```

pub mod btf;
pub mod decode;
pub mod drain;
pub mod features;
pub mod load;

pub use decode::{Decoder, arguments};
pub use drain::{Collector, End, Message, Reason};
pub use load::{Error, Probes};
