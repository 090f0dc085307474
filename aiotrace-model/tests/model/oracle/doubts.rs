//! Judges the reasons for which a verdict is unsure: there must be one.

use aiotrace_model::model::{Doubt, Going};

use super::{
    judge::Case,
    plan::{Deal, Plan, Step},
};

impl Case<'_> {
    /// Whether the program did something else before it tried one of the requests again.
    fn did_other(&self) -> bool {
        let (fault, truth) = (self.fault, self.truth());
        // Of a program that reaps from the ring it is not known since when it could try again.
        if self.is_of_completion() && self.player.plan.steps.iter().any(is_by_hand) {
            return true;
        }
        fault.jobs.iter().any(|(job, _)| {
            let next = truth.next_try(*job, fault.time);
            let tries = truth.tries(*job, fault.time);
            next.is_some_and(|it| truth.does_other(fault, (fault.time, it), false)) || tries > 1
        })
    }

    /// Whether one of the requests came again that late.
    fn came_late(&self) -> bool {
        let next = |it: &(usize, u64)| self.truth().next_try(it.0, self.fault.time);
        let late = self.fault.time + 1_000_000_000;
        let done = |it: &(usize, u64)| self.truth().is_done_after(it.0, late);
        self.fault.jobs.iter().filter_map(next).any(|it| it > late)
            || self.fault.jobs.iter().any(done)
    }

    /// Whether a request was accepted between a fault and the next io_getevents.
    pub fn submitted_before_next_call(&self) -> bool {
        let next = self.fault.next_call.unwrap_or(0);
        self.truth().is_given_within(self.fault.time, next)
    }

    /// Why it is unsure.
    pub fn judge_doubt(&self) {
        let plan = self.player.plan;
        let has = |is: fn(&Deal) -> bool| plan.deals.iter().any(is);
        let is_so = match self.verdict.doubt {
            None => false,
            // There are too many reasons; how often it is so is counted.
            Some(_) if plan.is_busy() => true,
            Some(Doubt::NotWatched) => !plan.watches,
            Some(Doubt::Submitted) if !self.fault.jobs.is_empty() => {
                self.did_other() || self.is_lossy()
            }
            Some(Doubt::Submitted) => self.submitted_before_next_call() || self.is_lossy(),
            Some(Doubt::Late) if !self.fault.jobs.is_empty() => self.came_late() || self.is_lossy(),
            // How many are to be reaped is different from call to call.
            Some(Doubt::OtherArguments) => self.fault.next_call.is_some(),
            Some(Doubt::Late) => {
                let next = self.fault.next_call.unwrap_or(0);
                next > self.fault.time + 1_000_000_000 || self.is_lossy()
            }
            Some(Doubt::Lost | Doubt::Unread) => self.is_lossy(),
            Some(Doubt::UnknownPlace) => has(|it| matches!(it, Deal::Somewhere)),
            // Of vectors only the first offset is known.
            Some(Doubt::UnknownLength) => has_doubtful(plan) || has_vectors(plan),
            Some(Doubt::Fdatasync) => {
                let truth = self.truth();
                self.fault.jobs.iter().any(|it| truth.is_synced_in_part(it.0, self.fault.time))
            }
            // Each descriptor has ranges of its own; only a sync is about more.
            Some(Doubt::OtherDescriptor) => {
                let (truth, time) = (self.truth(), self.fault.time);
                let mut jobs = self.fault.jobs.iter();
                has_doubtful(plan) || jobs.any(|it| truth.is_synced_elsewhere(it.0, time))
            }
            // (A lost io_getevents looks the same.)
            Some(Doubt::InRing) => plan.steps.iter().any(is_by_hand) || self.is_lossy(),
            Some(Doubt::Unlooked) => !plan.looks.come,
            Some(Doubt::Mapped | Doubt::Unseen) => has(|it| matches!(it, Deal::Map)),
            Some(Doubt::OtherBuffer) => has(|it| matches!(it, Deal::OtherMemory)),
            Some(Doubt::Exec) => self.verdict.going == Some(Going::Exec),
            // While the process goes on, it may still reap what is left.
            Some(Doubt::Unreaped) => {
                let goes_on = self.verdict.going == Some(Going::Running);
                self.fault.jobs.is_empty()
                    && (self.player.left.is_some() || goes_on || self.is_lossy())
            }
            // The programs use an offset of a file more than once. (A request at a new offset is certainly a retry:
            // see the tests of single programs.)
            Some(Doubt::Used) => true,
            Some(_) => false,
        };
        self.check(is_so, "no reason to be unsure");
    }
}

/// It reaps from the ring.
pub fn is_by_hand(step: &Step) -> bool {
    matches!(step, Step::Reap { from_ring: true, .. })
}

/// Synchronous calls of which it cannot be seen what they did: those at a place that is not told, and pieces of vectors.
pub fn has_doubtful(plan: &Plan) -> bool {
    let is_doubtful = |it: &Deal| {
        matches!(
            it,
            Deal::Somewhere
                | Deal::Synchronously { .. }
                | Deal::Halfway
                | Deal::Map
                | Deal::OtherMemory
        )
    };
    plan.deals.iter().any(is_doubtful)
}

/// Whether the plan has vectored requests: while one is in flight, what it does beyond its offset is unknown.
pub fn has_vectors(plan: &Plan) -> bool {
    let is_one = |it: &Step| matches!(it, Step::Submit { opcodes, .. } if opcodes.contains(&8));
    plan.steps.iter().any(is_one)
}
