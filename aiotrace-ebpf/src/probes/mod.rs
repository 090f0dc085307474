//! What is done at each hook: [`calls`] for every AIO call, then one module per call, and
//! [`lifetime`] for processes.

pub mod calls;
mod cancel;
mod destroy;
mod getevents;
pub mod lifetime;
mod setup;
mod submit;
