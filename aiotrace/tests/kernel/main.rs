//! Tests on a real kernel with real programs. They need root and the programs that `cargo xtask
//! setup` installs; `cargo xtask test` runs them.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod attach;
mod calls;
mod counting;
mod faults;
mod findings;
mod full_speed;
mod lifecycle;
mod ls;
mod oracle;
mod ptrace;
mod readme;
mod real_programs;
mod recording;
mod run;
mod stacks;
mod strace;
mod support;
