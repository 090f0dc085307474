//! discarded-requests: a context ended with requests in flight. Polls are left out: they pend by design.

use super::{Basis, plural};
use crate::{
    event::{Gone, How},
    model::{Context, Doubt, Finding, Model, Severity, Subject, requests::Request},
    words::{duration::in_words, number::thousands},
};

/// Requests whose results nobody will get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscardedRequests {
    how: How,
    /// `--timeout` of aiotrace ended the process.
    is_ours: bool,
    writes: u64,
    others: u64,
    /// Some of the requests may have completed.
    at_most: bool,
    oldest: Option<Subject>,
    /// How long io_destroy took, nanoseconds, if it is known.
    blocked: Option<u64>,
}

impl Basis for DiscardedRequests {
    const NAME: &'static str = "discarded-requests";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["writes", "others", "blocked_ns"];

    fn message(&self) -> String {
        let Self { writes, others, .. } = *self;
        let what = match self.how {
            How::Destroy => "io_destroy",
            How::Exit => "exit",
            How::Exec => "exec",
        };
        let most = if self.at_most { "at most " } else { "" };
        let counted = match (writes, others) {
            (_, 0) => format!("{} write{}", thousands(writes), plural(writes)),
            (0, _) => format!("{} request{} (no write)", thousands(others), plural(others)),
            _ => format!(
                "{} write{} and {} other request{}",
                thousands(writes),
                plural(writes),
                thousands(others),
                plural(others)
            ),
        };
        let example =
            self.oldest.map_or_else(String::new, |it| format!(", the oldest {}", it.in_words()));
        let ours = if self.is_ours { "; --timeout ended the process" } else { "" };
        let blocked = self
            .blocked
            .map_or_else(String::new, |it| format!("; it blocked for {}", in_words(it)));
        format!(
            "{what} with {most}{counted} in flight{example}: nobody will see what came of it{blocked}{ours}"
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        let blocked = self.blocked.map(|it| ("blocked_ns", it as i64));
        let counts = [("writes", self.writes as i64), ("others", self.others as i64)];
        counts.into_iter().chain(blocked).collect()
    }
}

impl Model {
    /// The finding about requests in flight when a context ended, at this time; `blocked`: how long io_destroy took.
    /// `is_seen`: it is known what had completed by then.
    pub(in crate::model) fn discarded(
        &self,
        context: &Context,
        gone: &Gone,
        time: u64,
        (blocked, is_seen): (Option<u64>, bool),
    ) -> Option<Finding> {
        let how = gone.how;
        let mut requests: Vec<&Request> = context.requests.iter().collect();
        requests.sort_by_key(|it| (it.entered, it.call, it.index));
        let count = |is: &dyn Fn(&Request) -> bool| requests.iter().filter(|it| is(it)).count();
        let writes = count(&Request::is_write) as u64;
        let others = count(&|it| !it.is_poll() && !it.is_write()) as u64;
        let left = context.requests.in_flight();
        if writes + others == 0 || left == 0 {
            return None;
        }
        // Nobody looked at the ring after the last call; or some requests completed, and nobody knows which.
        let at_most = !is_seen || left < context.requests.followed();
        // A program that reaps from the ring by itself has seen what became of them, as a rule, and makes no call.
        if at_most && (writes == 0 || context.is_reaped_by_hand()) {
            return None;
        }
        let other = || requests.iter().find(|it| !it.is_poll());
        let first = requests.iter().find(|it| it.is_write()).or_else(other);
        let oldest = first.and_then(|it| Subject::of(it));
        let is_ours = how == How::Exit && self.faults.is_timed_out();
        let evidence = DiscardedRequests { how, is_ours, writes, others, at_most, oldest, blocked };
        let mut finding = Finding::new(evidence, time, context.pid);
        if writes > 0 && !at_most && !is_ours {
            finding.severity = Severity::Error;
        }
        // Otherwise the source missed some completions.
        let is_counted = gone.in_flight.is_some() || context.adopted;
        finding.doubt = context
            .doubt_of_requests()
            .or_else(|| at_most.then_some(Doubt::Window))
            .or_else(|| (!is_counted).then_some(Doubt::Unmatched));
        finding.context = Some(context.name);
        finding.request = oldest;
        Some(finding)
    }
}
