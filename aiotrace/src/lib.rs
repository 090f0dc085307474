//! aiotrace: see, account for and break Linux native AIO in running programs.
//!
//! docs/architecture.md has the drawing. Events come from a [`source`], are decoded to
//! [`event::Event`]s, and shown by an [`output`].

pub mod bounded;
pub mod cli;
pub mod counted;
pub mod errno;
pub mod event;
pub mod explain;
pub mod fault;
pub mod fuzz;
pub mod look;
pub mod model;
pub mod output;
pub mod process;
pub mod ring;
pub mod scan;
mod seccomp;
pub mod source;
pub mod stacks;

pub use aiotrace_model::words;
