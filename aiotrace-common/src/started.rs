//! The requests in flight whose latency is measured: each has the time when it began, by its iocb,
//! until its result is reaped.
//!
//! A request has a place in one of [`SETS`] sets. They are an array, which a probe reads without
//! the call of a helper; a hash map would cost an insertion and a removal for each request, 1 us a
//! pair. Where a set is full, the request that began first makes room: it has no latency, but
//! nothing else is lost.

const SETS_BITS: u32 = 15;
/// The number of sets, of 64 bytes each: 2 MB. Of 16,384 requests in flight at random addresses,
/// about six find their set full; of as many with iocbs in an array, none.
pub const SETS: u32 = 1 << SETS_BITS;
/// The number of places in a set.
const PLACES: usize = 4;

/// The number of bits of an index into [`ContextRow::ops`](crate::counts::ContextRow::ops).
const OP_BITS: u32 = crate::counts::OPS.ilog2();

/// The key of a request: its iocb is in use until its result is reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// Makes the key from the process, as aiotrace's pid namespace sees it, and the address of the
    /// iocb. (Two requests that are in flight in the same set have the same key with a probability
    /// of 2 to the power of -49.)
    #[inline(always)]
    pub const fn new(pid: u32, iocb: u64) -> Self {
        let process = (pid as u64).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        Self(iocb.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ process)
    }

    /// The set of the request. It comes from the upper bits of the product, which tell apart
    /// addresses at any distance.
    #[inline(always)]
    pub const fn set(self) -> u32 {
        (self.0 >> (u64::BITS - SETS_BITS)) as u32
    }
}

/// A request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// When its io_submit was entered, in nanoseconds.
    pub time: u64,
    /// An index into [`ContextRow::ops`](crate::counts::ContextRow::ops).
    pub op: u32,
}

/// The place of one request; zeros if it belongs to nobody.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Place {
    /// `value`, combined with the key: two halves that two processors wrote at the same time do not
    /// match.
    check: u64,
    /// The time, and the operation in its lowest bits.
    value: u64,
}

/// The places of the requests whose key leads to this set.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Set([Place; PLACES]);

impl Set {
    /// Notes that a request begins.
    ///
    /// # Safety
    /// `set` must be valid for reads and writes.
    #[inline(always)]
    pub unsafe fn begin(set: *mut Self, key: Key, started: Started) {
        let value = started.time << OP_BITS | u64::from(started.op);
        let (mut best, mut oldest) = (0, u64::MAX);
        for place in 0..PLACES {
            // SAFETY: the caller keeps to what is asked above.
            let it = unsafe { place_of(set, place).read_volatile() };
            // The same iocb again: the request before was refused, or reaped unseen.
            let is_same = it.check ^ it.value == key.0;
            let time = if is_same { 0 } else { it.value.max(1) };
            if time < oldest {
                (best, oldest) = (place, time);
            }
        }
        let place = Place { check: value ^ key.0, value };
        // SAFETY: the caller keeps to what is asked above.
        unsafe { place_of(set, best).write_volatile(place) };
    }

    /// Takes out a request that is reaped. Returns when it began, if that is known.
    ///
    /// # Safety
    /// `set` must be valid for reads and writes.
    #[inline(always)]
    pub unsafe fn take(set: *mut Self, key: Key) -> Option<Started> {
        for place in 0..PLACES {
            // SAFETY: the caller keeps to what is asked above.
            let at = unsafe { place_of(set, place) };
            // SAFETY: the caller keeps to what is asked above.
            let Place { check, value } = unsafe { at.read_volatile() };
            if value != 0 && check ^ value == key.0 {
                // SAFETY: the caller keeps to what is asked above.
                unsafe { at.write_volatile(Place::default()) };
                let op = value as u32 & ((1 << OP_BITS) - 1);
                return Some(Started { time: value >> OP_BITS, op });
            }
        }
        None
    }
}

/// # Safety
/// `set` must point to a set, and `place` must be less than [`PLACES`].
#[inline(always)]
unsafe fn place_of(set: *mut Set, place: usize) -> *mut Place {
    // SAFETY: the caller keeps to what is asked above.
    unsafe { set.cast::<Place>().add(place) }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;

    struct Sets(Vec<Set>);

    impl Sets {
        fn new() -> Self {
            Self(vec![Set::default(); SETS as usize])
        }

        fn begin(&mut self, pid: u32, iocb: u64, time: u64) {
            let key = Key::new(pid, iocb);
            let started = Started { time, op: (time % 16) as u32 };
            // SAFETY: a reference to a set of the vector.
            unsafe { Set::begin(&mut self.0[key.set() as usize], key, started) };
        }

        fn take(&mut self, pid: u32, iocb: u64) -> Option<u64> {
            let key = Key::new(pid, iocb);
            // SAFETY: a reference to a set of the vector.
            let started = unsafe { Set::take(&mut self.0[key.set() as usize], key) }?;
            assert_eq!(u64::from(started.op), started.time % 16);
            Some(started.time)
        }
    }

    #[test]
    fn a_request_is_taken_once_and_the_last_beginning_counts() {
        let mut sets = Sets::new();
        sets.begin(1, 0x1000, 5);
        sets.begin(1, 0x1000, 7);
        sets.begin(2, 0x1000, 8);
        sets.begin(2, 0x1000, 8);
        assert_eq!(sets.take(1, 0x1000), Some(7));
        assert_eq!(sets.take(1, 0x1000), None);
        assert_eq!(sets.take(2, 0x1000), Some(8));
        assert_eq!(sets.take(2, 0x1008), None);
    }

    #[test]
    fn iocbs_of_an_array_all_have_a_place() {
        for distance in [8, 64, 192, 4096 + 64, 65_536, 1 << 20] {
            let mut sets = Sets::new();
            let iocb = |it: u64| 0x7f12_3456_7010 + it * distance;
            (0..16_384).for_each(|it| sets.begin(7, iocb(it), it + 1));
            let left = (0..16_384).filter(|it| sets.take(7, iocb(*it)) == Some(it + 1)).count();
            assert_eq!(left, 16_384, "{distance} bytes from one to the next");
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut sets = Sets::new();
        let first = Key::new(1, 0).set();
        let same: Vec<u64> = (0..).filter(|it| Key::new(1, *it).set() == first).take(5).collect();
        for (time, iocb) in same.iter().enumerate() {
            sets.begin(1, *iocb, time as u64 + 10);
        }
        let left: Vec<_> = same.iter().map(|it| sets.take(1, *it)).collect();
        assert_eq!(left, [None, Some(11), Some(12), Some(13), Some(14)]);
    }

    #[test]
    fn halves_of_two_requests_are_none() {
        let mut sets = Sets::new();
        sets.begin(1, 64, 5);
        let key = Key::new(1, 64);
        sets.0[key.set() as usize].0[0].value += 1;
        assert_eq!(sets.take(1, 64), None);
    }
}
