//! What a program made of a fault.

use super::{
    calls::in_words,
    finding::{ContextRef, Subject},
};
use crate::{
    event::{ExitStatus, Fault, Syscall, errno_name},
    output::text::signal,
};

/// A process with something to be done that makes no AIO call for this long hangs. Nanoseconds.
pub const HUNG_AFTER: u64 = 5_000_000_000;

/// What a fault was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A call failed, or took fewer requests.
    Call(Syscall),
    /// A completion had another result.
    Completion,
}

impl Cause {
    /// As rules have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Call(syscall) => syscall.name(),
            Self::Completion => "complete",
        }
    }

    /// With what was given: `io_submit EAGAIN`.
    pub fn with(self, ret: Option<i64>) -> String {
        let name = match self {
            Self::Call(syscall) => syscall.name(),
            Self::Completion => "completion",
        };
        let Some(ret) = ret else { return name.to_owned() };
        match (errno_name(ret), self) {
            (Some(errno), _) => format!("{name} {errno}"),
            (None, Self::Call(_)) if ret >= 0 => format!("{name} short"),
            (None, _) => format!("{name} res={ret}"),
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The program tried again.
    Retried,
    /// It did not, went on, and lost nothing by that.
    GaveUp,
    /// Requests were never submitted again.
    Lost,
    /// A context was never destroyed.
    Leaked,
    /// Something is to be done, and it makes no AIO call any more.
    Hung,
    /// It ended at once.
    Exited,
    /// A signal killed it at once.
    Died,
    /// The trace ended first.
    Undecided,
    /// Events were lost.
    Unsure,
}

impl Outcome {
    /// As it is written in JSON.
    pub fn text(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::GaveUp => "gave_up",
            Self::Lost => "lost",
            Self::Leaked => "leaked",
            Self::Hung => "hung",
            Self::Exited => "exited",
            Self::Died => "died",
            Self::Undecided => "undecided",
            Self::Unsure => "unsure",
        }
    }
}

/// What a program made of one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// When it got the fault, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// Thread.
    pub tid: u32,
    /// The rule.
    pub fault: Fault,
    /// What it was about.
    pub cause: Cause,
    /// What the program got instead of the kernel's answer: a negative errno, or a count.
    pub ret: i64,
    /// What became of it.
    pub outcome: Outcome,
    /// A retry succeeded: the kernel accepted it; after a completion, it completed without an error.
    pub succeeded: bool,
    /// A retry met a fault: that one's verdict tells more.
    pub next_fault: bool,
    /// How often it was tried again.
    pub retries: u64,
    /// How long after the fault for the first time; nanoseconds.
    pub after: Option<u64>,
    /// Requests that were not submitted again.
    pub lost: u64,
    /// The first of those; or the request whose completion it was.
    pub first: Option<Subject>,
    /// The context, if it is known.
    pub context: Option<ContextRef>,
    /// How the process ended, if it did before this was told.
    pub exit: Option<ExitStatus>,
    /// Another verdict on the same fault was told before; this one is right.
    pub anew: bool,
}

impl Verdict {
    /// What the program got: `io_submit EAGAIN`.
    pub fn what(&self) -> String {
        self.cause.with(Some(self.ret))
    }

    /// What became of it: `retried after 1.20ms, succeeded`.
    pub fn message(&self) -> String {
        let mut parts: Vec<String> = self.retries().into_iter().collect();
        match self.outcome {
            Outcome::Retried => parts.push(
                match (self.succeeded, self.next_fault) {
                    (true, _) => "succeeded",
                    (false, true) => "met the next fault",
                    (false, false) => "never succeeded",
                }
                .to_owned(),
            ),
            Outcome::GaveUp => parts.push("gave up".to_owned()),
            Outcome::Lost => parts.push(format!("lost {}", self.requests())),
            Outcome::Leaked => parts.push(match self.context {
                Some(it) => format!("leaked context {} at {:#x}", it.id, it.handle.0),
                None => "leaked the context".to_owned(),
            }),
            Outcome::Hung => {
                parts.push(format!("hung: no AIO call for {}", in_words(HUNG_AFTER)));
                parts.extend(self.left());
            }
            Outcome::Exited | Outcome::Died => {
                parts.extend(self.exit.map(end));
                parts.extend(self.left());
                return parts.join(", ");
            }
            Outcome::Undecided => {
                parts.push("undecided: the trace ended first".to_owned());
                parts.extend(self.left());
            }
            Outcome::Unsure => parts.push("unsure: events were lost, or unread".to_owned()),
        }
        parts.extend(self.exit.map(|it| format!("then {}", end(it))));
        parts.join(", ")
    }

