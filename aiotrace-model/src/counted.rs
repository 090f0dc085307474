//! What was counted in the kernel instead of being told call by call: the numbers, wherever they come from.

use std::collections::{BTreeMap, BTreeSet};

use aiotrace_common::counts::{BUCKETS, OPS, OpCounts, bounds};

use crate::event::{Handle, Syscall};

/// Processes counted one by one; what more of them do is counted together, as pid 0.
pub const MOST_PROCESSES: usize = 256;
/// Contexts that have ended and are told one by one; more of them are told together, as pid 0.
pub const MOST_CONTEXTS: usize = 256;

/// All that was counted up to some time.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// When it was read, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// `--interval`: an interval ends here.
    pub ends_interval: bool,
    /// Requests and their results were looked at, not only their number.
    pub has_requests: bool,
    /// Calls by process and name.
    pub calls: BTreeMap<(u32, Syscall), CallCounts>,
    /// The errnos of failed calls, by process and call.
    pub errors: BTreeMap<(u32, Syscall), BTreeMap<i64, u64>>,
    /// The errnos that requests resulted in, by process.
    pub results: BTreeMap<u32, BTreeMap<i64, u64>>,
    /// Contexts, by process and handle.
    pub contexts: BTreeMap<(u32, Handle), ContextCounts>,
}

/// One call, or the latencies of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallCounts {
    /// How many returned an error.
    pub failed: u64,
    /// How many were not seen to begin; these have no duration.
    pub unseen: u64,
    /// All durations together, nanoseconds.
    pub total: u64,
    /// The shortest; all bits set if it is not known.
    pub shortest: u64,
    /// The longest; 0 if it is not known.
    pub longest: u64,
    /// Calls by [`aiotrace_common::counts::bucket`].
    pub buckets: Box<[u64; BUCKETS]>,
}

/// The requests of one context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextCounts {
    /// When a call on it returned last.
    pub used: u64,
    /// Requests accepted.
    pub accepted: u64,
    /// The same by opcode, if requests were looked at.
    pub ops: [OpCounts; OPS],
    /// How long requests took until they were reaped by io_getevents, by place in `ops`.
    pub latencies: BTreeMap<usize, CallCounts>,
    /// Events that io_getevents gave.
    pub reaped: u64,
    /// Of these, with `res` < 0.
    pub failed: u64,
    /// The sum of the others' `res`.
    pub moved: u64,
    /// Events that could not be read.
    pub unread: u64,
}

/// The opcode of polls; their result is a mask.
const POLL: usize = 5;

impl Default for CallCounts {
    fn default() -> Self {
        let buckets = Box::new([0; BUCKETS]);
        Self { failed: 0, unseen: 0, total: 0, shortest: u64::MAX, longest: 0, buckets }
    }
}

impl CallCounts {
    /// Of which the duration is known.
    pub fn timed(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many returned.
    pub fn calls(&self) -> u64 {
        self.timed() + self.unseen
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        if self.timed() == 0 {
            (self.shortest, self.longest) = (other.shortest, other.longest);
        } else if other.timed() > 0 {
            self.shortest = self.least().min(other.least());
            self.longest = self.most().max(other.most());
        }
        self.failed += other.failed;
        self.unseen += other.unseen;
        self.total = self.total.wrapping_add(other.total);
        self.buckets.iter_mut().zip(other.buckets.iter()).for_each(|(to, it)| *to += it);
    }

    /// What came after that. The shortest and the longest are as exact as the buckets then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = Self {
            failed: self.failed.saturating_sub(before.failed),
            unseen: self.unseen.saturating_sub(before.unseen),
            total: self.total.wrapping_sub(before.total),
            ..Self::default()
        };
        let (now, then) = (self.buckets.iter(), before.buckets.iter());
        since.buckets.iter_mut().zip(now.zip(then)).for_each(|(to, (a, b))| {
            *to = a.saturating_sub(*b);
        });
        // What is not known of all is not known of a part.
        if self.shortest != u64::MAX {
            since.shortest = since.least().max(self.shortest);
        }
        if self.longest != 0 {
            since.longest = since.most().min(self.longest);
        }
        since
    }

    /// The shortest, as far as known.
    pub fn least(&self) -> u64 {
        match self.shortest {
            u64::MAX => self.buckets.iter().position(|it| *it > 0).map_or(0, |it| bounds(it).0),
            shortest => shortest,
        }
    }

    /// The longest, as far as known.
    pub fn most(&self) -> u64 {
        let last = || self.buckets.iter().rposition(|it| *it > 0);
        match self.longest {
            0 => last().map_or(0, |it| if it + 1 == BUCKETS { bounds(it).0 } else { bounds(it).1 }),
            longest => longest,
        }
    }

    /// The duration that this part of the calls did not exceed: the middle of its bucket.
    pub fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.timed() as f64 * part).ceil() as u64).max(1);
        let mut before = 0;
        let place = self.buckets.iter().position(|count| {
            before += count;
            before >= wanted
        });
        let (low, high) = bounds(place.unwrap_or(0));
        let middle = low + (high - low) / 2;
        middle.max(self.least()).min(self.most())
    }
}

