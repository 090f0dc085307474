//! What to do after the runs of a point: make another one, or tell what came of it. A busy machine makes programs slow
//! and hides some of what they do, and what cannot be repeated helps nobody. So a bad outcome is told only if it was
//! seen twice.

use super::outcome::Outcome;

/// Most runs that show too little; then that is told.
const FEW: usize = 4;
/// Most runs, if one of them was bad.
const MANY: usize = 5;

/// What one run showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its outcome.
    pub outcome: Outcome,
    /// It showed enough for that.
    pub sure: bool,
    /// No other run went on at the same time.
    pub alone: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another run, alone.
    Again,
    /// This outcome is told.
    Tell {
        /// The outcome.
        outcome: Outcome,
        /// The run that shows it, from 0.
        run: usize,
    },
}

/// What comes after these runs of a point.
pub fn next(runs: &[Seen], is_bad: impl Fn(Outcome) -> bool) -> Next {
    let Some(last) = runs.len().checked_sub(1) else { return Next::Again };
    let tell = |outcome, run| Next::Tell { outcome, run };
    // Beside others, a run may be slow for no reason of its own.
    let counts = |it: &Seen| it.sure && (it.alone || it.outcome != Outcome::Hung);
    let all = || (0..).zip(runs);
    let bad: Vec<usize> =
        all().filter(|(_, it)| counts(it) && is_bad(it.outcome)).map(|it| it.0).collect();
    let times = |outcome| runs.iter().filter(|it| it.sure && it.outcome == outcome).count();
    if let Some(run) = bad.iter().rev().find(|it| times(runs[**it].outcome) > 1) {
        return tell(runs[*run].outcome, *run);
    }
    let good = all().filter(|(_, it)| counts(it) && !is_bad(it.outcome)).map(|it| it.0).last();
    let worst = bad.iter().copied().min_by_key(|it| runs[*it].outcome);
    match (worst, good) {
        (Some(worst), Some(_)) => tell(Outcome::Flaky, worst),
        (Some(_), None) if runs.len() < MANY => Next::Again,
        (Some(worst), None) => tell(Outcome::Flaky, worst),
        (None, Some(good)) => tell(runs[good].outcome, good),
        (None, None) if runs.len() < FEW => Next::Again,
        (None, None) => tell(runs[last].outcome, last),
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome::*, *};

    /// Runs that were sure and alone, except those that are never sure.
    fn runs(outcomes: &[Outcome]) -> Vec<Seen> {
        let seen = |it: &Outcome| Seen {
            outcome: *it,
            sure: !matches!(it, Unsure | NotMade),
            alone: true,
        };
        outcomes.iter().map(seen).collect()
    }

    fn is_bad(it: Outcome) -> bool {
        matches!(it, Corrupt | Lost | Died | Hung | Leaked)
    }

    fn after(outcomes: &[Outcome]) -> Next {
        next(&runs(outcomes), is_bad)
    }

    #[test]
    fn what_is_bad_is_told_after_it_was_seen_twice() {
        let tell = |outcome, run| Next::Tell { outcome, run };
        let cases: &[(&[Outcome], Next)] = &[
            (&[], Next::Again),
            (&[Recovered], tell(Recovered, 0)),
            (&[NotReached], tell(NotReached, 0)),
            (&[Lost], Next::Again),
            (&[Lost, Lost], tell(Lost, 1)),
            (&[Lost, Recovered], tell(Flaky, 0)),
            (&[Unsure, Unsure, Lost], Next::Again),
            (&[Unsure, Unsure, Lost, Lost], tell(Lost, 3)),
            (&[Unsure, Unsure, Lost, Reported], tell(Flaky, 2)),
            (&[Unsure, Unsure, Unsure, Lost], Next::Again),
            (&[Lost, Unsure], Next::Again),
            (&[Lost, Unsure, Lost], tell(Lost, 2)),
            (&[Lost, Unsure, Unsure, Unsure, Unsure], tell(Flaky, 0)),
            (&[Lost, Died], Next::Again),
            (&[Lost, Died, Lost], tell(Lost, 2)),
            (&[Hung, Died, Leaked, Recovered], tell(Flaky, 1)),
            (&[Unsure, Recovered], tell(Recovered, 1)),
            (&[Unsure, Unsure, NotMade], Next::Again),
            (&[Unsure, Unsure, Unsure, NotMade], tell(NotMade, 3)),
        ];
        for (outcomes, expected) in cases {
            assert_eq!(after(outcomes), *expected, "{outcomes:?}");
        }
    }

    /// It may have been the other runs; it counts if it hangs alone, too.
    #[test]
    fn what_hung_beside_others_is_no_other_outcome() {
        let after = |outcomes: &[Outcome]| {
            let mut runs = runs(outcomes);
            runs[0].alone = false;
            next(&runs, is_bad)
        };
        assert_eq!(after(&[Hung]), Next::Again);
        assert_eq!(after(&[Hung, Hung]), Next::Tell { outcome: Hung, run: 1 });
        assert_eq!(after(&[Hung, Recovered]), Next::Tell { outcome: Recovered, run: 1 });
        assert_eq!(after(&[Hung, Lost]), Next::Again);
        assert_eq!(after(&[Hung, Lost, Lost]), Next::Tell { outcome: Lost, run: 2 });
        assert_eq!(after(&[Lost, Lost]), Next::Tell { outcome: Lost, run: 1 });
    }

    #[test]
    fn what_is_bad_is_what_the_user_says() {
        let only_reported = |it| it == Reported;
        assert_eq!(next(&runs(&[Reported]), only_reported), Next::Again);
        let tell = Next::Tell { outcome: Lost, run: 0 };
        assert_eq!(next(&runs(&[Lost]), only_reported), tell);
    }

    #[test]
    fn a_run_whose_trace_has_no_end_is_made_again() {
        let killed = Seen { outcome: Unsure, sure: false, alone: true };
        assert_eq!(next(&[killed], is_bad), Next::Again);
    }

    #[test]
    fn any_runs_come_to_an_end() {
        for number in 0..11_usize.pow(5) {
            let mut rest = number;
            let mut outcomes = Vec::new();
            while after(&outcomes) == Next::Again {
                outcomes.push(Outcome::ALL[rest % 11]);
                rest /= 11;
            }
            assert!(outcomes.len() <= MANY, "{outcomes:?}");
        }
    }
}
