//! How durations, numbers, signals and bytes of unknown origin are written for people.

pub mod duration;
pub mod escape;
pub mod number;
pub mod signal;

pub use duration::duration;
