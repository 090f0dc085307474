//! Ranges of files that somebody still has to do, to be found by overlap.

use std::collections::BTreeSet;

/// The most bytes that the kernel moves in one call ([`MAX_RW_COUNT`]).
///
/// [`MAX_RW_COUNT`]: https://elixir.bootlin.com/linux/v6.12.117/source/include/linux/fs.h#L2734
pub const MOST_MOVED: u64 = 0x7fff_f000;

/// Ranges, each with a name; the default name is the smallest. They are ordered by their starts, and the greatest
/// length so far bounds a search.
#[derive(Debug, Default)]
pub struct Ranges<T> {
    by_start: BTreeSet<(u64, T)>,
    longest: u64,
}

impl<T: Ord + Copy + Default> Ranges<T> {
    /// Adds a range.
    pub fn insert(&mut self, (start, end): (u64, u64), of: T) {
        self.longest = self.longest.max(end.saturating_sub(start));
        self.by_start.insert((start, of));
    }

    /// Removes a range.
    pub fn remove(&mut self, start: u64, of: T) {
        self.by_start.remove(&(start, of));
    }

    /// Whether there are no ranges.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// Adds all ranges of another set.
    pub fn append(&mut self, mut other: Self) {
        self.longest = self.longest.max(other.longest);
        self.by_start.append(&mut other.by_start);
    }

    /// Ranges that may overlap this one, in the order of their starts: not all of them do.
    pub fn over(&self, (from, to): (u64, u64)) -> Vec<T> {
        let first = from.saturating_sub(self.longest);
        if first >= to {
            return Vec::new();
        }
        let found = self.by_start.range((first, T::default())..(to, T::default()));
        found.map(|it| it.1).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_found_however_long_it_is() {
        let mut ranges = Ranges::default();
        for (of, range) in [(0, 10), (10, 20), (5, 100), (200, 300)].into_iter().enumerate() {
            ranges.insert(range, of);
        }
        assert_eq!(ranges.over((99, 100)), [0, 2, 1]);
        assert_eq!(ranges.over((300, 400)), [3], "perhaps");
        assert!(ranges.over((401, 402)).is_empty());
        assert_eq!(ranges.over((0, 5)), [0]);
        ranges.remove(5, 2);
        assert_eq!(ranges.over((0, u64::MAX)), [0, 1, 3]);
    }
}
