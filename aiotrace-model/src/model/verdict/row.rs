//! Faults of the same kind, in the report.

use aiotrace_common::synchronous;

use super::{Cause, Doing, Going, Half, Outcome, in_words};
use crate::{event::ExitStatus, words::number::thousands};

/// Faults of the same kind, in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRow {
    /// The rule, from 1.
    pub rule: u32,
    /// What they were about.
    pub cause: Cause,
    /// What the program got: a negative errno, 0 for a short io_submit, a completion's result. `None`:
    /// nothing, because the call was only delayed, or the fault was not made.
    pub ret: Option<i64>,
    /// Faults made.
    pub made: u64,
    /// Calls that were only delayed.
    pub delayed: u64,
    /// Faults that would have been made, but for `--dry-run`.
    pub dry_run: u64,
    /// Faults that the mechanism could not bring about.
    pub missed: u64,
    /// Faults whose sequel was not followed, because there were too many, or there was nothing to follow.
    pub not_followed: u64,
    /// Verdicts by their kind, each fault once.
    pub outcomes: Vec<(Outcome, u64)>,
    /// The same by their first half: what became of the requests.
    pub halves: Vec<(Half, u64)>,
    /// The same by their second half: how the process went on. (Not of those whose retry met the next fault.)
    pub goings: Vec<(Going, u64)>,
    /// By which call requests were done, the first time.
    pub done_by: Option<synchronous::Call>,
    /// Others were done by other calls.
    pub is_done_by_several: bool,
    /// Those that may still do something, and were tried again.
    pub tried: u64,
    /// The first retry came this long after the fault, or sooner; nanoseconds.
    pub within: Option<u64>,
    /// Of those that were retried, with success.
    pub succeeded: u64,
    /// No fault of any row was followed by a success, as far as all of them were followed.
    pub is_hopeless: bool,
    /// Of those that were retried, never with success.
    pub in_vain: u64,
    /// Requests that were not done, of all verdicts.
    pub lost: u64,
    /// Of these, how many may still be done, or may have been.
    pub open: u64,
    /// Faults after which requests were lost and the process exited with status 0.
    pub silent: u64,
}

/// What a rule was asked, and whether it acted: also if it never did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// The rule, from 1.
    pub rule: u32,
    /// As it was written.
    pub text: String,
    /// Calls (or completions) of the kind that it is about.
    pub asked: u64,
    /// Of these, those about a request as op= and fd= have it.
    pub described: u64,
    /// How often it acted, or would have.
    pub acted: u64,
    /// Why it never did, if that is known.
    pub why: Option<String>,
}

impl RuleRow {
    /// `never acted: it was asked about 0 calls; no io_cancel was called`
    pub fn in_words(&self) -> String {
        let what = match (self.text.starts_with("complete:"), self.asked) {
            (true, 1) => "completion",
            (true, _) => "completions",
            (false, 1) => "call",
            (false, _) => "calls",
        };
        let asked = format!("asked about {} {what}", thousands(self.asked));
        let why = self.why.as_ref().map_or_else(String::new, |why| format!("; {why}"));
        match self.acted {
            0 => format!("{} never acted: {asked}{why}", self.text),
            acted => format!("{} acted on {}, {asked}", self.text, thousands(acted)),
        }
    }
}

impl FaultRow {
    /// No fault yet.
    pub fn new(rule: u32, cause: Cause, ret: Option<i64>) -> Self {
        Self {
            rule,
            cause,
            ret,
            made: 0,
            delayed: 0,
            dry_run: 0,
            missed: 0,
            not_followed: 0,
            outcomes: Vec::new(),
            halves: Vec::new(),
            goings: Vec::new(),
            done_by: None,
            is_done_by_several: false,
            tried: 0,
            within: None,
            succeeded: 0,
            is_hopeless: false,
            in_vain: 0,
            lost: 0,
            open: 0,
            silent: 0,
        }
    }

    /// `io_submit EAGAIN x 14: 13 retried within 2.00ms, 1 lost 3 requests; exited with status 1`
    pub fn in_words(&self) -> String {
        let made = self.made + self.delayed;
        let times = if made > 0 { format!(" x {}", thousands(made)) } else { String::new() };
        let decided: u64 = self.outcomes.iter().map(|it| it.1).sum();
        let open = self.made.saturating_sub(self.not_followed + decided);
        let mut parts: Vec<String> =
            self.halves.iter().map(|(half, count)| self.counted(*half, *count)).collect();
        let others = [
            (open, "not decided yet"),
            (self.delayed, "delayed"),
            (self.not_followed, "not followed"),
            (self.dry_run, "would have been made (dry run)"),
            (self.missed, "could not be made"),
        ];
        let others = others.iter().filter(|it| it.0 > 0);
        parts.extend(others.map(|(count, what)| format!("{} {what}", thousands(*count))));
        format!("{}{times}: {}{}", self.cause.with(self.ret), parts.join(", "), self.endings())
    }

    /// The same words about several processes or faults, of which these are about the one that stood still for the
    /// shortest time.
    pub fn at_least(words: &str) -> String {
        words.replacen("call for ", "call for at least ", 1)
    }

