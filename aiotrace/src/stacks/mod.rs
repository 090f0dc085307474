//! User stacks: where in the program a call was made.
//!
//! ```text
//!  kernel:  registers, and some pages of the stack
//!     |
//!  unwind   at once, while the process lives: which functions called which, by the tables in its
//!     |     files (.eh_frame)                                                       ->  Stack
//!  symbols  when it is shown: names, files and lines, read by a child process       ->  Named
//! ```
//! A child, because the debug information of one program can take hundreds of MiB, and because those
//! files are the target's and may hold anything: it has no privilege, and can open nothing.

pub mod child;
mod confine;
mod debug;
mod elf;
mod files;
pub mod fuzz;
mod maps;
mod modules;
mod names;
mod open;
pub mod symbols;
mod unwind;

use aiotrace_common::record::{KnownStack, StackKey};
pub use open::OpenFiles;
pub use symbols::{Named, Symbolizer, culprit};
pub use unwind::{Processes, fuzz as unwind_fuzz};

pub use crate::event::{Frame, Module, ModuleId, Place, Stack};

/// What was copied of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// The address space.
    pub space: u64,
    /// The instruction after the system call.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer, or whatever is in that register.
    pub bp: u64,
    /// Whole pages, from the one with `sp` on.
    pub pages: &'a [u8],
    /// Bit n: page n could be read.
    pub read: u32,
    /// Not 0: the number of a stack told to the probes; then there are no pages.
    pub known: u64,
}

/// Tells the probes what need not be copied again.
pub trait Known {
    /// A stack that was unwound.
    fn tell(&mut self, key: &StackKey, stack: &KnownStack);
    /// It means nothing any more.
    fn withdraw(&mut self, key: &StackKey);
}

/// Makes stacks of what was copied of them.
pub trait Unwind {
    /// The stack of a thread of this process.
    fn unwind(&mut self, pid: u32, copied: &Copied<'_>) -> Stack;
    /// The process ended, or runs another program.
    fn forget(&mut self, pid: u32);
}
