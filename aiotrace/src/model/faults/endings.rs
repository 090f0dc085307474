//! What shows in that nothing follows: time passes, the process ends, the trace ends.

use std::collections::BTreeMap;

use super::{
    Faults,
    watched::{Kind, Watched},
};
use crate::{
    event::ExitStatus,
    model::{
        Model,
        verdict::{HUNG_AFTER, Outcome},
    },
};

impl Faults {
    /// What follows is not known for sure; `None`: of nobody.
    pub fn unsure(&mut self, space: Option<u64>) {
        let is_meant = |it: &&mut Watched| space.is_none_or(|space| it.space == space);
        self.watched.values_mut().filter(is_meant).for_each(|it| it.unsure = true);
    }

    /// An address space that stood for a process has become known.
    pub fn moved(&mut self, from: u64, to: u64) {
        let is_meant = |it: &&mut Watched| it.space == from;
        self.watched.values_mut().filter(is_meant).for_each(|it| it.space = to);
        let wanted: Vec<_> = self.wanted.extract_if(|(space, _), _| *space == from).collect();
        for ((_, want), mut list) in wanted {
            self.wanted.entry((to, want)).or_default().append(&mut list);
        }
        if let Some(activity) = self.active.remove(&from) {
            self.active.insert(to, activity);
        }
    }

    /// The address space is gone: its last process exited, or runs another program (no status).
    pub fn ended(&mut self, space: u64, exit: Option<ExitStatus>) {
        let calls = self.active.remove(&space).map_or(0, |it| it.calls);
        if self.completed.len() + self.changed.len() > 0 {
            self.completed.retain(|(of, _), _| *of != space);
            self.changed.retain(|(of, _), _| *of != space);
        }
        let is_meant = |(_, it): &(&u64, &Watched)| it.space == space;
        let numbers: Vec<u64> = self.watched.iter().filter(is_meant).map(|it| *it.0).collect();
        for number in numbers {
            let Some(watched) = self.watched.get(&number) else { continue };
            match watched.told {
                None | Some((Outcome::Hung, _)) => {
                    let outcome = watched.without_sequel(exit, calls);
                    let goes_on = outcome == Outcome::GaveUp || watched.has_completed().is_some();
                    self.close(number, outcome, exit.filter(|_| !goes_on));
                }
                Some(_) => self.drop(number),
            }
        }
    }

    /// The trace is over.
    fn finish(&mut self) {
        let numbers: Vec<u64> = self.watched.keys().copied().collect();
        for number in numbers {
            let Some(watched) = self.watched.get(&number) else { continue };
            if watched.told.is_none() {
                let outcome = watched.at_end();
                self.close(number, outcome, None);
            }
        }
    }
}

impl Model {
    /// What shows in that nothing happens.
    pub(in crate::model) fn judge_faults(&mut self) {
        let now = self.now;
        let is_past = |time: u64| time.saturating_add(HUNG_AFTER) <= now;
        let mut outcomes: Vec<(u64, Outcome)> = Vec::new();
        let mut waiting: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
        for (number, it) in self.faults.watched.iter().filter(|(_, it)| it.told.is_none()) {
            if !is_past(it.time) {
                break;
            }
            let activity = self.faults.active.get(&it.space).copied().unwrap_or_default();
            let (left, _) = it.left();
            let is_still = is_past(activity.last);
            let mut waits = || {
                let (in_flight, unreaped) =
                    *waiting.entry(it.space).or_insert_with(|| self.waits(it.space));
                let may_wait = matches!(it.kind, Kind::Call) && it.retries == 0;
                (may_wait && unreaped)
                    || (matches!(it.kind, Kind::Completion { .. }) && (in_flight || unreaped))
            };
            let is_call = matches!(it.kind, Kind::Call);
            let is_read = matches!(it.kind, Kind::Completion { is_write: false, .. });
            let went_on = activity.calls > it.calls && it.retries == 0;
            if let Some(time) = it.has_completed() {
                if is_past(time) {
                    outcomes.push((*number, Outcome::Retried));
                }
            } else if it.unsure {
                // Its end tells.
            } else if it.over.is_some_and(is_past) {
                outcomes.push((*number, if left > 0 { Outcome::Lost } else { Outcome::GaveUp }));
            } else if is_still && it.over.is_none() && (is_refused(it) || waits()) {
                outcomes.push((*number, Outcome::Hung));
            } else if went_on && (is_call || is_read) && !is_still {
                outcomes.push((*number, Outcome::GaveUp));
            }
        }
        for (number, outcome) in outcomes {
            match outcome {
                Outcome::Retried => self.faults.close(number, outcome, None),
                _ => self.faults.tell(number, outcome, None),
            }
        }
    }

    /// Whether the address space has requests in flight that end by themselves, and completions to reap.
    fn waits(&self, space: u64) -> (bool, bool) {
        let contexts = self.contexts.iter().filter(|((of, _), _)| *of == space).map(|it| it.1);
        contexts.fold((false, false), |(in_flight, unreaped), it| {
            let ends = it.requests.iter().any(|it| !it.is_poll());
            (in_flight || ends, unreaped || it.requests.unreaped() > 0)
        })
    }

    /// The trace is over.
    pub(in crate::model) fn end_faults(&mut self) {
        self.judge_faults();
        self.faults.finish();
    }
}

/// Whether io_submit did not take it, and still has not.
fn is_refused(it: &Watched) -> bool {
    matches!(it.kind, Kind::Submit { .. }) && it.left().0 > 0
}
