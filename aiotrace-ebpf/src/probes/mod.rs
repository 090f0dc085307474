//! The work at each hook: [`calls`] for every AIO call, then one module per call; [`complete`] and
//! [`context`] for events inside of the kernel; [`lifetime`] for processes; [`fault`] for faults.

pub mod calls;
mod cancel;
pub mod complete;
pub mod context;
pub mod count;
mod destroy;
pub mod fault;
mod getevents;
pub mod lifetime;
mod setup;
mod submit;
pub mod synchronous;
mod vectors;
