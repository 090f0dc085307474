//! Completions of a context whose requests were not seen to be accepted: not yet, or submitted before the attach.

use std::collections::VecDeque;

use super::{Map, requests::Completed};

/// How many are kept. (A call has at most so many that we know of, and few threads submit to one context at a time;
/// but a program can write anything into its ring.)
const MOST: usize = 65_536;
/// The same for one iocb: more than a call can have of it in flight for any reason.
const MOST_OF_IOCB: usize = 1024;

/// Completions by iocb, those of the same iocb in the order of the ring.
#[derive(Debug, Default)]
pub struct Early {
    of_iocb: Map<u64, VecDeque<Entry>>,
    kept: usize,
    /// Not kept any more: there were too many.
    dropped: u64,
    /// The iocbs of those of which a look at the ring may still say that they completed before it.
    recent: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Its place in the order of completions.
    place: i64,
    /// When it was read. (A whole ring may be read at once, and told before the calls that were made meanwhile.)
    read: u64,
    completed: Completed,
}

impl Early {
    /// How many there were, but for those that were taken.
    pub fn len(&self) -> u64 {
        self.kept as u64 + self.dropped
    }

    /// A completion at this place in the order of completions.
    pub fn push(&mut self, place: i64, completed: Completed) {
        if self.kept >= MOST {
            self.dropped += self.kept as u64;
            self.kept = 0;
            self.of_iocb.clear();
            self.recent.clear();
        }
        let iocb = completed.event.obj;
        let queue = self.of_iocb.entry(iocb).or_default();
        if queue.len() >= MOST_OF_IOCB && queue.pop_front().is_some() {
            (self.kept, self.dropped) = (self.kept - 1, self.dropped + 1);
        }
        queue.push_back(Entry { place, read: completed.time, completed });
        self.recent.push(iocb);
        self.kept += 1;
    }

    /// Those before this place had completed by this time, though they may have been read later. (A request that
    /// began after that is another one of the same iocb.)
    pub fn completed_by(&mut self, place: i64, time: u64) {
        let of_iocb = &mut self.of_iocb;
        self.recent.retain(|iocb| {
            let mut is_open = false;
            for it in of_iocb.get_mut(iocb).into_iter().flatten() {
                let is_there = it.place < place;
                if is_there {
                    it.completed.time = it.completed.time.min(time);
                    it.completed.after = it.completed.after.min(time);
                }
                is_open |= !is_there || time < it.read;
            }
            is_open
        });
    }

    /// The completion of a request with this iocb whose io_submit was entered then.
    pub fn take(&mut self, iocb: u64, entered: u64) -> Option<Completed> {
        let queue = self.of_iocb.get_mut(&iocb)?;
        let place = queue.iter().position(|it| it.completed.time > entered)?;
        let found = queue.remove(place)?;
        if queue.is_empty() {
            self.of_iocb.remove(&iocb);
        }
        self.kept -= 1;
        Some(found.completed)
    }

    /// Takes up to so many, whatever their iocbs, that completed after this time: how many there were.
    pub fn take_any(&mut self, most: u64, after: u64) -> u64 {
        let mut left = most;
        self.of_iocb.retain(|_, queue| {
            queue.retain(|it| {
                let is_one = left > 0 && it.completed.time > after;
                left -= u64::from(is_one);
                !is_one
            });
            !queue.is_empty()
        });
        self.kept -= (most - left) as usize;
        most - left
    }
}
