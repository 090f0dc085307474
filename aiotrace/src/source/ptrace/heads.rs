//! Finds out who moves the heads of the rings: io_getevents, or the program by itself. A program that does so reads a
//! completion in the ring before it moves the head, so it may have read the result before the result was changed.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// Most rings remembered; when there are more, all are forgotten.
const MOST: usize = 16_384;

/// The heads, by address space and handle.
#[derive(Default)]
pub struct Heads(HashMap<(u64, u64), Head, FixedState>);

struct Head {
    /// The position of the head when no thread was reaping.
    place: u32,
    /// Number of events that io_getevents has returned since.
    given: u64,
    by_hand: bool,
}

impl Heads {
    /// Notes the size of a ring and the position of its head. `given`: events that a call has returned since the last
    /// look. `is_disturbed`: other threads are in io_getevents and may have moved the head.
    pub fn look(
        &mut self,
        key: (u64, u64),
        (nr, place): (u32, u32),
        given: u64,
        is_disturbed: bool,
    ) {
        if nr == 0 || place >= nr {
            return;
        }
        let Some(head) = self.0.get_mut(&key) else {
            if self.0.len() >= MOST {
                self.0.clear();
            }
            if !is_disturbed {
                self.0.insert(key, Head { place, given: 0, by_hand: false });
            }
            return;
        };
        head.given += given;
        if is_disturbed {
            return;
        }
        let expected = (u64::from(head.place) + head.given) % u64::from(nr);
        head.by_hand |= expected != u64::from(place);
        (head.place, head.given) = (place, 0);
    }

    /// Whether the program was seen to move the head by itself.
    pub fn are_moved_by_hand(&self, space: u64, handle: u64) -> bool {
        self.0.get(&(space, handle)).is_some_and(|it| it.by_hand)
    }

    /// Forgets a context that has ended.
    pub fn forget(&mut self, space: u64, handle: u64) {
        self.0.remove(&(space, handle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: (u64, u64) = (7, 0x1000);

    #[test]
    fn a_head_that_moves_by_more_than_io_getevents_gave_is_moved_by_the_program() {
        let mut heads = Heads::default();
        let mut look = |place, given, is_disturbed| {
            heads.look(RING, (10, place), given, is_disturbed);
            heads.are_moved_by_hand(RING.0, RING.1)
        };
        assert!(!look(8, 5, false), "the first look");
        assert!(!look(1, 3, false), "around the end");
        // Another thread has reaped two, and its call has not returned yet.
        assert!(!look(3, 0, true));
        assert!(!look(3, 2, false));
        assert!(look(4, 0, false));
        assert!(look(5, 1, false), "once is enough");
        heads.forget(RING.0, RING.1);
        assert!(!heads.are_moved_by_hand(RING.0, RING.1));
    }
}
