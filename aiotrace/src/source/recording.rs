//! A recording: what a trace saw, so that it can be told again.
//!
//! ```text
//!  file  = "aiotrace" version:u32 chunk*
//!  chunk = packed:u32 raw:u32 crc32(packed bytes):u32 bytes       little-endian
//!  bytes = lz4 block of (length:varint item)*, each item in postcard's encoding
//! ```
//! Items of kinds that came later are skipped by what does not know them: so a kind can be added
//! without another version.
//!
//! A chunk is written when it has 256 KiB or when nothing happens, so that whatever ends us leaves all that
//! was written whole: a last chunk that is cut short or does not match its sum is the end of what is known.
//! Nothing in it is longer than [`bounded`] says: a small file cannot unpack to lists without end.

use std::{
    io::{self, Read, Write},
    ops::Range,
};

use aiotrace_model::trace::{Ended, Start, Who};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    bounded::{self, FUNCTION_NAMES, FUNCTIONS, List},
    event::Event,
    model::Settings,
    stacks::child::Function,
};

/// First in a recording.
const MAGIC: [u8; 8] = *b"aiotrace";
/// Of the format. Another one is refused.
pub const VERSION: u32 = 8;
/// Bytes of items in a chunk.
const CHUNK: usize = 256 << 10;
/// A chunk is never larger: one item more than that, and an item has some hundred KiB at most.
const LARGEST: u32 = 16 << 20;

/// What is in a recording, in order. `E` is an event, or a reference to one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Item<E> {
    /// First: how the trace began, and what the model was told.
    Start(Start, Settings),
    /// Something happened.
    Event(E),
    /// The model was told that it is this time.
    Time(u64),
    /// A descriptor of a process was looked up.
    Path {
        /// The process.
        pid: u32,
        /// The descriptor.
        fd: u32,
        /// What was found.
        #[serde(deserialize_with = "bounded::known_path")]
        path: Option<Vec<u8>>,
    },
    /// The functions at a place in a program were looked up. Stands before the first stack with it.
    Functions {
        /// The number of the file.
        module: u64,
        /// The address in it.
        offset: u64,
        /// What was found.
        #[serde(deserialize_with = "functions")]
        functions: Vec<Function>,
    },
    /// A report was asked for.
    Report(Ended),
    /// Last: how the trace ended.
    End(Ended),
    /// `--timeout`: the traced program was ended at this time.
    TimedOut(u64),
    /// A process was looked up. (Its name is in the events.)
    Process {
        /// The process.
        pid: u32,
        /// The file that it executes, if that is known.
        #[serde(deserialize_with = "bounded::known_path")]
        executable: Option<Vec<u8>>,
        /// Its cgroup (v2), if that is known.
        #[serde(deserialize_with = "bounded::known_path")]
        cgroup: Option<Vec<u8>>,
    },
    /// It was looked up who a process is.
    Who {
        /// The process.
        pid: u32,
        /// Its name.
        #[serde(deserialize_with = "bounded::name")]
        process: Vec<u8>,
        /// Who it is.
        who: Who,
    },
}

/// How many kinds of items there are.
const KINDS: u32 = 10;

fn functions<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Function>, D::Error> {
    let List(functions) = List::<Function, FUNCTIONS>::deserialize(from)?;
    let length: usize = functions.iter().map(Function::length).sum();
    match length > FUNCTION_NAMES {
        true => Err(D::Error::invalid_length(length, &"names of functions")),
        false => Ok(functions),
    }
}

/// Why a recording cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is something else.
    #[error("this is no recording of aiotrace")]
    Foreign,
    /// It was made by another version.
    #[error("the recording has version {0}, this aiotrace reads version {VERSION}")]
    Version(u32),
    /// It ends in the middle of something.
    #[error("the recording ends early: its trace was killed, or its disk was full")]
    Truncated,
    /// It was changed, or made by something else.
    #[error(
        "the recording is damaged: item {item} of the chunk at byte {chunk} is none that aiotrace wrote"
    )]
    Damaged {
        /// Where the chunk begins in the file.
        chunk: u64,
        /// Which of its items, from 1.
        item: u64,
    },
    /// The same, of a chunk.
    #[error("the recording is damaged: the chunk at byte {0} is none that aiotrace wrote")]
    Chunk(u64),
    /// It cannot be read.
    #[error("cannot read the recording")]
    Io(#[source] io::Error),
}

