//! Compares the verdicts and findings of the model with the truth.

use std::collections::BTreeMap;

use aiotrace_model::{
    event::ExitStatus,
    model::{Finding, Going, Half, Name, Outcome, Severity, Verdict, verdict::Cause},
};

use super::{
    doubts::{has_doubtful, has_vectors},
    fate::Fate,
    plan::{End, Step},
    play::{OTHER, Player},
    truth::{Fault, Short, Truth},
};

/// Judges everything, and returns the last verdict on each fault, in the order of the faults.
pub fn judge(player: Player<'_>) -> Vec<Verdict> {
    let mut last: BTreeMap<u64, Verdict> = BTreeMap::new();
    for (_, verdict) in &player.verdicts {
        let before = last.insert(verdict.time, verdict.clone());
        assert_eq!(before.is_some(), verdict.anew, "{verdict:?}");
    }
    let told = player.truth.faults.iter().filter(|it| it.is_told);
    let told: Vec<&Fault> = told.collect();
    for fault in &told {
        let verdict = last.get(&fault.time);
        let verdict = verdict.unwrap_or_else(|| panic!("no verdict: {fault:?}"));
        let case = Case { player: &player, fault, verdict };
        case.judge();
    }
    assert_eq!(last.len(), told.len(), "a verdict for each fault, and no other");
    let rows = player.model.report().faults;
    for outcome in Outcome::ALL {
        let count = |it: &aiotrace_model::model::FaultRow| {
            it.outcomes.iter().filter(|it| it.0 == outcome).map(|it| it.1).sum::<u64>()
        };
        let ought = last.values().filter(|it| it.outcome == outcome).count() as u64;
        assert_eq!(rows.iter().map(count).sum::<u64>(), ought, "{outcome:?} in the report");
    }
    player.findings.iter().for_each(|it| judge_finding(&player, it));
    judge_shorts(&player);
    last.into_values().collect()
}

pub struct Case<'a> {
    pub player: &'a Player<'a>,
    pub fault: &'a Fault,
    pub verdict: &'a Verdict,
}

