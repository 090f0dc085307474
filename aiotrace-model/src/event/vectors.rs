//! Where in memory the data of a request is: its buffer, or its iovecs.

use serde::{Deserialize, Serialize};

use crate::{bounded, event::Address};

/// Pieces of a program's memory, one after the other: a request, or a call, takes its data from there, or puts them
/// there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vectors(#[serde(deserialize_with = "bounded::pieces")] Vec<Vector>);

/// One piece: `struct iovec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vector {
    /// Where it begins.
    pub base: Address,
    /// Its length in bytes.
    pub length: u64,
}

impl Vectors {
    /// These pieces.
    pub fn new(pieces: Vec<Vector>) -> Self {
        Self(pieces)
    }

    /// One buffer.
    pub fn one(base: Address, length: u64) -> Self {
        Self(vec![Vector { base, length }])
    }

    /// Where the first piece begins.
    pub fn first(&self) -> Option<Address> {
        self.0.first().map(|it| it.base)
    }

    /// The length of all, in bytes.
    pub fn length(&self) -> u64 {
        self.0.iter().fold(0, |sum, it| sum.saturating_add(it.length))
    }

    /// Whether `length` bytes from the byte `at` on are the same memory as those of `other` from the byte `from` on.
    pub fn are(&self, at: u64, other: &Self, from: u64, length: u64) -> bool {
        let (mut own, mut others) = (self.after(at), other.after(from));
        let (mut one, mut two) = (own.next(), others.next());
        let mut left = length;
        while left > 0 {
            let (Some(first), Some(second)) = (one, two) else { return false };
            if first.base != second.base {
                return false;
            }
            let common = first.length.min(second.length).min(left);
            left -= common;
            one = first.after(common).or_else(|| own.next());
            two = second.after(common).or_else(|| others.next());
        }
        true
    }

    /// Whether a byte of it lies in this memory: from, up to.
    pub fn overlap(&self, (from, to): (u64, u64)) -> bool {
        let is_in = |it: &Vector| it.base.0 < to && from < it.base.0.saturating_add(it.length);
        self.0.iter().any(is_in)
    }

    /// The first `length` bytes.
    pub fn each(&self, length: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut left = length;
        self.0.iter().map_while(move |it| {
            let part = it.length.min(left);
            left -= part;
            (part > 0 || left > 0).then(|| (it.base.0, it.base.0.saturating_add(part)))
        })
    }

    /// The pieces behind so many bytes; none is empty.
    fn after(&self, bytes: u64) -> impl Iterator<Item = Vector> {
        let mut skip = bytes;
        self.0.iter().filter_map(move |it| {
            let skipped = skip.min(it.length);
            skip -= skipped;
            it.after(skipped)
        })
    }
}

impl Vector {
    /// What is left of it behind so many bytes, if anything is.
    fn after(self, bytes: u64) -> Option<Self> {
        let base = Address(self.base.0.wrapping_add(bytes));
        let length = self.length.checked_sub(bytes).filter(|it| *it > 0)?;
        Some(Self { base, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(pieces: &[(u64, u64)]) -> Vectors {
        let of = |(base, length): &(u64, u64)| Vector { base: Address(*base), length: *length };
        Vectors::new(pieces.iter().map(of).collect())
    }

    #[test]
    fn the_same_memory_is_known_however_it_is_cut() {
        let whole = vectors(&[(0x1000, 300)]);
        let cut = vectors(&[(0x1000, 100), (0, 0), (0x1064, 200)]);
        assert!(whole.are(0, &cut, 0, 300) && cut.are(0, &whole, 0, 300));
        assert!(whole.are(50, &vectors(&[(0x1032, 250)]), 0, 250), "the rest");
        assert!(!whole.are(50, &whole, 0, 250), "the rest from the beginning");
        assert!(!whole.are(0, &vectors(&[(0x1064, 200), (0x1000, 100)]), 0, 300), "swapped");
        assert!(!whole.are(0, &vectors(&[(0x1000, 200)]), 0, 300), "there is less of it");
        assert!(whole.are(0, &cut, 0, 0), "of nothing");
    }

    #[test]
    fn a_call_that_moved_less_touched_only_the_first_pieces() {
        let cut = vectors(&[(0x1000, 100), (0x2000, 200)]);
        assert_eq!(cut.each(150).collect::<Vec<_>>(), [(0x1000, 0x1064), (0x2000, 0x2032)]);
        assert_eq!(cut.each(100).count(), 1);
        assert!(cut.overlap((0x10c0, 0x2001)) && !cut.overlap((0x1064, 0x2000)));
        assert_eq!(cut.length(), 300);
    }
}
