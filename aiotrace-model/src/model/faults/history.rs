//! Which requests were accepted before a fault. A program that uses a place of a file again and again (a log's header, a
//! superblock, a hot page), or syncs a file with each commit, makes the same request without retrying anything, so its next one is no certain retry.

use std::hash::BuildHasher as _;

use crate::{event::SpaceId, model::owed::Place};

/// Bits of a set: 128 KiB each. With 100,000 different requests, one in ten is taken for one that was made before, which makes
/// a verdict unsure and never false.
const BITS: u64 = 1 << 20;

/// Requests that were accepted once, and those that were accepted again, as far as hashes tell. Its size is fixed,
/// whatever the program does.
pub struct History {
    once: Vec<u64>,
    again: Vec<u64>,
    hasher: foldhash::fast::FixedState,
}

impl Default for History {
    fn default() -> Self {
        let empty = || vec![0; (BITS / 64) as usize];
        Self { once: empty(), again: empty(), hasher: foldhash::fast::FixedState::with_seed(0) }
    }
}

impl History {
    /// A request was accepted that is no retry for sure.
    pub fn accepted(&mut self, space: SpaceId, place: Place) {
        let (word, bit) = self.bit(space, place);
        if let (Some(once), Some(again)) = (self.once.get_mut(word), self.again.get_mut(word)) {
            *again |= *once & bit;
            *once |= bit;
        }
    }

    /// Whether a request may have been accepted before.
    pub fn had(&self, space: SpaceId, place: Place) -> bool {
        let (word, bit) = self.bit(space, place);
        self.once.get(word).is_some_and(|it| it & bit != 0)
    }

    /// Whether it may have been accepted more than once.
    pub fn had_again(&self, space: SpaceId, place: Place) -> bool {
        let (word, bit) = self.bit(space, place);
        self.again.get(word).is_some_and(|it| it & bit != 0)
    }

    fn bit(&self, space: SpaceId, place: Place) -> (usize, u64) {
        let bit = self.hasher.hash_one((space, place)) % BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::requests::Request;

    #[test]
    fn what_was_accepted_is_known_and_what_was_accepted_twice() {
        let place = |offset| {
            let value =
                aiotrace_common::abi::Iocb { opcode: 1, offset, nbytes: 512, ..Default::default() };
            let address = Some(crate::event::Address(1));
            let iocb =
                crate::event::Iocb { address, value: Some(value), read_late: false, vectors: None };
            Place::of(&Request::new(&iocb, (1, 2), (0, 0)).unwrap()).unwrap()
        };
        let mut history = History::default();
        history.accepted(SpaceId(7), place(0));
        assert!(history.had(SpaceId(7), place(0)) && !history.had_again(SpaceId(7), place(0)));
        assert!(!history.had(SpaceId(7), place(512)) && !history.had(SpaceId(8), place(0)));
        history.accepted(SpaceId(7), place(0));
        assert!(history.had_again(SpaceId(7), place(0)));
    }
}
