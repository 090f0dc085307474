//! Finds the slot of a thread in an array. This takes a comparison at each entry and return, where
//! a search in a hash map takes 15 ns. If another thread has its place, a thread tries further
//! ones.

/// The number of slots: 5 MiB of [`Thread`](crate::record::Thread), and 1.5 MiB that say which are
/// taken.
pub const SLOTS: u32 = 16_384;
/// How many places are tried for a thread. Of 12,288 threads with random ids, about ten find none
/// free.
pub const PLACES: u32 = 16;

/// One of the places for a thread with this tid in the initial namespace; `step` says which of
/// [`PLACES`]. Threads that begin together have consecutive ids; so where two pools of threads want
/// the same places first, they must not go on to the same further places.
#[inline(always)]
pub const fn place(tid: u32, step: u32) -> u32 {
    let stride = (tid / SLOTS * 2 + 1).wrapping_mul(0x9e37_79b1);
    tid.wrapping_add(step.wrapping_mul(stride)) % SLOTS
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::BTreeSet, vec};

    use super::*;

    /// How many of these threads find no place.
    fn lost(tids: impl Iterator<Item = u32>) -> usize {
        let mut taken = vec![false; SLOTS as usize];
        let mut takes_none = |tid: u32| {
            let free = (0..PLACES).map(|it| place(tid, it) as usize).find(|it| !taken[*it]);
            free.inspect(|it| taken[*it] = true).is_none()
        };
        tids.filter(|tid| takes_none(*tid)).count()
    }

    /// Random numbers, the same each time.
    fn random() -> impl FnMut(u32) -> u32 {
        let mut state = 1u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32 % below
        }
    }

    #[test]
    fn a_thread_may_have_each_of_its_places() {
        for tid in [1, 2, 16_383, 16_384, 100_000, 4_194_303] {
            let places: BTreeSet<u32> = (0..PLACES).map(|it| place(tid, it)).collect();
            assert_eq!(places.len(), PLACES as usize, "{tid}");
            assert!(places.iter().all(|it| *it < SLOTS), "{tid}");
            assert_eq!(place(tid, 0), tid % SLOTS);
        }
    }

    #[test]
    fn threads_in_a_row_all_find_one() {
        assert_eq!(lost(30_000..30_000 + SLOTS), 0);
    }

    #[test]
    fn pools_whose_ids_meet_all_find_one() {
        let mut random = random();
        for (pools, threads) in [(10, 64), (50, 32), (20, 128), (64, 64)] {
            for _ in 0..20 {
                // The kernel gives an id only once: a pool begins where no other pool has begun.
                let firsts: BTreeSet<u32> = (0..pools).map(|_| random(30_000) * threads).collect();
                let tids = firsts.into_iter().flat_map(|first| first..first + threads);
                assert_eq!(lost(tids), 0, "{pools} pools of {threads}");
            }
        }
    }

    #[test]
    fn few_of_very_many_at_random_ids_find_none() {
        let mut random = random();
        let tids: BTreeSet<u32> = (0..12_288).map(|_| random(4_194_304)).collect();
        let lost = lost(tids.into_iter());
        assert!((1..50).contains(&lost), "{lost}");
    }
}