    fn retries(&self) -> Option<String> {
        let after = in_words(self.after?);
        Some(match self.retries {
            0 => return None,
            1 => format!("retried after {after}"),
            count => format!("retried {count} times, first after {after}"),
        })
    }

    /// `3 requests, the first pread fd=3 offset=0 nbytes=4096`
    fn requests(&self) -> String {
        let first = self.first.map(|it| it.in_words());
        match (self.lost, first) {
            (1, Some(first)) => format!("1 request, {first}"),
            (1, None) => "1 request".to_owned(),
            (count, Some(first)) => format!("{count} requests, the first {first}"),
            (count, None) => format!("{count} requests"),
        }
    }

    fn left(&self) -> Option<String> {
        (self.lost > 0).then(|| format!("not submitted again: {}", self.requests()))
    }
}

fn end(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exited with status {code}"),
        ExitStatus::Signal(number) => format!("died by {}", signal(number)),
    }
}

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
    /// Verdicts, each fault once.
    pub outcomes: Vec<(Outcome, u64)>,
    /// The first retry came this long after the fault, or sooner; nanoseconds.
    pub within: Option<u64>,
    /// Of those that were retried, never with success.
    pub in_vain: u64,
    /// Requests that were lost.
    pub lost: u64,
    /// Faults after which requests were lost and the process exited with status 0.
    pub silent: u64,
}

impl FaultRow {
    pub(super) fn new(rule: u32, cause: Cause, ret: Option<i64>) -> Self {
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
            within: None,
            in_vain: 0,
            lost: 0,
            silent: 0,
        }
    }

    /// `io_submit EAGAIN x 14: 13 retried within 2.00ms, 1 lost 3 requests`
    pub fn in_words(&self) -> String {
        let made = self.made + self.delayed;
        let times = if made > 0 { format!(" x {made}") } else { String::new() };
        let open = self.made.saturating_sub(self.not_followed + self.decided());
        let mut parts: Vec<String> =
            self.outcomes.iter().map(|(outcome, count)| self.counted(*outcome, *count)).collect();
        let others = [
            (open, "not decided yet"),
            (self.delayed, "delayed"),
            (self.not_followed, "not followed"),
            (self.dry_run, "would have been made (dry run)"),
            (self.missed, "could not be made"),
        ];
        let others = others.iter().filter(|it| it.0 > 0);
        parts.extend(others.map(|(count, what)| format!("{count} {what}")));
        format!("{}{times}: {}", self.cause.with(self.ret), parts.join(", "))
    }

    /// One more verdict of this kind, or one less: it was revised.
    pub(super) fn count(&mut self, outcome: Outcome, is_more: bool) {
        let place = self.outcomes.binary_search_by_key(&outcome, |it| it.0);
        match (place, is_more) {
            (Ok(place), true) => self.outcomes[place].1 += 1,
            (Err(place), true) => self.outcomes.insert(place, (outcome, 1)),
            (Ok(place), false) if self.outcomes[place].1 == 1 => {
                self.outcomes.remove(place);
            }
            (Ok(place), false) => self.outcomes[place].1 -= 1,
            (Err(_), false) => (),
        }
    }

    fn decided(&self) -> u64 {
        self.outcomes.iter().map(|it| it.1).sum()
    }

    fn counted(&self, outcome: Outcome, count: u64) -> String {
        let requests = if self.lost == 1 { "request" } else { "requests" };
        match outcome {
            Outcome::Retried => {
                let within = self.within.unwrap_or(0);
                let in_vain = match self.in_vain {
                    0 => String::new(),
                    some => format!(" ({some} never with success)"),
                };
                format!("{count} retried within {}{in_vain}", in_words(within))
            }
            Outcome::GaveUp => format!("{count} gave up"),
            Outcome::Lost => {
                let silent = match self.silent {
                    0 => String::new(),
                    some if some == count => ", then exited with status 0".to_owned(),
                    some => format!(" ({some} then exited with status 0)"),
                };
                format!("{count} lost {} {requests}{silent}", self.lost)
            }
            Outcome::Leaked => format!("{count} leaked the context"),
            Outcome::Hung => format!("{count} hung"),
            Outcome::Exited => format!("{count} exited"),
            Outcome::Died => format!("{count} died"),
            Outcome::Undecided => format!("{count} undecided"),
            Outcome::Unsure => format!("{count} unsure"),
        }
    }
}
