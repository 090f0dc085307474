//! A histogram of durations, both for those that come event by event and for those that the kernel has counted.
//!
//! The buckets from one power of two to the next have equal widths; their number is the histogram's [`Fineness`].
//! Only powers of two that occur take memory.

use aiotrace_common::counts::{self, BUCKETS};

/// How fine the buckets are, and so how exact a percentile is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fineness {
    /// Eight buckets for each power of two: those of [`counts::bucket`], by which the probes count. A percentile is
    /// the middle of its bucket, and wrong by 6 % at most.
    #[default]
    Kernel,
    /// 16 buckets: a percentile is the end of its bucket, so never too short, and too long by 6 % at most.
    Sixteenths,
    /// 128 buckets: a percentile is the end of its bucket, so too long by 1 % at most.
    Percents,
}

/// Durations in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    fineness: Fineness,
    /// The number of the bucket that is the first of `counts`.
    first: usize,
    counts: Vec<u64>,
    count: u64,
    total: u64,
    /// `None`: only its bucket is known.
    shortest: Option<u64>,
    longest: Option<u64>,
}

/// How many buckets are added at a time, so that a histogram grows seldom.
const GROUP: usize = 16;

impl Fineness {
    /// The binary logarithm of the number of buckets for a power of two.
    const fn bits(self) -> u32 {
        match self {
            Self::Kernel => 3,
            Self::Sixteenths => 4,
            Self::Percents => 7,
        }
    }

    fn bucket(self, nanos: u64) -> usize {
        let bits = self.bits();
        match self {
            Self::Kernel => counts::bucket(nanos),
            // Below this, a bucket is one nanosecond wide.
            _ if nanos < 2 << bits => nanos as usize,
            _ => {
                let shift = nanos.ilog2() - bits;
                ((shift as usize) << bits) + (nanos >> shift) as usize
            }
        }
    }

    /// The shortest duration of a bucket, and the longest.
    fn bounds(self, bucket: usize) -> (u64, u64) {
        let bits = self.bits();
        match self {
            Self::Kernel => counts::bounds(bucket),
            _ if bucket < 2 << bits => (bucket as u64, bucket as u64),
            _ => {
                let shift = (bucket >> bits) - 1;
                let low = ((bucket - (shift << bits)) as u64) << shift;
                (low, low + ((1 << shift) - 1))
            }
        }
    }

    /// The duration that stands for all durations of a bucket.
    fn typical(self, bucket: usize) -> u64 {
        let (low, high) = self.bounds(bucket);
        if self == Self::Kernel { low + (high - low) / 2 } else { high }
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new(fineness: Fineness) -> Self {
        Self { fineness, ..Self::default() }
    }

    /// A histogram that a probe has counted by [`counts::bucket`], with the sum of the durations. The shortest and
    /// the longest duration are `None` if several threads count together.
    pub fn of_kernel(
        buckets: &[u64; BUCKETS],
        total: u64,
        shortest: Option<u64>,
        longest: Option<u64>,
    ) -> Self {
        let mut histogram = Self { total, shortest, longest, ..Self::default() };
        let used = buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        used.for_each(|(bucket, count)| histogram.put(bucket, *count));
        histogram
    }

    /// Adds a duration.
    pub fn record(&mut self, nanos: u64) {
        let (least, most) = if self.count == 0 {
            (nanos, nanos)
        } else {
            (self.least().min(nanos), self.most().max(nanos))
        };
        (self.shortest, self.longest) = (Some(least), Some(most));
        self.total = self.total.saturating_add(nanos);
        self.put(self.fineness.bucket(nanos), 1);
    }

    /// Adds all durations of another histogram. An empty one takes its fineness.
    pub fn add(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            self.clone_from(other);
            return;
        }
        self.shortest = Some(self.least().min(other.least()));
        self.longest = Some(self.most().max(other.most()));
        self.total = self.total.saturating_add(other.total);
        for (bucket, count) in other.used() {
            let bucket = match self.fineness == other.fineness {
                true => bucket,
                false => self.fineness.bucket(other.fineness.typical(bucket)),
            };
            self.put(bucket, count);
        }
    }