impl ContextCounts {
    /// Bytes moved, as the events say; `None` if some of them may be those of polls, whose results are
    /// masks, or could not be read.
    pub fn bytes(&self) -> Option<u64> {
        (self.ops[POLL].requests == 0 && self.unread == 0).then_some(self.moved)
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.used = self.used.max(other.used);
        self.accepted += other.accepted;
        for (to, it) in self.ops.iter_mut().zip(other.ops) {
            to.requests += it.requests;
            to.asked += it.asked;
        }
        for (op, it) in &other.latencies {
            self.latencies.entry(*op).or_default().add(it);
        }
        self.reaped += other.reaped;
        self.failed += other.failed;
        self.moved += other.moved;
        self.unread += other.unread;
    }

    /// What came after that.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.accepted = since.accepted.saturating_sub(before.accepted);
        for (to, it) in since.ops.iter_mut().zip(before.ops) {
            to.requests = to.requests.saturating_sub(it.requests);
            to.asked = to.asked.saturating_sub(it.asked);
        }
        let none = CallCounts::default();
        for (op, it) in &mut since.latencies {
            *it = it.since(before.latencies.get(op).unwrap_or(&none));
        }
        since.latencies.retain(|_, it| it.timed() > 0);
        since.reaped = since.reaped.saturating_sub(before.reaped);
        since.failed = since.failed.saturating_sub(before.failed);
        since.moved = since.moved.saturating_sub(before.moved);
        since.unread = since.unread.saturating_sub(before.unread);
        since
    }
}

impl Counted {
    /// How many calls returned.
    pub fn total(&self) -> u64 {
        self.calls.values().map(CallCounts::calls).sum()
    }

    /// What came after that.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let (no_calls, no_context) = (CallCounts::default(), ContextCounts::default());
        let calls = self
            .calls
            .iter()
            .map(|(key, it)| (*key, it.since(before.calls.get(key).unwrap_or(&no_calls))));
        let contexts = self
            .contexts
            .iter()
            .map(|(key, it)| (*key, it.since(before.contexts.get(key).unwrap_or(&no_context))));
        Self {
            time: self.time,
            ends_interval: self.ends_interval,
            has_requests: self.has_requests,
            calls: calls.filter(|(_, it)| it.calls() > 0).collect(),
            errors: less(&self.errors, &before.errors),
            results: less(&self.results, &before.results),
            contexts: contexts.filter(|(_, it)| it.accepted + it.reaped > 0).collect(),
        }
    }
}

type Errors<K> = BTreeMap<K, BTreeMap<i64, u64>>;

fn less<K: Ord + Copy>(now: &Errors<K>, before: &Errors<K>) -> Errors<K> {
    let none = BTreeMap::new();
    now.iter()
        .map(|(key, counts)| {
            let before = before.get(key).unwrap_or(&none);
            let less = |(ret, count): (&i64, &u64)| {
                (*ret, count.saturating_sub(before.get(ret).copied().unwrap_or(0)))
            };
            (*key, counts.iter().map(less).filter(|(_, count)| *count > 0).collect())
        })
        .collect()
}

/// The processes that are counted one by one.
#[derive(Debug, Default)]
pub struct Processes(BTreeSet<u32>);

