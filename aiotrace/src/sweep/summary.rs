//! What a sweep comes to: each point that was wanted, and what is known of it.

use super::{
    End, Settings,
    journal::Journal,
    plan::{Plan, Point},
    told::Told,
};

/// What a sweep comes to.
pub struct Summary<'a> {
    /// What was told, in the order of the plan.
    pub told: Vec<&'a Told>,
    /// Points without an outcome that were bad in a run, and are to be run again.
    pub suspected: Vec<&'a Point>,
    /// Points without an outcome.
    pub untried: Vec<&'a Point>,
    /// What was bad before `--iterate`, and could not be made since.
    pub gone: Vec<&'a Told>,
    /// How many points were wanted.
    pub wanted: usize,
}

impl<'a> Summary<'a> {
    /// Of the points that were wanted.
    pub fn of(
        settings: &Settings,
        plan: &'a Plan,
        journal: &'a Journal,
        wanted: &[&'a Point],
    ) -> Self {
        let told = plan.in_order(journal.outcomes(), wanted);
        let is_open = |it: &&Point| journal.told(it.number).is_none();
        let was_bad =
            |it: &&Point| journal.runs(it.number).iter().any(|it| settings.is_bad(it.told.outcome));
        let open = wanted.iter().copied().filter(is_open);
        let (suspected, untried) = open.partition(was_bad);
        let is_gone = |old: &&Told| {
            told.iter().any(|it| it.point == old.point && it.made == 0 && !settings.is_shown(it))
        };
        let gone = journal.before().iter().filter(is_gone).collect();
        Self { told, suspected, untried, gone, wanted: wanted.len() }
    }

    /// How the sweep ended.
    pub fn end(&self, settings: &Settings, is_interrupted: bool) -> End {
        if is_interrupted {
            End::Interrupted
        } else if self.told.iter().any(|it| settings.is_bad(it.outcome)) {
            End::Bad
        } else if !self.suspected.is_empty() || !self.gone.is_empty() {
            End::Unsettled
        } else if self.wanted > 0 && self.told.iter().all(|it| it.made == 0) {
            End::Nothing
        } else {
            End::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Mode, Outcome};

    #[test]
    fn what_is_left_open_is_no_success() {
        let settings = Settings { fail_on: vec![Outcome::Lost], ..Settings::default() };
        let (site, fault) = ("0000000a".to_owned(), "EAGAIN".to_owned());
        let point = Point { number: 1, site, fault, mode: Mode::Once, rule: String::new() };
        let told = |outcome, made| Told { made, ..Told::of(&point, outcome) };
        let (good, bad) = (told(Outcome::Recovered, 1), told(Outcome::Lost, 1));
        let unmade = told(Outcome::NotReached, 0);
        let of = |told: &[&Told], suspected: &[&Point], gone: &[&Told]| {
            let (told, suspected, gone) = (told.to_vec(), suspected.to_vec(), gone.to_vec());
            let summary = Summary { told, suspected, untried: Vec::new(), gone, wanted: 2 };
            summary.end(&settings, false)
        };
        assert_eq!(of(&[&good], &[], &[]), End::Good);
        assert_eq!(of(&[&good, &bad], &[], &[]), End::Bad);
        assert_eq!(of(&[&good], &[&point], &[]), End::Unsettled);
        assert_eq!(of(&[&good, &unmade], &[], &[&bad]), End::Unsettled);
        assert_eq!(of(&[&unmade], &[], &[]), End::Nothing);
        let all = Summary {
            told: vec![&bad],
            suspected: Vec::new(),
            untried: Vec::new(),
            gone: Vec::new(),
            wanted: 1,
        };
        assert_eq!(all.end(&settings, true), End::Interrupted);
    }
}
