//! Decodes the records that the probes write into events. The ptrace loop writes the same records as the probes.
//!
//! ```text
//!  bytes -> parse -> decode -> Event
//!                     |  pending    the records of the call that each thread is in
//!                     |  contexts   which completions are new, and which contexts end, where no probe tells
//!                     |  unwind     copies of stacks, given to somebody who may look at processes
//! ```

mod contexts;
mod decode;
mod found;
mod parse;
mod pending;
mod positions;
mod unwind;

pub use self::{
    decode::{Decoder, Undecodable},
    found::Found,
    parse::arguments,
    unwind::{Copied, Unwind},
};
