//! Where in the program a call was made, as plain data. The unwinder, which has the files open, numbers them.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded::{FRAMES, List, PATH};

/// Where a call was made: the function with the system call, its caller, and so on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The frames, the innermost first. Equal stacks share them.
    pub frames: Arc<[Frame]>,
    /// The outer functions are unknown: the stack is deeper than what is copied of it, the unwind tables are wrong,
    /// or the process was gone.
    pub truncated: bool,
}

/// A function that is in progress. (Functions that are inlined into it are found together with its name.)
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The address at which the function goes on in the process: after the system call, or after the call of the
    /// function inside.
    pub address: u64,
    /// Where this is in a file; `None` if it is in none, or the process was gone.
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
    /// The address in the file, as its symbols have it. For a caller, that of the last byte of the call, because
    /// another function may begin after it.
    pub offset: u64,
}

/// The number of a file with code. Unlike the path, it is never used again in a trace: another file with the same
/// path has another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModuleId(pub u64);

/// A file with code: a program or a library.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// Its number.
    pub id: ModuleId,
    /// The path as the process has it: any bytes.
    pub path: Vec<u8>,
}

impl Module {
    /// A file with this path, which is cut to the length that a recording can hold.
    pub fn new(id: ModuleId, path: &[u8]) -> Self {
        Self { id, path: path[..path.len().min(PATH)].to_vec() }
    }

    /// The path without its directories.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// The form in a recording: for each frame the address, and the file's number, path and address; and whether it is
/// truncated.
type Recorded = (List<RecordedFrame<List<u8, PATH>>, FRAMES>, bool);
type RecordedFrame<Path> = (u64, Option<(ModuleId, Path, u64)>);

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
            let module = Arc::new(Module { id, path });
            Place { module, offset }
        };
        let frame = |(address, it): (u64, Option<_>)| Frame { address, place: it.map(place) };
        Ok(Self { frames: frames.0.into_iter().map(frame).collect(), truncated })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(id: u64) -> Stack {
        let module = Arc::new(Module::new(ModuleId(id), b"/lib/libc.so.6"));
        let place = Some(Place { module, offset: 7 });
        Stack { frames: [Frame { address: 0x1007, place }].into(), truncated: false }
    }

    #[test]
    fn stacks_are_equal_if_all_that_they_say_is() {
        assert_eq!(stack(1), stack(1));
        assert_ne!(stack(1), stack(2), "another file with this path");
    }

    #[test]
    fn a_stack_is_read_as_it_was_written() {
        let bytes = postcard::to_stdvec(&stack(3)).unwrap();
        // One frame: its address; that it has a place; the number of the file, its path, and the address in it.
        let parts: [&[u8]; 4] = [&[1, 0x87, 0x20, 1, 3, 14], b"/lib/libc.so.6", &[7], &[0]];
        assert_eq!(bytes, parts.concat());
        assert_eq!(postcard::from_bytes::<Stack>(&bytes), Ok(stack(3)));
    }
}