    /// `; exited with status 1`, or `; 3 exited with status 0, 1 died by SIGABRT`
    fn endings(&self) -> String {
        let is_still = |it: &Going| matches!(it, Going::TimedOut(Doing::Nothing(_)));
        let others = self.goings.iter().filter(|it| !is_still(&it.0));
        let others = others.map(|(it, count)| (it.in_words(), *count));
        // How long they stood still is not the same for all of them; the shortest time comes first.
        let still: Vec<_> = self.goings.iter().filter(|it| is_still(&it.0)).collect();
        let still = still.first().map(|(least, _)| {
            let least = least.in_words();
            let words = if still.len() > 1 { Self::at_least(&least) } else { least };
            (words, still.iter().map(|it| it.1).sum())
        });
        let all: Vec<(String, u64)> = others.chain(still).collect();
        match &all[..] {
            [] => String::new(),
            [(words, _)] => format!("; {words}"),
            several => {
                let each =
                    several.iter().map(|(words, count)| format!("{} {words}", thousands(*count)));
                format!("; {}", each.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Whether what followed one of these faults may have been a success.
    pub(in crate::model) fn may_be_well(&self) -> bool {
        let is_well = |half: Half| matches!(half, Half::Done | Half::Unsure);
        let decided: u64 = self.outcomes.iter().map(|it| it.1).sum();
        let is_open = self.made > decided;
        self.succeeded > 0 || is_open || self.halves.iter().any(|it| is_well(it.0))
    }

    /// One more verdict, or one less: it was revised.
    pub(in crate::model) fn count(
        &mut self,
        (outcome, half, going): (Outcome, Half, Option<Going>),
        lost: u64,
        is_more: bool,
    ) {
        tally(&mut self.outcomes, outcome, is_more);
        tally(&mut self.halves, half, is_more);
        if let Some(going) = going {
            tally(&mut self.goings, going, is_more);
        }
        let exited = going == Some(Going::Ended(ExitStatus::Code(0)));
        let silent = u64::from(outcome == Outcome::Lost && exited);
        let open = if half == Half::Lost { 0 } else { lost };
        for (sum, count) in
            [(&mut self.lost, lost), (&mut self.open, open), (&mut self.silent, silent)]
        {
            *sum = if is_more { *sum + count } else { sum.saturating_sub(count) };
        }
    }

    /// How many of these the program told by its status: ` (reported)`.
    fn reported(&self, of: u64) -> String {
        match self.outcomes.iter().find(|it| it.0 == Outcome::Reported).map_or(0, |it| it.1) {
            0 => String::new(),
            all if all >= of => " (reported)".to_owned(),
            some => format!(" ({} reported)", thousands(some)),
        }
    }

    fn counted(&self, half: Half, count: u64) -> String {
        let requests = |count| {
            if count == 1 {
                "1 request".to_owned()
            } else {
                format!("{} requests", thousands(count))
            }
        };
        let open = match self.open {
            0 => String::new(),
            some => format!(" ({} not done)", requests(some)),
        };
        let many = thousands(count);
        match half {
            Half::Retried if self.is_hopeless => format!("{many} retried, none succeeded"),
            // What came of the next faults their own rows say.
            Half::Retried if self.succeeded + self.in_vain == 0 => match count {
                1 => "1 retried, met the next fault".to_owned(),
                _ => format!("{many} retried, each met the next fault"),
            },
            Half::Retried => {
                let within = self.within.unwrap_or(0);
                let in_vain = match self.in_vain {
                    0 => String::new(),
                    some => format!(" ({} never with success)", thousands(some)),
                };
                format!("{many} retried within {}{in_vain}", in_words(within))
            }
            Half::Done => {
                let by = self
                    .done_by
                    .filter(|_| !self.is_done_by_several)
                    .map_or("synchronous calls".to_owned(), |it| format!("{}(2)", it.name()));
                format!("{many} done by {by}")
            }
            Half::GaveUp => format!("{many} gave up"),
            Half::Lost => {
                let lost = requests(self.lost.saturating_sub(self.open));
                format!("{many} lost {lost}{}", self.reported(count))
            }
            Half::Leaked => format!("{many} leaked the context{}", self.reported(count)),
            Half::Open => {
                let retrying =
                    self.goings.iter().find(|it| it.0 == Going::TimedOut(Doing::Retries));
                let retrying = retrying.map_or(0, |it| it.1).min(count);
                let tried = self.tried.min(count - retrying);
                let parts = [
                    (count - retrying - tried, "not tried again"),
                    (tried, "tried again and undecided"),
                    (retrying, "retried to the end"),
                ];
                let parts = parts.iter().filter(|it| it.0 > 0);
                let parts = parts.map(|(count, what)| format!("{} {what}", thousands(*count)));
                format!("{}{open}", parts.collect::<Vec<_>>().join(", "))
            }
            Half::Unsure => format!("{many} unsure{open}"),
        }
    }
}

fn tally<K: Ord>(list: &mut Vec<(K, u64)>, key: K, is_more: bool) {
    match (list.binary_search_by(|it| it.0.cmp(&key)), is_more) {
        (Ok(place), true) => list[place].1 += 1,
        (Err(place), true) => list.insert(place, (key, 1)),
        (Ok(place), false) if list[place].1 == 1 => {
            list.remove(place);
        }
        (Ok(place), false) => list[place].1 -= 1,
        (Err(_), false) => (),
    }
}