impl Case<'_> {
    pub fn truth(&self) -> &Truth {
        &self.player.truth
    }

    /// Whether a record was lost before the verdict.
    pub fn is_lossy(&self) -> bool {
        self.player.lost_since.is_some()
    }

    pub fn is_of_completion(&self) -> bool {
        self.fault.cause == Cause::Completion
    }

    pub fn fates(&self) -> Vec<Fate> {
        let is_it = |it: &&(u64, Verdict)| it.1.time == self.fault.time && it.1.half != Half::Open;
        let verdict = self.player.verdicts.iter().find(is_it).map_or(u64::MAX, |it| it.0);
        let is_its = self.is_of_completion();
        let fate = |it: &(usize, u64)| self.truth().fate(self.fault, it.0, verdict, is_its);
        self.fault.jobs.iter().map(fate).collect()
    }

    fn judge(&self) {
        let (fault, verdict) = (self.fault, self.verdict);
        assert_eq!((verdict.cause, verdict.ret), (fault.cause, fault.ret), "{verdict:?}");
        let outcome = Outcome::of(verdict.half, verdict.going);
        assert_eq!(verdict.outcome, outcome, "{verdict:?}");
        self.judge_subject();
        self.judge_half();
        self.judge_going();
    }

    #[track_caller]
    pub fn wrong(&self, what: &str) -> ! {
        let deeds: Vec<_> =
            self.fault.jobs.iter().map(|it| (self.truth().works[it.0], it)).collect();
        panic!(
            "{what}: {}\n{:?}\nfates {:?} of {deeds:?}\n{:?}",
            self.verdict.message(),
            self.verdict,
            self.fates(),
            self.fault
        )
    }

    #[track_caller]
    pub fn check(&self, is_so: bool, what: &str) {
        if !is_so {
            self.wrong(what);
        }
    }

    /// Judges the request of the verdict. After a loss, an iocb may be taken for that of an earlier request, but then
    /// the verdict is unsure.
    fn judge_subject(&self) {
        if self.is_lossy() && self.verdict.half == Half::Unsure {
            return;
        }
        let Some(first) = self.verdict.first else {
            let is_known = !self.fault.jobs.is_empty() && self.is_of_completion();
            return self.check(!is_known || self.is_lossy(), "a request without a name");
        };
        let is_one = self.fault.jobs.iter().any(|(job, iocb)| {
            let work = self.truth().works[*job];
            (first.opcode.0, first.fd, first.offset, first.nbytes, first.iocb)
                == (work.opcode, work.fd, work.offset, work.nbytes, *iocb)
        });
        self.check(is_one, "another request");
    }

    fn judge_half(&self) {
        let verdict = self.verdict;
        let fates = self.fates();
        if let Cause::Call(_) = self.fault.cause
            && self.fault.jobs.is_empty()
        {
            let is_retried = self.fault.calls_after > 0;
            return match verdict.half {
                Half::Retried => {
                    self.check(is_retried, "not tried again");
                    let is_other = self.submitted_before_next_call();
                    self.check(!is_other || self.is_lossy(), "it may be for other requests");
                    // What was submitted after the next call, that did not wait for.
                    let next = self.fault.next_call.unwrap_or(u64::MAX);
                    let is_left = self.player.left.is_some_and(|it| it < next) && !self.is_lossy();
                    self.check(!is_left, "it may have counted for a wait");
                }
                Half::Lost | Half::Leaked | Half::Done => self.wrong("nothing is at stake"),
                Half::GaveUp => self.check(!is_retried || self.is_lossy(), "it was tried again"),
                Half::Open => self.check(!is_retried || self.is_lossy(), "it is known"),
                Half::Unsure => self.judge_doubt(),
            };
        }
        let count = |is: fn(&Fate) -> bool| fates.iter().filter(|it| is(it)).count() as u64;
        let never = count(|it| *it == Fate::Never);
        let perhaps = count(|it| *it == Fate::Perhaps);
        let done = count(|it| *it == Fate::Done);
        let again = count(|it| matches!(it, Fate::Again { .. } | Fate::Next));
        // A sync that was made again is done by a call, too, if that came later.
        let synced = self.count_synced(&fates);
        let is_poll = self.is_of_completion() && self.truth().is_poll(self.fault.jobs[0].0);
        let is_clear = !self.is_lossy() && self.player.plan.watches && !self.player.plan.is_busy();
        match verdict.half {
            Half::Retried => {
                // A failed completion counts as retried, too, if the retry was refused: "never succeeded".
                let is_in_vain = self.is_of_completion() && !verdict.succeeded;
                self.check(never == 0 || is_in_vain, "not all was done");
                let is_known = is_in_vain || self.is_lossy() || self.player.world.has_hidden();
                self.check(perhaps == 0 || is_known, "perhaps not all was done");
                let is_tried = |it: &(usize, u64)| self.truth().is_tried(it.0, self.fault.time);
                let is_again = again > 0 || self.fault.jobs.iter().any(is_tried);
                let is_hidden = perhaps > 0 && is_known;
                self.check(is_again || is_hidden, "nothing was submitted again");
                self.judge_retry();
                if verdict.succeeded {
                    let is_done = |it: &Fate| matches!(it, Fate::Again { is_done: false });
                    self.check(!fates.iter().any(is_done), "it did not succeed");
                }
            }
            Half::Done => {
                // A retry may have been lost.
                let is_other = again > synced && !self.is_lossy();
                self.check(never == 0 && !is_other, "not all was done by synchronous calls");
                let (_, told) = verdict.done.unwrap_or_else(|| self.wrong("done by what"));
                let is_known = self.is_lossy() || self.player.world.has_hidden();
                self.check(told == done + synced || is_known, "done so many times");
            }
            Half::GaveUp => self.check(is_poll && again + done == 0, "something was at stake"),
            Half::Lost => {
                self.check(never > 0 && !is_poll, "nothing was lost");
                self.check(verdict.lost <= never, "fewer were lost");
                // For some requests the model may not know it.
                let is_known =
                    is_clear && !has_doubtful(self.player.plan) && !has_vectors(self.player.plan);
                let in_part =
                    |it: &(usize, u64)| self.truth().is_synced_in_part(it.0, self.fault.time);
                let is_known = is_known && !self.fault.jobs.iter().any(in_part);
                self.check(verdict.lost == never || !is_known, "more were lost");
                self.check(self.player.plan.watches, "synchronous calls were not watched");
                self.check(
                    self.player.plan.looks.come,
                    "nobody has looked what else may have done it",
                );
                self.check(verdict.going != Some(Going::Exec), "the next program may do it");
            }
            Half::Leaked => self.wrong("no context was lost"),
            Half::Open => {
                let is_open = self.player.end.is_none_or(|it| it == End::Signal(9));
                self.check(is_open, "it is over");
                let is_over = |it: &Fate| matches!(it, Fate::Again { is_done: true } | Fate::Done);
                self.check(!is_clear || !fates.iter().all(is_over), "all is done");
            }
            Half::Unsure => self.judge_doubt(),
        }
    }

    /// How many of the requests are syncs that were submitted again, and done by a synchronous call after the fault.
    fn count_synced(&self, fates: &[Fate]) -> u64 {
        let (truth, time) = (self.truth(), self.fault.time);
        let is_again = |it: &Fate| matches!(it, Fate::Again { .. } | Fate::Next);
        let all = self.fault.jobs.iter().map(|it| it.0).zip(fates).filter(|it| is_again(it.1));
        let is_synced = |job: usize| !truth.moves_data(job) && truth.is_done_after(job, time);
        all.filter(|it| is_synced(it.0)).count() as u64
    }

    /// It is told for sure that it was tried again: nothing shows that it was the next one instead.
    fn judge_retry(&self) {
        let (fault, truth) = (self.fault, self.truth());
        // Of a program that reaps from the ring it is not known.
        let known = fault.known.unwrap_or(fault.time);
        let told = self.player.verdicts.iter().rfind(|it| it.1.time == fault.time);
        let told = told.map_or(0, |it| it.0);
        let retried = fault.jobs.iter().zip(self.fates()).filter(|it| it.1 != Fate::Done);
        for ((job, _), _) in retried {
            let Some(next) = truth.next_like(*job, fault.time) else { continue };
            let is_other = truth.does_other(fault, (known, next), true);
            self.check(!is_other || self.is_lossy(), "the program did something else in between");
            let is_one = |it: &&Fault| it.jobs.iter().any(|it| it.0 == *job);
            let is_only = truth.faults.iter().filter(is_one).count() == 1;
            // Once as the first one, whose completion met the fault, and once as its retry.
            let most = if self.is_of_completion() { 2 } else { 1 };
            let is_known = is_only && truth.moves_data(*job) && !self.is_lossy();
            let is_used = truth.uses(*job, told) > most;
            self.check(!is_known || !is_used, "the program uses the place again and again");
        }
    }

    fn judge_going(&self) {
        let Some(going) = self.verdict.going else {
            return self.check(self.verdict.next_fault, "how it went on");
        };
        let is_quiet = self.player.now - self.truth().last >= 5_000_000_000;
        let ended = match self.player.end {
            Some(End::Exit(code)) => Going::Ended(ExitStatus::Code(code.into())),
            Some(End::Signal(number)) => Going::Ended(ExitStatus::Signal(number.into())),
            Some(End::Exec) => Going::Exec,
            Some(End::Stays) | None => Going::Running,
        };
        let is_right = match going {
            Going::Hung => {
                let is_open = matches!(ended, Going::Running | Going::Ended(ExitStatus::Signal(9)));
                // A call may have been lost, which nobody knew at the time of the verdict.
                is_open && (is_quiet || self.is_lossy())
            }
            // The process was still running at the time of the verdict, and its end does not change the kind of the
            // verdict.
            Going::Running => {
                let kind = Outcome::of(self.verdict.half, Some(ended));
                ended == going || kind == self.verdict.outcome
            }
            going => going == ended,
        };
        self.check(is_right, "how it ended");
    }
}