    /// The durations that were added since the state `before`. The shortest and the longest of them are only as exact
    /// as the buckets.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = Self {
            fineness: self.fineness,
            total: self.total.saturating_sub(before.total),
            ..Self::default()
        };
        for (bucket, count) in self.used() {
            let more = count.saturating_sub(before.at(bucket));
            if more > 0 {
                since.put(bucket, more);
            }
        }
        if since.count > 0 {
            // If the shortest and the longest of all are unknown, so are those of a part.
            (since.shortest, since.longest) = (
                self.shortest.map(|it| since.least().max(it)),
                self.longest.map(|it| since.most().min(it)),
            );
        }
        since
    }

    /// How many durations there are from each power of two to the next, as the binary logarithm and
    /// the number; shorter than two nanoseconds is 0.
    pub fn powers(&self) -> Vec<(u32, u64)> {
        let mut powers: Vec<(u32, u64)> = Vec::new();
        for (bucket, count) in self.used() {
            let power = self.fineness.bounds(bucket).0.max(1).ilog2();
            match powers.last_mut() {
                Some(last) if last.0 == power => last.1 += count,
                _ => powers.push((power, count)),
            }
        }
        powers
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of the durations, in nanoseconds.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The mean; 0 if there are no durations.
    pub fn average(&self) -> u64 {
        self.total.checked_div(self.count).unwrap_or(0)
    }

    /// The shortest, as far as known; 0 if there are no durations.
    pub fn least(&self) -> u64 {
        let by_bucket = || self.used().next().map_or(0, |(it, _)| self.fineness.bounds(it).0);
        self.shortest.unwrap_or_else(by_bucket)
    }

    /// The longest, as far as known; 0 if there are no durations.
    pub fn most(&self) -> u64 {
        let by_bucket = || {
            let last = self.counts.iter().rposition(|it| *it > 0).unwrap_or(0) + self.first;
            match self.fineness.bounds(last) {
                // The last bucket has no end.
                (low, u64::MAX) => low,
                (_, high) => high,
            }
        };
        self.longest.unwrap_or_else(|| if self.count == 0 { 0 } else { by_bucket() })
    }

    /// The duration that this part of all durations does not exceed, as exact as the [`Fineness`] is; 0 if there are
    /// none.
    pub fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut before = 0;
        let place = self.used().find(|(_, count)| {
            before += count;
            before >= wanted
        });
        let typical = place.map_or(0, |(bucket, _)| self.fineness.typical(bucket));
        typical.max(self.least()).min(self.most())
    }

    /// The buckets that are not empty.
    fn used(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = (self.first..).zip(self.counts.iter().copied());
        all.filter(|(_, count)| *count > 0)
    }

    fn at(&self, bucket: usize) -> u64 {
        let place = bucket.checked_sub(self.first);
        place.and_then(|it| self.counts.get(it)).copied().unwrap_or(0)
    }

    fn put(&mut self, bucket: usize, count: u64) {
        let group = bucket / GROUP * GROUP;
        if self.counts.is_empty() {
            self.first = group;
        }
        if group < self.first {
            self.counts.splice(..0, std::iter::repeat_n(0, self.first - group));
            self.first = group;
        }
        let needed = group + GROUP - self.first;
        if self.counts.len() < needed {
            self.counts.resize(needed, 0);
        }
        let place = &mut self.counts[bucket - self.first];
        *place = place.saturating_add(count);
        self.count = self.count.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Fineness; 3] = [Fineness::Kernel, Fineness::Sixteenths, Fineness::Percents];

    fn of(fineness: Fineness, durations: &[u64]) -> Histogram {
        let mut histogram = Histogram::new(fineness);
        durations.iter().for_each(|it| histogram.record(*it));
        histogram
    }

    /// Counts in the way of threads that share a row.
    fn shared(durations: &[u64]) -> Histogram {
        let mut buckets = [0; BUCKETS];
        durations.iter().for_each(|it| buckets[counts::bucket(*it)] += 1);
        Histogram::of_kernel(&buckets, durations.iter().sum(), None, None)
    }

    #[test]
    fn every_bucket_begins_where_the_one_before_it_ends() {
        for fineness in ALL {
            let (mut next, mut bucket) = (0u64, 0);
            loop {
                let (low, high) = fineness.bounds(bucket);
                assert_eq!(low, next, "{fineness:?} {bucket}");
                assert_eq!((fineness.bucket(low), fineness.bucket(high)), (bucket, bucket));
                let Some(after) = high.checked_add(1) else { break };
                (next, bucket) = (after, bucket + 1);
            }
            assert!(bucket < 8192, "{fineness:?} {bucket}: the memory of a histogram has a bound");
        }
    }

    #[test]
    fn a_percentile_is_as_exact_as_the_buckets_and_never_beyond_the_longest() {
        let many: Vec<u64> = (1..=1000).map(|it| it * 1000).collect();
        for (fineness, percent) in ALL.into_iter().zip([7, 7, 1]) {
            let all = of(fineness, &many);
            assert_eq!((all.count(), all.least(), all.most()), (1000, 1000, 1_000_000));
            assert_eq!(all.average(), 500_500);
            for (part, exact) in [(0.5, 500_000), (0.99, 990_000)] {
                let found = all.quantile(part);
                assert!(found.abs_diff(exact) * 100 <= exact * percent, "{part}: {found}");
                assert!(fineness == Fineness::Kernel || found >= exact, "it is no promise else");
            }
            assert!(all.quantile(1.0) <= 1_000_000);
            assert_eq!(Histogram::new(fineness).quantile(0.5), 0);
        }
    }

    #[test]
    fn an_interval_has_what_came_after_the_one_before() {
        let before = of(Fineness::Kernel, &[1000, 2000]);
        let mut now = before.clone();
        now.record(1_000_000);
        let since = now.since(&before);
        assert_eq!((since.count(), since.average(), since.most()), (1, 1_000_000, 1_000_000));
        assert!((900_000..=1_000_000).contains(&since.least()));
        assert_eq!(now.since(&now).count(), 0);
        assert_eq!(now.since(&Histogram::default()).least(), 1000);
    }

    #[test]
    fn where_the_shortest_and_the_longest_are_not_known_the_buckets_tell() {
        let since = shared(&[1000, 100_000, 200_000]).since(&shared(&[1000]));
        let bounds = |nanos| counts::bounds(counts::bucket(nanos));
        let (low, high) = (bounds(100_000).0, bounds(200_000).1);
        assert_eq!((since.count(), since.least(), since.most()), (2, low, high));
        assert!((low..=high).contains(&since.quantile(0.5)), "{}", since.quantile(0.5));
        // Added to durations of which these are known.
        let mut both = of(Fineness::Kernel, &[150_000]);
        both.add(&since);
        assert_eq!((both.least(), both.most()), (low, high));
        let mut none = Histogram::default();
        none.add(&of(Fineness::Kernel, &[150_000]));
        assert_eq!((none.least(), none.most()), (150_000, 150_000));
        // The last bucket has no end.
        assert_eq!(shared(&[1 << 40]).most(), 1 << 36);
    }

    #[test]
    fn those_of_another_fineness_are_counted_in_ones_own_buckets() {
        let mut all = of(Fineness::Percents, &[1_000_000]);
        all.add(&shared(&[2_000_000, 2_000_000]));
        assert_eq!(all.count(), 3);
        assert!(all.quantile(0.99).abs_diff(2_000_000) < 130_000, "{}", all.quantile(0.99));
    }

    #[test]
    fn each_duration_is_between_two_powers_of_two() {
        let all = of(Fineness::Kernel, &[1000, 1025, 2047, 2048, 9000]);
        assert_eq!(all.powers(), [(9, 1), (10, 2), (11, 1), (13, 1)]);
        assert_eq!(Histogram::default().powers(), []);
    }

    #[test]
    fn it_grows_to_both_sides_and_takes_what_a_recording_may_say() {
        let mut all = of(Fineness::Percents, &[5_000_000, 0, u64::MAX, 70]);
        assert_eq!((all.count(), all.least(), all.most()), (4, 0, u64::MAX));
        assert_eq!(all.quantile(0.5), 70);
        all.add(&all.clone());
        assert_eq!((all.count(), all.average()), (8, u64::MAX / 8));
        let near = of(Fineness::Percents, &[5_000_000, 5_100_000]);
        assert!(near.counts.len() <= 2 * GROUP, "{}", near.counts.len());
    }
}
