//! `aiotrace top`: who does how much, how fast, and what is wrong, again and again.
//!
//! ```text
//!  kernel's counters ─┐   once an interval
//!                     ├──> gather ──> Snapshot ──> screen: app (state) ──> draw (frame)
//!  list of contexts ──┘      ^                └──> batch (a table each)
//!  recording ─────────> play ┘
//! ```
//! No call is told one by one. The screen is a pure function of snapshots and keys: [`app`] knows no
//! terminal, no clock and no trace.

pub mod app;
pub mod batch;
pub mod choice;
pub mod column;
pub mod draw;
pub mod gather;
pub mod history;
pub mod keys;
pub mod play;
pub mod popup;
pub mod screen;
pub mod snapshot;
pub mod status;
pub mod terminal;