/// Judges a finding: an error, or a warning that blames the program for what a fault did.
fn judge_finding(player: &Player<'_>, it: &Finding) {
    let is_lossy = player.lost_since.is_some();
    let has_refusals =
        player.plan.steps.iter().any(|it| matches!(it, Step::Submit { bad: true, .. }));
    if it.pid == OTHER {
        return;
    }
    let is_allowed = match it.name {
        // These have a judge of their own.
        Name::ShortSubmitDropped => true,
        Name::DiscardedRequests => !player.plan.destroys || player.end.is_some() || is_lossy,
        Name::SubmitEagain | Name::InlineCompletion | Name::ReleasedAtExit => true,
        Name::ShortIo if player.plan.around.ends => it.severity < Severity::Warning,
        Name::FailedCompletion | Name::DirectIoMisaligned | Name::ShortIo => false,
        _ => has_refusals || it.severity < Severity::Warning,
    };
    let is_unsure = is_lossy && it.doubt.is_some() && it.severity < Severity::Error;
    assert!(is_allowed || is_unsure, "not expected: {it:?}");
}

/// Judges the rest of the kernel's own short io_submits: each that was dropped is an error, and nothing else is.
fn judge_shorts(player: &Player<'_>) {
    let (plan, truth) = (player.plan, &player.truth);
    let is_clear = plan.watches && plan.looks.come && player.lost_since.is_none();
    // Synchronous calls are watched for five seconds, and after that for an unknown time.
    let dropped = |watched: u64| {
        let is_dropped = |short: &&Short| {
            short.jobs.iter().any(|job| {
                let until = short.time.saturating_add(watched);
                let fate = truth.fate_after(*job, (short.time, until), false, 0);
                fate == Fate::Never && !truth.is_tried(*job, short.time)
            })
        };
        truth.shorts.iter().filter(is_dropped).count()
    };
    let (dropped, perhaps) = (dropped(u64::MAX), dropped(5_000_000_000));
    let of = || player.findings.iter().filter(|it| it.name == Name::ShortSubmitDropped);
    let errors = of().filter(|it| it.severity == Severity::Error).count();
    assert!(
        errors == 0 || plan.watches,
        "synchronous calls were not watched: {:?}",
        player.findings
    );
    assert!(errors == 0 || perhaps > 0, "nothing was dropped: {:?}", of().collect::<Vec<_>>());
    let ends = matches!(player.end, Some(End::Exit(_)));
    if is_clear && dropped > 0 && ends && !has_doubtful(plan) && !plan.is_busy() {
        assert!(of().count() > 0, "{dropped} were dropped: {:?}", truth.shorts);
    }
}
