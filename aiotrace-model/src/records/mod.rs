//! What the probes write, and what becomes of it: records are decoded here, whoever made them. The ptrace loop writes the
//! same records as the probes do.
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
