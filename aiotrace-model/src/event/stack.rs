//! Where in the program a call was made: plain data. Whoever unwinds a stack numbers the files that it meets, and has
//! them open.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// The number of a file with code. Unlike the path, it is never used again in a trace: another file with the same path
/// has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModuleId(pub u64);

/// A file with code: a program or a library.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// Its number.
    pub id: ModuleId,
    /// The path as the process had it: any bytes.
    pub path: Vec<u8>,
}

impl Module {
    /// A file with this path, of which a recording can hold so much.
    pub fn new(id: ModuleId, path: &[u8]) -> Self {
        Self { id, path: path[..path.len().min(PATH)].to_vec() }
    }

    /// The path without its directories.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }
}

/// As it is written into a recording: address, and number, path and address of the file.
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
        // One frame: its address, that it has a place, the number of the file, its path, the address there.
        let parts: [&[u8]; 4] = [&[1, 0x87, 0x20, 1, 3, 14], b"/lib/libc.so.6", &[7], &[0]];
        assert_eq!(bytes, parts.concat());
        assert_eq!(postcard::from_bytes::<Stack>(&bytes), Ok(stack(3)));
    }
}
