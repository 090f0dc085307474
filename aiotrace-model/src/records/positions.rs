//! Which entries of a ring have become completions already.

use std::ops::Range;

use aiotrace_common::abi::RingHeader;

/// Most positions of a ring remembered that were passed over and may still come.
const MOST_HOLES: usize = 4096;

/// A list of one range.
pub(super) fn one(range: Range<u32>) -> Vec<Range<u32>> {
    std::iter::once(range).collect()
}

/// The entries of a ring that are known. Threads that look at the same moment send the same entries, and may send
/// them out of order.
#[derive(Debug, Default)]
pub(super) struct Positions {
    next: Option<u32>,
    /// When the tail was read that `next` comes from. A record whose tail was read earlier cannot be ahead of it.
    seen: u64,
    /// Positions that were passed over: a thread that was overtaken sends them later, or nobody does.
    holes: Vec<u32>,
}

impl Positions {
    /// All entries before this position are known.
    pub(super) fn from(next: u32) -> Self {
        Self { next: Some(next), ..Self::default() }
    }

    /// The position of the next entry, if it is known.
    pub(super) fn next(&self) -> Option<u32> {
        self.next
    }

    /// Whether no entry was passed over.
    pub(super) fn is_whole(&self) -> bool {
        self.holes.is_empty()
    }

    /// Gives up the positions that were passed over.
    pub(super) fn forget_holes(&mut self) {
        self.holes.clear();
    }

    /// Whether all entries before this position are known, in a ring of this size. (Another thread that looked a
    /// little later may have sent more.)
    pub(super) fn have(&self, tail: u32, nr: u32) -> bool {
        let is_there =
            |next: u32| next >= nr || tail >= nr || RingHeader::distance(tail, next, nr) <= nr / 8;
        self.holes.is_empty() && self.next.is_none_or(is_there)
    }

    /// These positions hold other entries by now: returns how many of them were passed over and will never come.
    fn overwritten(&mut self, first: u32, count: u32, nr: u32) -> u32 {
        let before = self.holes.len();
        self.holes.retain(|place| {
            first >= nr || *place >= nr || RingHeader::distance(first, *place, nr) >= count
        });
        (before - self.holes.len()) as u32
    }

    /// Which of `count` entries from `first` on, whose tail was read then, are new, and how many others will never
    /// come. `nr` is the size of the ring.
    pub(super) fn take(
        &mut self,
        (first, count, seen): (u32, u32, u64),
        nr: u32,
    ) -> (Vec<Range<u32>>, u32) {
        let end = |from: u32, count: u32| {
            let end = u64::from(from) + u64::from(count);
            if nr == 0 { end as u32 } else { (end % u64::from(nr)) as u32 }
        };
        let next = match self.next {
            Some(next) if nr != 0 && next < nr && first < nr => next,
            _ => first,
        };
        let ahead = RingHeader::distance(next, first, nr);
        // A thread that looked before `next` was known is behind, perhaps by more than a ring.
        if ahead == 0 || ahead < nr / 2 && seen >= self.seen {
            let never = self.overwritten(next, ahead + count, nr);
            let room = MOST_HOLES.saturating_sub(self.holes.len());
            self.holes.extend((0..ahead).take(room).map(|it| end(next, it)));
            (self.next, self.seen) = (Some(end(first, count)), seen);
            return (one(0..count), never);
        }
        // These entries are behind `next`: they are known, except for those that were passed over, and those that
        // reach beyond `next`.
        let behind = nr - ahead;
        let mut new = Vec::new();
        for index in 0..count.min(behind) {
            let position = end(first, index);
            if let Some(hole) = self.holes.iter().position(|it| *it == position) {
                self.holes.swap_remove(hole);
                new.push(index..index + 1);
            }
        }
        let mut never = 0;
        if count > behind {
            never = self.overwritten(next, count - behind, nr);
            new.push(behind..count);
            (self.next, self.seen) = (Some(end(first, count)), self.seen.max(seen));
        }
        (new, never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(positions: &mut Positions, first: u32, count: u32) -> Vec<u32> {
        took_at(positions, (first, count, 0), 0)
    }

    fn took_at(positions: &mut Positions, at: (u32, u32, u64), never: u32) -> Vec<u32> {
        let (new, lost) = positions.take(at, 10);
        assert_eq!(lost, never);
        new.into_iter().flatten().map(|it| (at.0 + it) % 10).collect()
    }

    #[test]
    fn entries_in_order_are_new() {
        let mut positions = Positions::default();
        assert_eq!(took(&mut positions, 3, 2), [3, 4]);
        assert_eq!(took(&mut positions, 5, 5), [5, 6, 7, 8, 9]);
        assert_eq!(took(&mut positions, 0, 1), [0]);
    }

    #[test]
    fn entries_sent_by_two_are_new_once() {
        let mut positions = Positions { next: Some(8), ..Positions::default() };
        assert_eq!(took(&mut positions, 8, 2), [8, 9]);
        assert_eq!(took(&mut positions, 8, 2), [0u32; 0]);
        assert_eq!(took(&mut positions, 9, 3), [0, 1]);
    }

    #[test]
    fn whoever_was_overtaken_still_counts() {
        let mut positions = Positions { next: Some(8), ..Positions::default() };
        assert_eq!(took(&mut positions, 0, 1), [0]);
        assert_eq!(took(&mut positions, 8, 2), [8, 9]);
        assert_eq!(took(&mut positions, 8, 3), [0u32; 0]);
    }

    #[test]
    fn what_never_came_is_told_when_its_place_is_used_again() {
        let mut positions = Positions { next: Some(8), ..Positions::default() };
        assert_eq!(took(&mut positions, 0, 1), [0], "8 and 9 are passed over");
        assert!(!positions.have(1, 10));
        assert_eq!(took_at(&mut positions, (1, 8, 0), 1), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(took_at(&mut positions, (9, 1, 0), 1), [9]);
        assert!(positions.have(0, 10));
        assert_eq!(took(&mut positions, 8, 2), [0u32; 0], "these are known");
    }

    #[test]
    fn whoever_looked_before_is_never_ahead() {
        let mut positions = Positions { next: Some(0), ..Positions::default() };
        for seen in 1..=4 {
            let first = (seen as u32 - 1) * 5 % 10;
            assert_eq!(took_at(&mut positions, (first, 5, seen), 0).len(), 5);
        }
        // The processor of this thread stood still since time 2: in the meantime two rings of other entries came.
        assert_eq!(took_at(&mut positions, (2, 3, 2), 0), [0u32; 0]);
        assert_eq!(took_at(&mut positions, (0, 3, 5), 0), [0, 1, 2], "nobody is sent back");
    }

    #[test]
    fn a_ring_that_was_given_another_size_is_survived() {
        let mut positions = Positions { next: Some(0), ..Positions::default() };
        assert_eq!(took(&mut positions, 2, 1), [2]);
        assert_eq!(positions.take((20, 1, 0), 10), (one(0..1), 0), "the program wrote that");
    }
}