/// Writes a recording.
pub struct Writer<W: Write> {
    out: W,
    items: Vec<u8>,
    /// The item that is being added.
    item: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the beginning.
    ///
    /// # Errors
    /// Those of `out`; so for all methods.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        Ok(Self { out, items: Vec::with_capacity(CHUNK), item: Vec::new() })
    }

    /// Adds an item.
    ///
    /// # Errors
    /// Those of the file.
    pub fn item(&mut self, item: &Item<&Event>) -> io::Result<()> {
        self.item.clear();
        postcard::to_io(item, &mut self.item).map_err(io::Error::other)?;
        postcard::to_io(&self.item.len(), &mut self.items).map_err(io::Error::other)?;
        self.items.extend_from_slice(&self.item);
        if self.items.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Writes what was added.
    ///
    /// # Errors
    /// Those of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        let packed = lz4_flex::block::compress(&self.items);
        let numbers = [packed.len() as u32, self.items.len() as u32, crc32fast::hash(&packed)];
        let mut chunk = numbers.map(u32::to_le_bytes).concat();
        chunk.extend_from_slice(&packed);
        self.items.clear();
        self.out.write_all(&chunk)?;
        self.out.flush()
    }

    /// What it was written to. What was not flushed is not there.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Reads a recording.
pub struct Reader<R: Read> {
    input: R,
    items: Vec<u8>,
    at: usize,
    /// Where the chunk begins in the file, and where the next one does.
    chunk: u64,
    next: u64,
    /// Items of the chunk that were read.
    read: u64,
    /// Items of kinds that are not known.
    unknown: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`Error`]
    pub fn new(mut input: R) -> Result<Self, Error> {
        let mut head = [0; 12];
        match read_whole(&mut input, &mut head)? {
            Whole::Yes if head[..8] == MAGIC => (),
            _ => return Err(Error::Foreign),
        }
        let version = number(&head[8..]);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let next = head.len() as u64;
        Ok(Self { input, items: Vec::new(), at: 0, chunk: next, next, read: 0, unknown: 0 })
    }

    /// The next item of a kind that is known; `None` at the end of the file.
    ///
    /// # Errors
    /// [`Error`]: nothing can be read behind it.
    pub fn next_item(&mut self) -> Result<Option<Item<Event>>, Error> {
        loop {
            if self.at >= self.items.len() && !self.unpack()? {
                return Ok(None);
            }
            self.read += 1;
            let left = self.items.get(self.at..).unwrap_or_default();
            let item = split(left).ok_or_else(|| self.damaged())?;
            self.at += item.end;
            let item = &left[item];
            let (kind, _) = postcard::take_from_bytes::<u32>(item).map_err(|_| self.damaged())?;
            if kind >= KINDS {
                self.unknown += 1;
                continue;
            }
            return match postcard::take_from_bytes(item) {
                Ok((item, [])) => Ok(Some(item)),
                _ => Err(self.damaged()),
            };
        }
    }

    /// How many items were skipped, because a later aiotrace wrote them and this one does not know
    /// what they are.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// What is wrong if the item that was read last cannot be where it is.
    pub fn damaged(&self) -> Error {
        Error::Damaged { chunk: self.chunk, item: self.read }
    }

    /// Reads a chunk; `false` if there is none.
    fn unpack(&mut self) -> Result<bool, Error> {
        (self.chunk, self.read) = (self.next, 0);
        let chunk = self.chunk;
        let damaged = || Error::Chunk(chunk);
        let mut head = [0; 12];
        match read_whole(&mut self.input, &mut head)? {
            Whole::Nothing => return Ok(false),
            Whole::Part => return Err(Error::Truncated),
            Whole::Yes => (),
        }
        let (packed, raw, sum) = (number(&head[..4]), number(&head[4..8]), number(&head[8..]));
        if packed > LARGEST || raw > LARGEST {
            return Err(damaged());
        }
        let mut bytes = Vec::new();
        let wanted = u64::from(packed);
        self.input.by_ref().take(wanted).read_to_end(&mut bytes).map_err(Error::Io)?;
        if (bytes.len() as u64) < wanted {
            return Err(Error::Truncated);
        }
        if crc32fast::hash(&bytes) != sum {
            return Err(damaged());
        }
        self.items = lz4_flex::block::decompress(&bytes, raw as usize).map_err(|_| damaged())?;
        self.at = 0;
        self.next += head.len() as u64 + wanted;
        // It gives what there is, also if more was announced.
        let is_whole = !self.items.is_empty() && self.items.len() == raw as usize;
        if is_whole { Ok(true) } else { Err(damaged()) }
    }
}

