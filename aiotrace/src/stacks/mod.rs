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
pub mod symbols;
mod unwind;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use aiotrace_common::record::{KnownStack, StackKey};
pub use confine::give_up_identity;
pub use maps::{Region, of as regions};
pub use modules::{Found, Layout, load};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use symbols::{Named, Symbolizer, culprit, hand_over};
pub use unwind::{Processes, fuzz as unwind_fuzz};

use crate::bounded::{FRAMES, List, PATH};

/// Where a call was made: the function with the system call, its caller, and so on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The innermost first. Stacks that are equal share them.
    pub frames: Arc<[Frame]>,
    /// The outer functions are not known: the stack is deeper than what is copied of it, the tables are
    /// wrong, or the process was gone.
    pub truncated: bool,
}

/// One function in progress. (Functions inlined into it are found with its name.)
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Where it goes on, as the process has it: after the system call, or after the call.
    pub address: u64,
    /// In which file that is; `None` if in none, or the process was gone.
    pub place: Option<Place>,
}

impl Frame {
    /// See [`Recorded`].
    fn recorded(&self) -> RecordedFrame<&[u8]> {
        let place = self.place.as_ref();
        (self.address, place.map(|it| (it.module.id, &it.module.path[..], it.offset)))
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file.
    pub module: Arc<Module>,
    /// The address there, as its symbols have it. Of a caller that of the last byte of the call, as
    /// another function may begin after it.
    pub offset: u64,
}

/// A file with code: a program or a library.
#[derive(Debug)]
pub struct Module {
    /// Unlike the path, never used again.
    id: u64,
    /// The path as the process had it: any bytes.
    pub path: Vec<u8>,
    /// The file itself, as long as it is kept.
    file: Weak<Found>,
}

impl Module {
    /// A file with this path, of which a recording can hold so much.
    pub fn new(path: &[u8], file: Weak<Found>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = path[..path.len().min(PATH)].to_vec();
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), path, file }
    }

    /// A number that no other file has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The path without its directories.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

impl PartialEq for Module {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Module {}

impl std::hash::Hash for Module {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// As it is written into a recording: address, and number, path and address of the file.
type Recorded = (List<RecordedFrame<List<u8, PATH>>, FRAMES>, bool);
type RecordedFrame<Path> = (u64, Option<(u64, Path, u64)>);

impl Serialize for Stack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let frames: Vec<_> = self.frames.iter().map(Frame::recorded).collect();
        (frames, self.truncated).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Stack {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (frames, truncated) = Recorded::deserialize(deserializer)?;
        let place = |(id, List(path), offset): (_, List<_, PATH>, _)| {
            let module = Arc::new(Module { id, path, file: Weak::new() });
            Place { module, offset }
        };
        let frame = |(address, it): (u64, Option<_>)| Frame { address, place: it.map(place) };
        Ok(Self { frames: frames.0.into_iter().map(frame).collect(), truncated })
    }
}

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
