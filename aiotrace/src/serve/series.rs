//! The label sets that have series, and how many there may be. A label set is admitted when it first has something to
//! tell, and keeps its series until [`KEPT`] after its last process ended. What does not fit is counted as
//! `process="other"`, which always fits: sums stay right, and no count moves from one series to another.

use std::collections::BTreeMap;

use super::label::Label;

/// How long a label set keeps its series after its last process ended, in seconds: a scrape that fails once or twice
/// finds them still.
pub const KEPT: u64 = 300;
/// How many label sets that did not fit are told apart, to say how many there are.
const MOST_REFUSED: usize = 4096;

/// What is counted, by label set.
#[derive(Debug)]
pub struct Series<V> {
    most: usize,
    admitted: BTreeMap<Label, Entry<V>>,
    other: V,
    /// When those that did not fit were last met.
    refused: BTreeMap<Label, u64>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    met: u64,
}

impl<V: Default> Series<V> {
    /// At most so many label sets beside `process="other"`.
    pub fn new(most: usize) -> Self {
        Self { most, admitted: BTreeMap::new(), other: V::default(), refused: BTreeMap::new() }
    }

    /// A process of this label set is there at this time (seconds of any clock). Gives the label set under which it
    /// is counted.
    pub fn meet(&mut self, label: &Label, now: u64) -> Label {
        if let Some(entry) = self.admitted.get_mut(label) {
            entry.met = now;
            return label.clone();
        }
        if *label == Label::other() {
            return Label::other();
        }
        if self.admitted.len() < self.most {
            self.refused.remove(label);
            self.admitted.insert(label.clone(), Entry { value: V::default(), met: now });
            return label.clone();
        }
        if self.refused.len() < MOST_REFUSED || self.refused.contains_key(label) {
            self.refused.insert(label.clone(), now);
        }
        Label::other()
    }

    /// What is counted for a label set that [`Self::meet`] gave.
    pub fn value(&mut self, label: &Label) -> &mut V {
        match self.admitted.get_mut(label) {
            Some(entry) => &mut entry.value,
            None => &mut self.other,
        }
    }

    /// Drops the series of label sets that were not met for [`KEPT`].
    pub fn expire(&mut self, now: u64) {
        let is_kept = |met: u64| now.saturating_sub(met) < KEPT;
        self.admitted.retain(|_, it| is_kept(it.met));
        self.refused.retain(|_, met| is_kept(*met));
    }

    /// How many label sets did not fit lately.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// All label sets with what is counted, `process="other"` last.
    pub fn all(&self) -> impl Iterator<Item = (Label, &V)> {
        let admitted = self.admitted.iter().map(|(label, it)| (label.clone(), &it.value));
        admitted.chain([(Label::other(), &self.other)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::label::Labels;

    fn label(name: &str) -> Label {
        Labels::default().of(1, Some(name.into()))
    }

    fn add(series: &mut Series<u64>, name: &str, now: u64, count: u64) {
        let place = series.meet(&label(name), now);
        *series.value(&place) += count;
    }

    fn sum(series: &Series<u64>) -> u64 {
        series.all().map(|it| it.1).sum()
    }

    #[test]
    fn what_does_not_fit_is_other_and_stays_there() {
        let mut series = Series::new(2);
        for (name, count) in [("a", 1), ("b", 2), ("c", 4), ("d", 8), ("c", 16)] {
            add(&mut series, name, 0, count);
        }
        assert_eq!((sum(&series), *series.value(&Label::other())), (31, 28));
        assert_eq!(series.refused(), 2);
        // `a` is gone: its room goes to the next one, which begins at 0. Nothing of the others moves.
        add(&mut series, "b", KEPT, 0);
        series.expire(KEPT);
        add(&mut series, "c", KEPT, 32);
        assert_eq!(*series.value(&label("c")), 32);
        assert_eq!(*series.value(&Label::other()), 28);
    }

    #[test]
    fn series_are_kept_for_a_while_after_the_end() {
        let mut series = Series::new(9);
        add(&mut series, "a", 100, 1);
        series.expire(100 + KEPT - 1);
        assert_eq!(series.all().count(), 2);
        series.expire(100 + KEPT);
        assert_eq!(series.all().count(), 1, "other is always there");
    }

    #[test]
    fn a_process_that_calls_itself_other_makes_no_second_series() {
        let mut series = Series::new(2);
        add(&mut series, "other", 0, 5);
        assert_eq!((series.all().count(), sum(&series)), (1, 5));
    }

    #[test]
    fn names_that_come_and_go_are_bounded() {
        let mut series = Series::new(10);
        for index in 0..20_000 {
            add(&mut series, &format!("name {index}"), index / 100, 1);
        }
        assert_eq!((series.all().count(), sum(&series)), (11, 20_000));
        assert!(series.refused() <= MOST_REFUSED, "{}", series.refused());
    }
}
