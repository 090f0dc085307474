//! How long things took: the one histogram, of what is told event by event and of what the kernel has counted.
//!
//! Its buckets are of equal width from each power of two to the next. How many these are, is its [`Fineness`]. Only
//! the powers of two that occur take memory.

use aiotrace_common::counts::{self, BUCKETS};

/// How fine the buckets are, and so how exact a percentile is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fineness {
    /// Those of [`counts::bucket`], which the probes count in: eight. A percentile is the middle of its bucket, and
    /// off by 6 % at most.
    #[default]
    Kernel,
    /// 16: a percentile is the end of its bucket, so never too short, and too long by 6 % at most.
    Sixteenths,
    /// 128: likewise, by 1 % at most.
    Percents,
}

/// Durations in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    fineness: Fineness,
    /// The bucket of the first of `counts`.
    first: usize,
    counts: Vec<u64>,
    count: u64,
    total: u64,
    /// `None`: it is only known by its bucket.
    shortest: Option<u64>,
    longest: Option<u64>,
}

/// Buckets are added in groups of so many, so that a histogram grows seldom.
const GROUP: usize = 16;

impl Fineness {
    /// Of a power of two there are two to this power.
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
            // Below that, a bucket is one nanosecond.
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

    /// What stands for a duration of which the bucket is known.
    fn typical(self, bucket: usize) -> u64 {
        let (low, high) = self.bounds(bucket);
        if self == Self::Kernel { low + (high - low) / 2 } else { high }
    }
}

impl Histogram {
    /// There is nothing in it.
    pub fn new(fineness: Fineness) -> Self {
        Self { fineness, ..Self::default() }
    }

    /// What a probe has counted, by [`counts::bucket`], with the sum. The shortest and the longest are `None` where
    /// several threads count together.
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

    /// One more.
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

    /// All of the other one. An empty one becomes as fine as that.
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

    /// What was recorded after that, when it was as it is in `before`. The shortest and the longest are then as exact
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
            // What is not known of all is not known of a part.
            (since.shortest, since.longest) = (
                self.shortest.map(|it| since.least().max(it)),
                self.longest.map(|it| since.most().min(it)),
            );
        }
        since
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean; 0 if there is none.
    pub fn average(&self) -> u64 {
        self.total.checked_div(self.count).unwrap_or(0)
    }

    /// The shortest, as far as known; 0 if there is none.
    pub fn least(&self) -> u64 {
        let by_bucket = || self.used().next().map_or(0, |(it, _)| self.fineness.bounds(it).0);
        self.shortest.unwrap_or_else(by_bucket)
    }

    /// The longest, as far as known; 0 if there is none.
    pub fn most(&self) -> u64 {
        let by_bucket = || {
            let last = self.counts.iter().rposition(|it| *it > 0).unwrap_or(0) + self.first;
            match self.fineness.bounds(last) {
                // It has no end.
                (low, u64::MAX) => low,
                (_, high) => high,
            }
        };
        self.longest.unwrap_or_else(|| if self.count == 0 { 0 } else { by_bucket() })
    }

    /// The duration that this part of all did not exceed, as exactly as the [`Fineness`] has it; 0 if there is none.
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

    /// As threads that share a row count.
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
        // Beside some of which they are known.
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