impl Processes {
    /// The process, or 0 if there are too many already.
    pub fn place(&mut self, pid: u32) -> u32 {
        if self.0.contains(&pid) {
            return pid;
        }
        let has_room = self.0.len() < MOST_PROCESSES && pid != 0;
        if has_room {
            self.0.insert(pid);
        }
        if has_room { pid } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use aiotrace_common::counts::bucket;

    use super::*;

    fn counts(durations: &[u64]) -> CallCounts {
        let mut counts = CallCounts::default();
        for nanos in durations {
            counts.buckets[bucket(*nanos)] += 1;
            counts.total += nanos;
            counts.shortest = counts.shortest.min(*nanos);
            counts.longest = counts.longest.max(*nanos);
        }
        counts
    }

    #[test]
    fn a_percentile_is_the_middle_of_its_bucket_and_never_beyond_the_longest() {
        let many: Vec<u64> = (1..=1000).map(|it| it * 1000).collect();
        let counts = counts(&many);
        assert_eq!((counts.calls(), counts.least(), counts.most()), (1000, 1000, 1_000_000));
        for (part, exact) in [(0.5, 500_000), (0.99, 990_000)] {
            let found = counts.quantile(part);
            assert!(found.abs_diff(exact) * 100 <= exact * 7, "{part}: {found}");
        }
        assert_eq!(counts.quantile(1.0), 983_039.max(counts.quantile(0.999)));
        assert_eq!(super::CallCounts::default().quantile(0.5), 0);
    }

    #[test]
    fn an_interval_has_what_came_after_the_one_before() {
        let before = counts(&[1000, 2000]);
        let mut now = before.clone();
        now.add(&counts(&[1_000_000]));
        let since = now.since(&before);
        assert_eq!((since.calls(), since.total), (1, 1_000_000));
        assert!(since.least() <= 1_000_000 && since.most() == 1_000_000);
        assert!(since.least() > 900_000);
    }

    #[test]
    fn bytes_are_not_known_where_polls_are() {
        let mut context = ContextCounts { moved: 4096, ..ContextCounts::default() };
        assert_eq!(context.bytes(), Some(4096));
        context.ops[POLL].requests = 1;
        assert_eq!(context.bytes(), None);
    }

    #[test]
    fn where_the_shortest_and_the_longest_are_not_known_the_buckets_tell() {
        let shared =
            |durations: &[u64]| CallCounts { shortest: u64::MAX, longest: 0, ..counts(durations) };
        let before = shared(&[1000]);
        let now = shared(&[1000, 100_000, 200_000]);
        let since = now.since(&before);
        let (low, high) = (bounds(bucket(100_000)).0, bounds(bucket(200_000)).1);
        assert_eq!((since.timed(), since.least(), since.most()), (2, low, high));
        assert!((low..=high).contains(&since.quantile(0.5)), "{}", since.quantile(0.5));
        // Beside some of which they are known.
        let mut both = counts(&[150_000]);
        both.add(&since);
        assert_eq!((both.least(), both.most()), (low, high));
        let mut none = CallCounts::default();
        none.add(&counts(&[150_000]));
        assert_eq!((none.least(), none.most()), (150_000, 150_000));
    }

    #[test]
    fn latencies_are_added_and_told_by_interval() {
        let of = |op, durations: &[u64]| ContextCounts {
            latencies: BTreeMap::from([(op, counts(durations))]),
            ..ContextCounts::default()
        };
        let mut both = of(0, &[1000]);
        both.add(&of(0, &[3000]));
        both.add(&of(1, &[5000]));
        let timed = |it: &ContextCounts| -> Vec<(usize, u64)> {
            it.latencies.iter().map(|(op, it)| (*op, it.timed())).collect()
        };
        assert_eq!(timed(&both), [(0, 2), (1, 1)]);
        assert_eq!(timed(&both.since(&of(1, &[5000]))), [(0, 2)]);
    }

    #[test]
    fn so_many_processes_are_counted_one_by_one() {
        let mut processes = Processes::default();
        assert_eq!(processes.place(0), 0);
        for pid in 1..=MOST_PROCESSES as u32 {
            assert_eq!(processes.place(pid), pid);
        }
        assert_eq!((processes.place(5000), processes.place(7)), (0, 7));
    }
}
