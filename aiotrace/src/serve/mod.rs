//! `aiotrace serve`: metrics for Prometheus, all day, on every machine of a fleet.
//!
//! ```text
//!  a trace that counts ──> Feed ──> State (counts by label set, bounded) ──┐
//!                                                                          ├─> Samples ─> text ─> HTTP, textfile
//!  each scrape ──> Inventory (the list of contexts, at most each second) ──┘
//! ```
//! The *list* tier is the list alone: nothing is attached. The *count* tier adds what `-c --requests` counts. How a
//! process is labelled is decided in one place, [`label`].

mod count;
mod counters;
pub mod exposition;
mod http;
pub mod label;
mod look;
pub mod metrics;
mod run;
mod series;
mod state;
mod textfile;

pub use self::{
    label::Labels,
    look::Version,
    run::{Settings, Tier, once, serve},
    textfile::Textfile,
};
