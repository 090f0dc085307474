//! In a flood of faults, verdicts are equal but for their times. Without `--verbose` each is told once, and how many more there
//! were before the report.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{NOTE, Text};
use crate::{
    model::{
        Doubt, Going, Half, Outcome, Verdict,
        verdict::{Cause, Doing, FaultRow},
    },
    words::number::thousands,
};

/// Most kinds of verdicts that are told apart; the others are all told.
const MOST: usize = 1024;

/// What two equal verdicts have in common. (One on requests that were not done names them, and is told; but of a process
/// that hung, all that it still had to do was not done.)
type Kind =
    (u32, u32, Cause, i64, (Outcome, Half), Option<Doubt>, Option<Going>, (bool, bool, bool, bool));

/// Verdicts that were not told, because an equal one was.
#[derive(Debug, Default)]
pub(super) struct Again(BTreeMap<Kind, More>);

#[derive(Clone, Debug)]
struct More {
    /// The one that was told; if the process stood still after these faults for different times, with the shortest of them.
    verdict: Verdict,
    has_other_times: bool,
    count: u64,
    /// Their requests that were not done.
    lost: u64,
    /// When the last one was told, or would have been.
    last: u64,
}

impl More {
    fn new(verdict: &Verdict) -> Self {
        let last = verdict.told;
        Self { verdict: verdict.clone(), has_other_times: false, count: 0, lost: 0, last }
    }

    fn add(&mut self, it: &Verdict) {
        self.count += 1;
        self.lost += it.lost;
        self.last = self.last.max(it.told);
        self.has_other_times |= self.verdict.going != it.going;
        self.verdict.going = self.verdict.going.min(it.going);
    }

    /// `completion EIO: not tried again; hung: no AIO call for 5.00s or more: 7 more, 7 requests not done`
    fn in_words(&self) -> String {
        let Self { verdict, count, lost, .. } = self;
        let mut text = format!("{}: {}", verdict.what(), verdict.in_short());
        if self.has_other_times {
            text = FaultRow::at_least(&text);
        }
        let lost = match lost {
            0 => String::new(),
            1 => ", 1 request not done".to_owned(),
            lost => format!(", {} requests not done", thousands(*lost)),
        };
        format!("{text}: {} more{lost}", thousands(*count))
    }
}

impl Again {
    /// Whether an equal one was told before.
    pub(super) fn is_one_more(&mut self, it: &Verdict) -> bool {
        let names_requests = it.lost > 0 && it.outcome != Outcome::Hung;
        if names_requests || matches!(it.outcome, Outcome::Leaked | Outcome::Reported) {
            return false;
        }
        let going = it.going.map(|it| match it {
            Going::TimedOut(Doing::Nothing(_)) => Going::TimedOut(Doing::Nothing(0)),
            going => going,
        });
        let flags = (it.succeeded, it.next_fault, it.anew, it.retries > 0);
        let states = (it.outcome, it.half);
        let kind = (it.pid, it.fault.rule, it.cause, it.ret, states, it.doubt, going, flags);
        if let Some(more) = self.0.get_mut(&kind) {
            more.add(it);
            return true;
        }
        if self.0.len() < MOST {
            self.0.insert(kind, More::new(it));
        }
        false
    }

    /// Those of which there were more since the last time, with how many.
    fn take(&mut self) -> Vec<More> {
        let mut all = Vec::new();
        for more in self.0.values_mut().filter(|it| it.count > 0) {
            all.push(more.clone());
            (more.count, more.lost) = (0, 0);
        }
        all
    }
}

impl<W: Write> Text<W> {
    /// Says how many more there were.
    pub(super) fn tell_again(&mut self) -> io::Result<()> {
        for more in self.again.take() {
            self.begin_late(more.last, more.verdict.pid, more.verdict.tid);
            let line = format!("*** fault {} (-v tells each) ***", more.in_words());
            self.styled(NOTE, &line);
            self.lines.end()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Effect, Fault};

    fn verdict(going: Going, half: Half, lost: u64) -> Verdict {
        let fault = Fault { rule: 1, effect: Effect::Done };
        Verdict {
            time: 5,
            told: 5,
            pid: 7,
            process: Vec::new(),
            tid: 8,
            fault,
            cause: Cause::Completion,
            ret: -5,
            outcome: Outcome::of(half, Some(going)),
            half,
            doubt: None,
            going: Some(going),
            later: None,
            succeeded: false,
            next_fault: false,
            retries: 0,
            after: None,
            fewer: None,
            done: None,
            lost,
            first: None,
            path: None,
            context: None,
            anew: false,
        }
    }

    fn told(again: &mut Again, all: impl IntoIterator<Item = Verdict>) -> (usize, Vec<String>) {
        let told = all.into_iter().filter(|it| !again.is_one_more(it)).count();
        (told, again.take().iter().map(More::in_words).collect())
    }

    #[test]
    fn many_faults_that_are_open_when_a_process_hangs_are_one_line_and_a_count() {
        let mut again = Again::default();
        let second = 1_000_000_000;
        let still = |it| Going::TimedOut(Doing::Nothing(it));
        let all = (0..4096).map(|it| verdict(still(9 * second + it), Half::Open, 1));
        let more = "completion EIO: not tried again; hung: it had made no AIO call for at least 9.00s when --timeout ended \
                    it: 4,095 more, 4,095 requests not done";
        assert_eq!(told(&mut again, all), (1, vec![more.to_owned()]));
        // What follows is counted from there.
        let one = verdict(still(9 * second), Half::Open, 1);
        let (count, lines) = told(&mut again, [one]);
        assert_eq!((count, lines.len()), (0, 1));
        assert!(lines[0].ends_with(": 1 more, 1 request not done"), "{lines:?}");

        let mut again = Again::default();
        let equal = (0..3).map(|_| verdict(Going::Hung, Half::Open, 2));
        let more = "completion EIO: not tried again; hung: no AIO call for 5.00s or more: 2 more, 4 requests not done";
        assert_eq!(told(&mut again, equal), (1, vec![more.to_owned()]));
    }

    #[test]
    fn what_is_not_equal_or_names_its_requests_is_told() {
        let mut again = Again::default();
        let lost = (0..3).map(|_| verdict(Going::Running, Half::Lost, 1));
        assert_eq!(told(&mut again, lost), (3, Vec::new()));
        let tried = Verdict { retries: 2, ..verdict(Going::Hung, Half::Open, 1) };
        let others = [
            verdict(Going::Hung, Half::Open, 1),
            Verdict { pid: 9, ..verdict(Going::Hung, Half::Open, 1) },
            Verdict { ret: -11, ..verdict(Going::Hung, Half::Open, 1) },
            verdict(Going::TimedOut(Doing::Calls), Half::Open, 1),
            tried.clone(),
        ];
        assert_eq!(told(&mut again, others), (5, Vec::new()));
        let (count, lines) = told(&mut again, [tried]);
        assert_eq!(count, 0);
        assert!(lines[0].starts_with("completion EIO: tried again; hung"), "{lines:?}");
    }
}
