//! `aiotrace top` without a kernel: what keys do, what frames look like, and what becomes of the
//! terminal.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod any_keys;
mod fixture;
mod frames;
mod keys;
#[path = "../shared/pty.rs"]
mod pty;
mod tables;
mod terminal;
