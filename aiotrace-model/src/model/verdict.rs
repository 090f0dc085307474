//! What a program made of a fault. A verdict has two halves: what became of the requests, and how the process went on.

use aiotrace_common::synchronous;

use super::{
    Doubt,
    finding::{ContextRef, Subject},
};
use crate::{
    event::{ExitStatus, Fault, Syscall, errno_name},
    words::{duration::in_words, number::thousands},
};

mod going;
mod row;

pub use going::{Doing, Going, STILL_AFTER};
pub use row::{FaultRow, RuleRow};

/// A process with something to be done that makes no AIO call for this long hangs; and what was not done again
/// for so long is not waited for. Nanoseconds.
pub const HUNG_AFTER: u64 = 5_000_000_000;

/// So long synchronous calls are watched for what was not done; nanoseconds.
pub const WATCHED: u64 = 60_000_000_000;

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

/// The first half: what became of the requests, or of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// The program tried again.
    Retried,
    /// It did all of it with synchronous calls.
    Done,
    /// It did not, went on or ended, and lost nothing by that.
    GaveUp,
    /// Requests were never done.
    Lost,
    /// A context was never destroyed.
    Leaked,
    /// It may still do something about it.
    Open,
    /// That cannot be told.
    Unsure,
}

impl Half {
    /// As it is written in JSON.
    pub fn text(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Done => "done",
            Self::GaveUp => "gave_up",
            Self::Lost => "lost",
            Self::Leaked => "leaked",
            Self::Open => "open",
            Self::Unsure => "unsure",
        }
    }
}

/// The kind of a verdict: the worse half decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The program tried again.
    Retried,
    /// It did the same with synchronous calls.
    Done,
    /// It did not, went on, and lost nothing by that.
    GaveUp,
    /// Requests were never done, and the program did not say so by its status.
    Lost,
    /// Requests were never done (or a context was never destroyed), and the program ended with a status that is
    /// not 0.
    Reported,
    /// A context was never destroyed.
    Leaked,
    /// The process made no AIO call any more, or had to be ended.
    Hung,
    /// Nothing was lost, and it ended with a status that is not 0.
    Exited,
    /// It crashed.
    Died,
    /// The trace ended first.
    Undecided,
    /// It cannot be told.
    Unsure,
}

impl Outcome {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Retried,
        Self::Done,
        Self::GaveUp,
        Self::Lost,
        Self::Reported,
        Self::Leaked,
        Self::Hung,
        Self::Exited,
        Self::Died,
        Self::Undecided,
        Self::Unsure,
    ];

    /// Of both halves; of the second nothing is known if a retry met the next fault.
    pub fn of(half: Half, going: Option<Going>) -> Self {
        let failed = |it: Option<Going>| {
            let is_failure = matches!(it, Some(Going::Ended(ExitStatus::Code(code))) if code != 0);
            is_failure && !it.is_some_and(Going::is_killed)
        };
        match (half, going) {
            (_, Some(going)) if going.is_crash() => Self::Died,
            (_, Some(Going::Hung | Going::TimedOut(_))) => Self::Hung,
            (Half::Lost | Half::Leaked, going) if failed(going) => Self::Reported,
            (Half::Lost, _) => Self::Lost,
            (Half::Leaked, _) => Self::Leaked,
            (Half::Unsure, _) => Self::Unsure,
            (Half::Open, _) => Self::Undecided,
            (_, going) if failed(going) => Self::Exited,
            (Half::Retried, _) => Self::Retried,
            (Half::Done, _) => Self::Done,
            (Half::GaveUp, _) => Self::GaveUp,
        }
    }

    /// As it is written in JSON.
    pub fn text(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Done => "done",
            Self::GaveUp => "gave_up",
            Self::Lost => "lost",
            Self::Reported => "reported",
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
    /// When this became known.
    pub told: u64,
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
    /// Its kind.
    pub outcome: Outcome,
    /// What became of the requests.
    pub half: Half,
    /// Why that is unsure.
    pub doubt: Option<Doubt>,
    /// How the process went on. `None`: a retry met the next fault, whose verdict tells that.
    pub going: Option<Going>,
    /// How long after the fault it ended, if it did; nanoseconds.
    pub later: Option<u64>,
    /// A retry succeeded: the kernel accepted it; after a completion, it completed without an error.
    pub succeeded: bool,
    /// A retry met a fault: that one's verdict tells more.
    pub next_fault: bool,
    /// How often it was tried again.
    pub retries: u64,
    /// How long after the fault for the first time; nanoseconds.
    pub after: Option<u64>,
    /// Of an io_setup: how many requests the last retry asked for, and how many the one that failed, if it was fewer.
    pub fewer: Option<(u32, u32)>,
    /// By which synchronous call requests were done, and how many.
    pub done: Option<(synchronous::Call, u64)>,
    /// Requests that were not done.
    pub lost: u64,
    /// The first of those; or the request whose completion it was.
    pub first: Option<Subject>,
    /// Where its descriptor led soon after the fault, if that is known: any bytes.
    pub path: Option<Vec<u8>>,
    /// The context, if it is known.
    pub context: Option<ContextRef>,
    /// Another verdict on the same fault was told before; this one is right.
    pub anew: bool,
}

impl Verdict {
    /// What the program got: `io_submit EAGAIN`.
    pub fn what(&self) -> String {
        self.cause.with(Some(self.ret))
    }

    /// How the process ended, if it did.
    pub fn exit(&self) -> Option<ExitStatus> {
        match self.going {
            Some(Going::Ended(status)) => Some(status),
            _ => None,
        }
    }

