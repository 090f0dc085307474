//! In a flood of faults, verdicts are equal but for their times. Without `--verbose` each is told once, and how many more there
//! were before the report.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::{NOTE, Text};
use crate::{
    model::{Doubt, Going, Half, Outcome, Verdict, verdict::Cause},
    words::number::thousands,
};

/// Most kinds of verdicts that are told apart; the others are all told.
const MOST: usize = 1024;

/// What two equal verdicts have in common. (One on requests that were not done names them, and is told.)
type Kind =
    (u32, u32, Cause, i64, (Outcome, Half), Option<Doubt>, Option<Going>, (bool, bool, bool));

/// Verdicts that were not told, because an equal one was.
#[derive(Debug, Default)]
pub(super) struct Again(BTreeMap<Kind, More>);

#[derive(Debug, Default)]
struct More {
    count: u64,
    pid: u32,
    tid: u32,
    /// When the last one was told, or would have been.
    last: u64,
    text: String,
}

impl Again {
    /// Whether an equal one was told before.
    pub(super) fn is_one_more(&mut self, it: &Verdict) -> bool {
        if it.lost > 0 || it.outcome == Outcome::Leaked || it.outcome == Outcome::Reported {
            return false;
        }
        let flags = (it.succeeded, it.next_fault, it.anew);
        let states = (it.outcome, it.half);
        let kind = (it.pid, it.fault.rule, it.cause, it.ret, states, it.doubt, it.going, flags);
        if let Some(more) = self.0.get_mut(&kind) {
            (more.count, more.last) = (more.count + 1, more.last.max(it.told));
            return true;
        }
        if self.0.len() < MOST {
            let text = format!("{}: {}", it.what(), it.in_short());
            let (pid, tid, last) = (it.pid, it.tid, it.told);
            self.0.insert(kind, More { count: 0, pid, tid, last, text });
        }
        false
    }
}

impl<W: Write> Text<W> {
    /// Says how many more there were.
    pub(super) fn tell_again(&mut self) -> io::Result<()> {
        let mut all: Vec<More> = Vec::new();
        for more in self.again.0.values_mut().filter(|it| it.count > 0) {
            let (count, text) = (std::mem::take(&mut more.count), more.text.clone());
            all.push(More { count, text, ..*more });
        }
        for More { count, pid, tid, last, text } in all {
            self.begin_late(last, pid, tid);
            let count = thousands(count);
            let line = format!("*** fault {text}: {count} more (-v tells each) ***");
            self.styled(NOTE, &line);
            self.lines.end()?;
        }
        Ok(())
    }
}
