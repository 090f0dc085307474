//! The memory of a tracee. A read that fails is no error: it gives zeros, and says that they are unread.
//!
//! A helper reads the memory ([`crate::errand`]), because a page may have to wait for a thread that we hold in a
//! stop. Each errand costs two context switches, so all that a stop needs is fetched at once, and kept until the stop
//! is over.

use std::{cell::RefCell, collections::HashMap};

use aiotrace_common::{
    abi::{Abi, IoEvent, RingHeader, Timespec},
    record::{MOST_VECTORS, Memory as Mark},
};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, IntoBytes};

use super::errands::{Fetch, Restore, Write};
use crate::{
    errand::Errand as _,
    proc::{try_read_memory, write_memory},
};

/// The memory of a thread.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The process.
    pub pid: u32,
    /// The thread, which is read rather than the process: the first thread of a process may have ended.
    pub tid: u32,
}

/// A piece of memory to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// This many bytes at this address.
    Bytes(u64, usize),
    /// What an array of pointers points to.
    Pointed {
        /// The address of the array.
        at: u64,
        /// The number of pointers.
        count: u32,
        /// The size of a pointer, in bytes.
        width: u8,
        /// The number of bytes to read where each pointer points.
        each: usize,
    },
    /// The header of a ring, and the entries that are new in it, as far as they follow one another.
    Ring {
        /// Its address.
        at: u64,
        /// The number of its entries, and the position of the first that may be new, if these are known.
        known: Option<(u32, u32)>,
    },
}

/// What was read, by address; `None`: it could not be read.
pub type Fetched = Vec<(u64, Option<Vec<u8>>)>;

/// Most entries of a ring fetched at once.
const MOST_ENTRIES: u32 = 1024;

/// Fetches memory. Runs in a helper.
///
/// # Errors
/// The errno, if we may not look into this process.
pub fn fetch(_: u32, tid: u32, wanted: Vec<Wanted>) -> Result<Fetched, i32> {
    let mut fetched = Vec::with_capacity(wanted.len() + 1);
    let mut read = |at: u64, length: usize, is_whole: bool| {
        let mut bytes = vec![0; length];
        let is_read = match try_read_memory(tid, at, &mut bytes) {
            Err(Errno::EPERM) => return Err(Errno::EPERM as i32),
            other => other.is_ok(),
        };
        let bytes = is_read.then_some(bytes);
        // A piece that cannot be read whole is left out, so that parts of it can be asked for later.
        if is_read || is_whole {
            fetched.push((at, bytes.clone()));
        }
        Ok(bytes)
    };
    for it in wanted {
        match it {
            Wanted::Bytes(at, length) => {
                read(at, length, false)?;
            }
            Wanted::Pointed { at, count, width, each } => {
                let Some(pointers) = read(at, count as usize * usize::from(width), false)? else {
                    continue;
                };
                for pointer in pointers.chunks_exact(usize::from(width)) {
                    let pointer = pointer.iter().rev().fold(0, |all, it| all << 8 | u64::from(*it));
                    read(pointer, each, true)?;
                }
            }
            Wanted::Ring { at, known } => {
                let header = read(at, size_of::<RingHeader>(), false)?;
                let header = header.and_then(|it| RingHeader::read_from_bytes(&it).ok());
                if let (Some(header), Some((nr, first))) = (header, known)
                    && header.tail < nr
                    && first < nr
                    && first != header.tail
                {
                    let end = if first > header.tail { nr } else { header.tail };
                    let entry = |it: u32| u64::from(it) * size_of::<IoEvent>() as u64;
                    let from = at.wrapping_add(size_of::<RingHeader>() as u64 + entry(first));
                    read(from, entry((end - first).min(MOST_ENTRIES)) as usize, false)?;
                }
            }
        }
    }
    Ok(fetched)
}

/// Writes memory, also where the program itself may not write. Runs in a helper.
///
/// # Errors
/// The errno of the write.
pub fn write(_: u32, tid: u32, address: u64, bytes: Vec<u8>) -> Result<(), i32> {
    write_memory(tid, address, &bytes).map_err(|it| it as i32)
}

/// The memory that was fetched for the stop of one thread.
#[derive(Default)]
struct Kept {
    tid: u32,
    /// The pieces, by address.
    pieces: HashMap<u64, Option<Vec<u8>>, foldhash::fast::RandomState>,
    /// The addresses of the longer pieces, of which a part may be wanted.
    long: Vec<u64>,
    /// The helper did not answer, so nothing can be read until the stop is over.
    is_unread: bool,
    /// Errands so far for what had not been fetched.
    asks: u64,
}

/// A piece that is longer than an iocb is read in parts.
const LONG: usize = 64;