    /// Both halves, without times and requests: `retried, met the next fault`.
    pub fn in_short(&self) -> String {
        let first = match self.half {
            Half::Retried => format!("retried, {}", self.fared()),
            Half::Done => "done by synchronous calls".to_owned(),
            Half::GaveUp => self.gave_up().to_owned(),
            Half::Lost => "lost".to_owned(),
            Half::Leaked => "leaked the context".to_owned(),
            Half::Open if self.going == Some(Going::TimedOut(Doing::Retries)) => String::new(),
            Half::Open if self.retries > 0 => "tried again".to_owned(),
            Half::Open => "not tried again".to_owned(),
            Half::Unsure => format!("unsure: {}", self.doubt.unwrap_or(Doubt::Lost).text()),
        };
        let going = self.going.map(Going::in_words);
        let parts = Some(first).filter(|it| !it.is_empty()).into_iter().chain(going);
        parts.collect::<Vec<_>>().join("; ")
    }

    /// Both halves: `retried after 1.20ms, succeeded; exited with status 0 300ms later`.
    pub fn message(&self) -> String {
        self.message_with(None)
    }

    /// The same, with the path of the first request's file.
    pub fn message_with(&self, path: Option<&str>) -> String {
        let mut parts: Vec<String> = self.retries().into_iter().chain(self.done()).collect();
        let requests = || self.requests(path);
        let left = || (self.lost > 0).then(|| format!("not done: {}", requests()));
        match self.half {
            Half::Retried => parts.push(self.fared().to_owned()),
            Half::Done => (),
            Half::GaveUp => parts.push(self.gave_up().to_owned()),
            Half::Lost => parts.push(format!("lost {}", requests())),
            Half::Leaked => parts.push(match self.context {
                Some(it) => format!("leaked context {} at {:#x}", it.id, it.handle.0),
                None => "leaked the context".to_owned(),
            }),
            Half::Open => {
                let is_over = matches!(self.going, Some(Going::Hung | Going::TimedOut(_)));
                let killed = self.going.is_some_and(Going::is_killed);
                let undecided = match (is_over, killed) {
                    (true, _) => None,
                    (_, true) => Some("undecided: it was killed first"),
                    (_, false) => Some("undecided: the trace ended first"),
                };
                parts.extend(undecided.map(str::to_owned));
                parts.extend(left());
                if parts.is_empty() && self.going != Some(Going::TimedOut(Doing::Retries)) {
                    parts.push("not tried again".to_owned());
                }
            }
            Half::Unsure => {
                let why = self.doubt.unwrap_or(Doubt::Lost).text();
                parts.extend(self.is_called_again().then(|| self.fared().to_owned()));
                parts.extend(left().filter(|_| self.lost > 0));
                parts.push(format!("unsure: {why}"));
            }
        }
        let first = parts.join(", ");
        let Some(going) = self.going else { return first };
        let later =
            self.later.map_or_else(String::new, |later| format!(" {} later", in_words(later)));
        let reported = if self.outcome == Outcome::Reported { "reported: " } else { "" };
        let between = if first.is_empty() { "" } else { "; " };
        format!("{first}{between}{reported}{}{later}", going.in_words())
    }

    fn gave_up(&self) -> &'static str {
        let goes_on = match self.going {
            Some(Going::Running) => true,
            Some(Going::Ended(status)) => status == ExitStatus::Code(0),
            _ => false,
        };
        match self.cause {
            Cause::Call(Syscall::Setup) if goes_on => "not tried again, went on without",
            _ => "gave up",
        }
    }

    /// It came again, and it is not known whether that was a retry.
    fn is_called_again(&self) -> bool {
        self.half == Half::Unsure && self.lost == 0 && self.retries > 0
    }

    /// How what came again fared.
    fn fared(&self) -> &'static str {
        match (self.succeeded, self.next_fault) {
            (true, _) => "succeeded",
            (false, true) => "met the next fault",
            (false, false) => "never succeeded",
        }
    }

    fn retries(&self) -> Option<String> {
        let after = in_words(self.after?);
        let what = if self.is_called_again() { "came again" } else { "retried" };
        let fewer = self.fewer.map_or_else(String::new, |(fewer, first)| {
            format!(
                ", for {} requests instead of {}",
                thousands(fewer.into()),
                thousands(first.into())
            )
        });
        Some(match self.retries {
            0 => return None,
            1 => format!("{what} after {after}{fewer}"),
            count => format!("{what} {} times, first after {after}{fewer}", thousands(count)),
        })
    }

    fn done(&self) -> Option<String> {
        let (call, count) = self.done?;
        let name = call.name();
        let after = match self.retries {
            0 => self.after.map_or_else(String::new, |it| format!(" after {}", in_words(it))),
            _ => String::new(),
        };
        Some(match (self.half, count) {
            (Half::Done, 1) => format!("done by {name}(2){after}"),
            (Half::Done, _) => {
                format!("{} requests done by {name}(2){after}", thousands(count))
            }
            _ => format!("{} done by {name}(2){after}", thousands(count)),
        })
    }

    /// `3 requests, the first (pread fd=3 offset=0 nbytes=4096)`
    fn requests(&self, path: Option<&str>) -> String {
        let path = path.map_or_else(String::new, |path| format!(", now {path}"));
        let first = self.first.map(|it| format!("({}{path})", it.in_words()));
        match (self.lost, first) {
            (1, Some(first)) => format!("1 request {first}"),
            (1, None) => "1 request".to_owned(),
            (count, Some(first)) => {
                format!("{} requests, the first {first}", thousands(count))
            }
            (count, None) => format!("{} requests", thousands(count)),
        }
    }
}

#[cfg(test)]
mod tests;
