//! The ring of a context at one moment.

use aiotrace_common::abi;
use serde::{Deserialize, Serialize};

/// A ring at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Next entry to reap.
    pub head: u32,
    /// Next entry to be written.
    pub tail: u32,
    /// Number of entries.
    pub nr: u32,
}

impl Ring {
    /// Completed and not yet reaped.
    pub fn unreaped(self) -> u32 {
        // A program can write any number into its ring.
        if self.nr == 0 || self.head >= self.nr || self.tail >= self.nr {
            return 0;
        }
        abi::RingHeader::distance(self.head, self.tail, self.nr)
    }

    /// As it would be without the last entries, so many of them.
    pub fn without(self, last: u32) -> Self {
        if self.nr == 0 || self.tail >= self.nr {
            return self;
        }
        let last = last % self.nr;
        let tail = self.tail.checked_sub(last).unwrap_or(self.nr - (last - self.tail.min(last)));
        Self { tail, ..self }
    }
}

impl From<abi::RingHeader> for Ring {
    fn from(it: abi::RingHeader) -> Self {
        Self { head: it.head, tail: it.tail, nr: it.nr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreaped_counts_around_the_end_of_the_ring() {
        assert_eq!(Ring { head: 120, tail: 4, nr: 127 }.unreaped(), 11);
        assert_eq!(Ring { head: 5, tail: 5, nr: 127 }.unreaped(), 0);
        assert_eq!(Ring { head: 999, tail: 5, nr: 127 }.unreaped(), 0);
        let ring = |tail, nr| Ring { head: 0, tail, nr };
        assert_eq!([0, 3, 4].map(|last| ring(3, 9).without(last).tail), [3, 0, 8]);
        assert_eq!(ring(u32::MAX - 1, u32::MAX).without(7).tail, u32::MAX - 8);
        assert_eq!(ring(5, 0).without(7), ring(5, 0));
    }
}
