//! The path behind a file descriptor. It is looked up after the call and may be another file by then, so it is always
//! shown as `now`.

use std::collections::HashMap;

use crate::errand::{Errand as _, Path};

/// How long a path that was looked up is used again, in nanoseconds of event time.
const FRESH: u64 = 1_000_000_000;
/// Most paths remembered.
const MOST: usize = 4096;

type Lookup = Box<dyn FnMut(u32, u32) -> Option<Vec<u8>>>;

/// The time of the look, and the path if there was one.
type Found = (u64, Option<Vec<u8>>);

/// Looks paths up and remembers them for a moment.
pub struct Paths {
    lookup: Lookup,
    known: HashMap<(u32, u32), Found, foldhash::fast::RandomState>,
}

impl Paths {
    /// Looks paths up in `/proc/PID/fd`.
    pub fn of_proc() -> Self {
        Self::with(|pid, fd| Path { pid, fd }.ask().flatten())
    }

    /// Finds no path at all.
    pub fn none() -> Self {
        Self::with(|_, _| None)
    }

    /// Looks paths up by `lookup(pid, fd)`.
    pub fn with(lookup: impl FnMut(u32, u32) -> Option<Vec<u8>> + 'static) -> Self {
        Self { lookup: Box::new(lookup), known: HashMap::default() }
    }

    /// The path that `fd` of `pid` has now; `time` is the time of the event.
    pub fn now(&mut self, pid: u32, fd: u32, time: u64) -> Option<&[u8]> {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let entry = self.known.entry((pid, fd)).or_insert((0, None));
        if entry.0 == 0 || time.saturating_sub(entry.0) > FRESH {
            entry.1 = (self.lookup)(pid, fd);
            entry.0 = time.max(1);
        }
        entry.1.as_deref()
    }

    /// Forgets the paths of a process that is gone or runs another program: its descriptors mean nothing any more.
    pub fn forget(&mut self, pid: u32) {
        self.known.retain(|(of, _), _| *of != pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_looked_up_again_after_a_second() {
        let mut calls = 0;
        let mut paths = Paths::with(move |_, _| {
            calls += 1;
            Some(vec![b'0' + calls])
        });
        assert_eq!(paths.now(1, 3, 10), Some(&b"1"[..]));
        assert_eq!(paths.now(1, 3, FRESH), Some(&b"1"[..]));
        assert_eq!(paths.now(1, 3, FRESH + 11), Some(&b"2"[..]));
        paths.forget(1);
        assert_eq!(paths.now(1, 3, FRESH + 12), Some(&b"3"[..]));
    }
}
