//! User stacks: the places in the program from which a call was made.
//!
//! ```text
//!  kernel:  registers, and some pages of the stack
//!     |
//!  unwind   at once, while the process lives: which functions called which, by the tables in its
//!     |     files (.eh_frame)                                                       ->  Stack
//!  symbols  when it is shown: names, files and lines, read by a child process       ->  Named
//! ```
//! A child process reads the names, because the debug information of one program can take hundreds
//! of MiB, and because the files are the target's and may hold anything. The child has no
//! privileges and can open nothing.

pub mod child;
mod children;
mod confine;
mod debug;
mod debuginfod;
mod elf;
mod errands;
mod files;
pub mod fuzz;
mod index;
mod maps;
mod modules;
mod names;
mod open;
pub mod site;
pub mod symbols;
mod unwind;

use aiotrace_common::record::{KnownStack, StackKey};
pub use aiotrace_model::{
    event::{Frame, Module, ModuleId, Place, Stack},
    records::{Copied, Unwind},
};
pub use children::{Children, Waits};
pub use confine::give_up_identity;
pub use debuginfod::Debuginfod;
pub use errands::ERRANDS;
pub use files::read_through;
pub use modules::{Layout, load};
pub use open::OpenFiles;
pub use site::Site;
pub use symbols::{Named, Symbolizer, culprit};
pub use unwind::{Processes, fuzz as unwind_fuzz};

/// Tells the probes which stacks they need not copy again.
pub trait Known {
    /// The probes need not copy this stack any more.
    fn tell(&mut self, key: &StackKey, stack: &KnownStack);
    /// The probes must copy this stack again.
    fn withdraw(&mut self, key: &StackKey);
}