enum Whole {
    Yes,
    Part,
    Nothing,
}

fn read_whole(input: &mut impl Read, to: &mut [u8]) -> Result<Whole, Error> {
    let mut bytes = Vec::with_capacity(to.len());
    input.by_ref().take(to.len() as u64).read_to_end(&mut bytes).map_err(Error::Io)?;
    to[..bytes.len()].copy_from_slice(&bytes);
    Ok(match bytes.len() {
        0 => Whole::Nothing,
        length if length < to.len() => Whole::Part,
        _ => Whole::Yes,
    })
}

/// Where the first item is, behind its length.
fn split(items: &[u8]) -> Option<Range<usize>> {
    let (length, rest) = postcard::take_from_bytes::<usize>(items).ok()?;
    let begin = items.len() - rest.len();
    (length <= rest.len()).then_some(begin..begin + length)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Body;

    fn lost(records: u64) -> Event {
        Event { time: records, pid: 1, tid: 1, body: Body::Lost { records } }
    }

    /// Three chunks of two events.
    fn recording() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        for records in 1..=6 {
            writer.item(&Item::Event(&lost(records))).unwrap();
            if records % 2 == 0 {
                writer.flush().unwrap();
            }
        }
        bytes
    }

    /// How many events could be read, and what ended it.
    fn read(bytes: &[u8]) -> (u64, Option<Error>) {
        let mut reader = match Reader::new(bytes) {
            Ok(reader) => reader,
            Err(error) => return (0, Some(error)),
        };
        let mut count = 0;
        loop {
            match reader.next_item() {
                Ok(Some(Item::Event(event))) => {
                    count += 1;
                    assert_eq!(event, lost(count));
                }
                Ok(Some(other)) => panic!("{other:?}"),
                Ok(None) => return (count, None),
                Err(error) => return (count, Some(error)),
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (count, error) = read(&recording());
        assert_eq!(count, 6);
        assert!(error.is_none(), "{error:?}");
    }

    #[test]
    fn what_a_later_aiotrace_adds_is_skipped_and_counted() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        writer.item(&Item::Event(&lost(1))).unwrap();
        writer.items.extend_from_slice(&[3, KINDS as u8, 200, 201]);
        writer.item(&Item::Event(&lost(2))).unwrap();
        writer.flush().unwrap();
        assert!(matches!(read(&bytes), (2, None)));
        let mut reader = Reader::new(&bytes[..]).unwrap();
        while reader.next_item().unwrap().is_some() {}
        assert_eq!(reader.unknown(), 1);
        // The last kind that is known is this one.
        let (process, who) = (Vec::new(), Who::default());
        let last: Item<&Event> = Item::Who { pid: 1, process, who };
        assert_eq!(postcard::to_stdvec(&last).unwrap()[0], KINDS as u8 - 1);
    }

    #[test]
    fn an_item_has_the_length_that_is_said() {
        for wrong in [&[5, 8, 1, 0, 0][..], &[5, 8, 1, 0, 0, 0], &[0x80], &[0]] {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes).unwrap();
            writer.items.extend_from_slice(wrong);
            writer.flush().unwrap();
            let read = Reader::new(&bytes[..]).unwrap().next_item();
            assert!(matches!(read, Err(Error::Damaged { .. })), "{wrong:?}: {read:?}");
        }
    }

    #[test]
    fn a_recording_may_end_anywhere() {
        let whole = recording();
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..whole.len() {
            let (count, error) = read(&whole[..length]);
            assert!(count.is_multiple_of(2) && count < 6, "whole chunks: {count} of {length}");
            seen.insert(count);
            // The end of a chunk may be the end of the file.
            let is_told =
                matches!(error, Some(Error::Truncated | Error::Foreign)) || error.is_none();
            assert!(is_told, "{error:?} at {length}");
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 2, 4]);
    }

    #[test]
    fn what_was_changed_is_refused() {
        let whole = recording();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 0x10;
            let (count, error) = read(&changed);
            assert!(error.is_some() && count < 6, "byte {place}: {count} {error:?}");
        }
        assert!(matches!(read(b"").1, Some(Error::Foreign)));
        assert!(matches!(read(b"{\"v\":1}\n{\"v\":1}").1, Some(Error::Foreign)));
    }
}
