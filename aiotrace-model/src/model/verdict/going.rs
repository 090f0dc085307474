//! The second half of a verdict.

use super::HUNG_AFTER;
use crate::{
    event::ExitStatus,
    words::{
        duration::in_words,
        signal::{is_own, signal},
    },
};

/// The second half: how the process went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Going {
    /// It still ran when this was told.
    Running,
    /// Something is to be done, and it makes no AIO call any more.
    Hung,
    /// It was still there when `--timeout` ended it.
    TimedOut(Doing),
    /// It ran another program.
    Exec,
    /// It ended.
    Ended(ExitStatus),
}

/// What a process did when `--timeout` ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// It tried the same again and again.
    Retries,
    /// It had made an AIO call within [`STILL_AFTER`].
    Calls,
    /// It had made none for so long; nanoseconds.
    Nothing(u64),
}

/// A process that made no AIO call for this long before `--timeout` ended it hung; nanoseconds.
pub const STILL_AFTER: u64 = 1_000_000_000;

impl Going {
    /// As it is written in JSON.
    pub fn text(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Hung => "hung",
            Self::TimedOut(_) => "timed_out",
            Self::Exec => "exec",
            Self::Ended(ExitStatus::Code(_)) => "exited",
            Self::Ended(ExitStatus::Signal(_)) => "died",
        }
    }

    /// It was killed by a signal that comes from somebody else, as a rule: what it would have done is not known. (Shells and
    /// Java's virtual machine end with 128 and the number of such a signal.)
    pub fn is_killed(self) -> bool {
        // SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM
        const KILLED: [i32; 5] = [129, 130, 131, 137, 143];
        if let Self::Ended(ExitStatus::Code(code)) = self {
            return KILLED.contains(&code);
        }
        matches!(self, Self::Ended(ExitStatus::Signal(number)) if !is_own(number))
    }

    /// It got a signal for what it did itself.
    pub fn is_crash(self) -> bool {
        matches!(self, Self::Ended(ExitStatus::Signal(number)) if is_own(number))
    }

    /// `exited with status 14`
    pub fn in_words(self) -> String {
        match self {
            Self::Running => "still running".to_owned(),
            Self::Hung => format!("hung: no AIO call for {} or more", in_words(HUNG_AFTER)),
            Self::TimedOut(Doing::Retries) => "still retrying when --timeout ended it".to_owned(),
            Self::TimedOut(Doing::Calls) => format!(
                "it had made an AIO call within {} when --timeout ended it",
                in_words(STILL_AFTER)
            ),
            Self::TimedOut(Doing::Nothing(still)) => format!(
                "hung: it had made no AIO call for {} when --timeout ended it",
                in_words(still)
            ),
            Self::Exec => "ran another program".to_owned(),
            Self::Ended(ExitStatus::Code(code)) => format!("exited with status {code}"),
            Self::Ended(ExitStatus::Signal(number)) => format!("died by {}", signal(number)),
        }
    }
}
