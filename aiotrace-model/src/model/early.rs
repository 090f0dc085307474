//! Completions of a context whose requests were not seen to be accepted: their io_submit has not returned, or they
//! were submitted before the attach.

use std::collections::{BTreeSet, VecDeque};

use aiotrace_common::record::ITEMS_PER_CALL;

use super::{Map, requests::Completed};
use crate::any_order::AnyOrder as _;

/// Most completions kept. (aiotrace records at most so many requests of a call, and few threads submit to one context
/// at a time; but a program can write anything into its ring.)
const MOST: usize = 65_536;
/// Most completions kept for one iocb: a call may have it so many times.
const MOST_OF_IOCB: usize = ITEMS_PER_CALL;

/// Completions by iocb, those of the same iocb in the order of the ring.
#[derive(Debug, Default)]
pub struct Early {
    of_iocb: Map<u64, VecDeque<Entry>>,
    kept: usize,
    /// How many are not kept any more, because there were too many.
    dropped: u64,
    /// The iocbs of completions with no known earliest time: the first ones after an attach are read at once, and
    /// come before the events of calls that were made in the meantime. The looks at the ring in these calls show
    /// which had completed by then.
    undated: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Its position in the order of completions.
    place: i64,
    /// When it was read.
    read: u64,
    completed: Completed,
}

impl Early {
    /// How many there were, without those that were taken.
    pub fn len(&self) -> u64 {
        self.kept as u64 + self.dropped
    }

    /// Adds a completion at this position in the order of completions.
    pub fn push(&mut self, place: i64, completed: Completed) {
        if self.kept >= MOST {
            self.dropped += self.kept as u64;
            self.kept = 0;
            self.of_iocb.clear();
            self.undated.clear();
        }
        let iocb = completed.event.obj;
        let queue = self.of_iocb.entry(iocb).or_default();
        if queue.len() >= MOST_OF_IOCB && queue.pop_front().is_some() {
            (self.kept, self.dropped) = (self.kept - 1, self.dropped + 1);
        }
        queue.push_back(Entry { place, read: completed.time, completed });
        if completed.after == 0 && self.undated.len() < MOST {
            self.undated.insert(iocb);
        }
        self.kept += 1;
    }

    /// Notes that the completions before this position had come by this time. (A request that began later is another
    /// one with the same iocb.)
    pub fn completed_by(&mut self, place: i64, time: u64) {
        let of_iocb = &mut self.of_iocb;
        self.undated.retain(|iocb| {
            let mut is_open = false;
            let all = of_iocb.get_mut(iocb).into_iter().flatten();
            for it in all.filter(|it| it.completed.after == 0) {
                let is_there = it.place < place;
                if is_there {
                    it.completed.time = it.completed.time.min(time);
                    it.completed.until = it.completed.until.min(time);
                }
                is_open |= !is_there || time < it.read;
            }
            is_open
        });
    }

    /// Takes the completion of a request with this iocb and data (if known), whose io_submit was entered at
    /// `entered`.
    pub fn take(&mut self, (iocb, data): (u64, Option<u64>), entered: u64) -> Option<Completed> {
        let queue = self.of_iocb.get_mut(&iocb)?;
        let is_its = |it: &Entry| {
            it.completed.until > entered && data.is_none_or(|data| data == it.completed.event.data)
        };
        let place = queue.iter().position(is_its)?;
        let found = queue.remove(place)?;
        if queue.is_empty() {
            self.of_iocb.remove(&iocb);
        }
        self.kept -= 1;
        Some(found.completed)
    }

    /// Takes up to `most` completions that came after this time, whatever their iocbs are; returns how many it took.
    pub fn take_any(&mut self, most: u64, after: u64) -> u64 {
        let mut left = most;
        self.of_iocb.retain_in_any_order(|_, queue| {
            queue.retain(|it| {
                let is_one = left > 0 && it.completed.until > after;
                left -= u64::from(is_one);
                !is_one
            });
            !queue.is_empty()
        });
        self.kept -= (most - left) as usize;
        most - left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::IoEvent;

    /// A target can write these entries into its ring: without a bound each look would take the product of the two
    /// numbers.
    #[test]
    fn many_completions_of_one_iocb_are_dated_once() {
        let mut early = Early::default();
        let event = IoEvent { data: 0, obj: 0x1000, res: 8, res2: 0 };
        for place in 0..20_000 {
            let completed = Completed { event, after: 0, time: 9, until: 9, is_late: false };
            early.push(place, completed);
        }
        assert_eq!(early.len(), 20_000);
        assert_eq!(early.undated.len(), 1);
        early.completed_by(20_000, 5);
        assert!(early.undated.contains(&0x1000), "it was read at 9, so others may come with it");
        early.completed_by(20_000, 9);
        assert!(early.undated.is_empty());
        assert_eq!(early.take((0x1000, None), 4).unwrap().time, 5);
    }
}