impl Kept {
    fn keep(&mut self, tid: u32, fetched: Fetched) {
        self.forget();
        self.tid = tid;
        for (at, bytes) in fetched {
            if bytes.as_ref().is_some_and(|it| it.len() > LONG) {
                self.long.push(at);
            }
            self.pieces.insert(at, bytes);
        }
    }

    fn keep_nothing_of(&mut self, tid: u32) {
        self.forget();
        (self.tid, self.is_unread) = (tid, true);
    }

    fn forget(&mut self) {
        self.pieces.clear();
        self.long.clear();
        self.is_unread = false;
    }

    /// Reads from the fetched pieces: `None` if the address was not fetched, otherwise whether it could be read.
    fn read(&self, tid: u32, address: u64, to: &mut [u8]) -> Option<bool> {
        if self.tid != tid || (self.pieces.is_empty() && !self.is_unread) {
            return None;
        }
        if self.is_unread {
            return Some(false);
        }
        let mut copied = |from: u64| {
            let bytes = self.pieces.get(&from)?.as_ref()?;
            let begin = usize::try_from(address.checked_sub(from)?).ok()?;
            to.copy_from_slice(bytes.get(begin..begin.checked_add(to.len())?)?);
            Some(true)
        };
        if let Some(None) = self.pieces.get(&address) {
            return Some(false);
        }
        copied(address).or_else(|| self.long.iter().find_map(|from| copied(*from)))
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Forgets what was fetched: the stop is over, or something was written.
pub fn forget() {
    KEPT.with_borrow_mut(Kept::forget);
}

/// How many errands there were so far for what had not been fetched.
pub fn asks() -> u64 {
    KEPT.with_borrow(|it| it.asks)
}

impl Memory {
    /// Fetches what a stop needs.
    pub fn fetch(self, wanted: Vec<Wanted>) {
        let Self { pid, tid } = self;
        match (Fetch { pid, tid, wanted }).ask() {
            Some(Ok(fetched)) => KEPT.with_borrow_mut(|it| it.keep(tid, fetched)),
            // Each read asks again, and tries without a helper: see `ask`.
            Some(Err(_)) => forget(),
            None => KEPT.with_borrow_mut(|it| it.keep_nothing_of(tid)),
        }
    }

    /// Reads all of it, or nothing.
    pub fn read(self, address: u64, to: &mut [u8]) -> bool {
        if to.is_empty() {
            return true;
        }
        let kept = KEPT.with_borrow(|it| it.read(self.tid, address, to));
        let is_read = kept.unwrap_or_else(|| self.ask(address, to));
        if !is_read {
            to.fill(0);
        }
        is_read
    }

    fn ask(self, address: u64, to: &mut [u8]) -> bool {
        let wanted = vec![Wanted::Bytes(address, to.len())];
        let answer = Fetch { pid: self.pid, tid: self.tid, wanted }.ask();
        // (Where a helper may not look, each read is one of our own, and nothing is fetched together.)
        if !matches!(answer, Some(Err(_))) {
            KEPT.with_borrow_mut(|it| it.asks += 1);
        }
        match answer {
            Some(Ok(fetched)) => match &fetched[..] {
                [(_, Some(bytes))] if bytes.len() == to.len() => {
                    to.copy_from_slice(bytes);
                    true
                }
                _ => false,
            },
            // With kernel.yama.ptrace_scope=1 a plain user may look only into its descendants, its tracees, and
            // processes that name it as their tracer, as the launched program does with our helpers. Into the
            // children of that program only this process may look.
            Some(Err(_)) => try_read_memory(self.tid, address, to).is_ok(),
            None => false,
        }
    }

    /// Reads a value.
    pub fn value<T: FromBytes + IntoBytes + Default>(self, address: u64) -> Option<T> {
        let mut value = T::default();
        self.read(address, value.as_mut_bytes()).then_some(value)
    }

    /// Reads a value, and says whether it could be read: then `how`.
    pub fn marked<T: FromBytes + IntoBytes + Default>(self, address: u64, how: Mark) -> (T, Mark) {
        let value = self.value(address);
        let mark = if value.is_some() { how } else { Mark::Unread };
        (value.unwrap_or_default(), mark)
    }

    /// Reads a pointer of the program, which has four bytes or eight.
    pub fn pointer(self, address: u64, abi: Abi) -> Option<u64> {
        match abi.is_32_bit() {
            true => self.value::<u32>(address).map(u64::from),
            false => self.value(address),
        }
    }

    /// How many bytes so many iovecs have, if they are to be read.
    pub fn iovec_bytes(count: u64, abi: Abi) -> Option<usize> {
        let size = if abi.is_32_bit() { 8 } else { 16 };
        let count = usize::try_from(count).ok()?;
        (1..=MOST_VECTORS).contains(&count).then_some(count * size)
    }

    /// Reads iovecs, as the program has them: all of them, or nothing.
    pub fn iovecs(self, address: u64, count: u64, abi: Abi) -> Option<Vec<u8>> {
        let mut bytes = vec![0; Self::iovec_bytes(count, abi)?];
        self.read(address, &mut bytes).then_some(bytes)
    }

    /// Reads a timeout.
    pub fn timespec(self, address: u64, abi: Abi) -> Option<Timespec> {
        if !matches!(abi, Abi::Compat) {
            return self.value(address);
        }
        let [sec, nsec] = self.value::<[i32; 2]>(address)?.map(i64::from);
        Some(Timespec { sec, nsec })
    }

    /// Writes memory, also where the program itself may not write; `false` if that failed.
    pub fn write(self, address: u64, bytes: &[u8]) -> bool {
        let Self { pid, tid } = self;
        let errand = Write { pid, tid, at: address, bytes: bytes.to_vec() };
        self.written(address, bytes, errand.ask())
    }

    /// As [`Self::write`], for what was there before we changed it.
    pub fn restore(self, address: u64, bytes: &[u8]) -> bool {
        let Self { pid, tid } = self;
        let errand = Restore { pid, tid, at: address, bytes: bytes.to_vec() };
        self.written(address, bytes, errand.ask())
    }

    fn written(self, address: u64, bytes: &[u8], answer: Option<Result<(), i32>>) -> bool {
        forget();
        match answer {
            Some(Ok(())) => true,
            // As in `ask`, this process may write where a helper may not.
            Some(Err(libc::EPERM | libc::EACCES)) => write_memory(self.tid, address, bytes).is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_whole_or_not_at_all() {
        let ours = Memory { pid: std::process::id(), tid: std::process::id() };
        let words = [7u32, 8];
        let at = words.as_ptr() as u64;
        assert_eq!(ours.value::<[u32; 2]>(at), Some([7, 8]));
        assert_eq!(ours.pointer(at, Abi::Compat), Some(7));
        assert_eq!(ours.pointer(at, Abi::Native), Some(7 | 8 << 32));
        assert_eq!(ours.timespec(at, Abi::Compat), Some(Timespec { sec: 7, nsec: 8 }));
        assert_eq!(ours.value::<u64>(0), None);
        let mut bytes = [1; 8];
        assert!(!ours.read(8, &mut bytes));
        assert_eq!(bytes, [0; 8]);
    }

    #[test]
    fn what_was_fetched_is_kept_until_the_stop_is_over() {
        let ours = Memory { pid: std::process::id(), tid: std::process::id() };
        let mut values = [[1u64; 8], [2; 8]];
        let pointers = [values[0].as_ptr() as u64, 8, values[1].as_ptr() as u64];
        let at = pointers.as_ptr() as u64;
        ours.fetch(vec![Wanted::Pointed { at, count: 3, width: 8, each: 64 }]);
        assert_eq!(KEPT.with_borrow(|it| it.pieces.len()), 4);
        std::hint::black_box(&mut values)[1] = [3; 8];
        assert_eq!(ours.value::<[u64; 3]>(at), Some(pointers));
        assert_eq!(ours.value::<[u64; 8]>(pointers[2]), Some([2; 8]), "as it was");
        assert_eq!(ours.value::<[u64; 8]>(8), None);
        forget();
        assert_eq!(ours.value::<[u64; 8]>(pointers[2]), Some([3; 8]));
        let word = std::hint::black_box(&mut values)[1].as_ptr() as u64;
        assert!(
            ours.write(word + 8, &9u64.to_ne_bytes()) && ours.restore(word, &9u64.to_ne_bytes())
        );
        assert_eq!(std::hint::black_box(values)[1][..3], [9, 9, 3]);
        assert!(!ours.write(8, &[1]));
    }

    #[test]
    fn of_a_ring_what_is_new_is_fetched_with_it() {
        let header = RingHeader { nr: 4, head: 1, tail: 3, ..RingHeader::default() };
        let mut ring = header.as_bytes().to_vec();
        (0..4u8).for_each(|it| ring.extend([it; size_of::<IoEvent>()]));
        let at = ring.as_ptr() as u64;
        let entries = |known| {
            let fetched = fetch(0, std::process::id(), vec![Wanted::Ring { at, known }]).unwrap();
            assert_eq!(fetched[0], (at, Some(header.as_bytes().to_vec())));
            fetched.get(1).map(|it| it.1.clone().unwrap())
        };
        assert_eq!(entries(None), None);
        assert_eq!(entries(Some((4, 3))), None);
        assert_eq!(entries(Some((4, 1))).unwrap(), [[1; 32], [2; 32]].concat());
        assert_eq!(entries(Some((4, 3))), None);
        assert_eq!(entries(Some((9, 7))).unwrap().len(), 64, "up to where it begins anew");
        assert_eq!(entries(Some((2, 1))), None, "a lie");
    }
}
