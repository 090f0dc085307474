//! `-c`: calls are counted instead of shown. The output below gets only numbers, which come from the kernel or are
//! counted here from events.

use std::{collections::BTreeMap, io};

use super::{
    Ended, Interval, Output, Start,
    counted::{Rows, name_of},
    people::Person,
};
use crate::{
    counted::{Counted, MOST_PROCESSES, Tally},
    event::{Body, Change, Event},
    model::{Finding, Report, Rules, Verdict},
};

/// Most names remembered: the bound matters on a machine that starts new processes all day.
const MOST_NAMES: usize = 16 * MOST_PROCESSES;

/// Counts calls, and passes the numbers on to another output.
pub struct Counting {
    output: Box<dyn Output>,
    tally: Tally,
    names: BTreeMap<u32, Vec<u8>>,
    rules: Rules,
    /// When the trace began.
    began: u64,
    /// All that had been counted at the end of the last interval.
    interval: Option<Counted>,
}

impl Counting {
    /// Counts for this output.
    pub fn new(output: Box<dyn Output>) -> Self {
        let (tally, rules) = (Tally::default(), Rules::default());
        Self { output, tally, names: BTreeMap::new(), rules, began: 0, interval: None }
    }

    fn remember_name(&mut self, pid: u32, name: &[u8]) {
        if self.names.len() < MOST_NAMES || self.names.contains_key(&pid) {
            self.names.insert(pid, name.to_vec());
        }
    }
}

impl Output for Counting {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.rules = Rules::of(start.faults.as_ref());
        self.began = start.clock.start;
        self.output.start(start)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Call(call) => self.tally.call(event, call, self.rules.injected(call)),
            Body::Process(process) => {
                if let Change::Fork { child, .. } = process.change {
                    self.remember_name(child, &process.name);
                }
                self.remember_name(event.pid, &process.name);
            }
            _ => (),
        }
        Ok(())
    }

    fn counted(&mut self, counted: &Counted) -> io::Result<()> {
        if !counted.ends_interval {
            return Ok(());
        }
        let before = self.interval.replace(counted.clone()).unwrap_or_default();
        let from = if before.time == 0 { self.began } else { before.time };
        let rows = Rows::of(&counted.since(&before), &|pid| name_of(&self.names, pid));
        self.output.interval(&Interval { from, until: counted.time, rows })
    }

    fn person(&mut self, person: &Person) -> io::Result<()> {
        self.output.person(person)
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.output.finding(finding)
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.output.verdict(verdict)
    }

    fn report(&mut self, end: &Ended, report: &Report, _: Option<&Rows>) -> io::Result<()> {
        let rows = match &report.counted {
            Some(counts) => Rows::of(&counts.counted, &|pid| name_of(&counts.names, pid)),
            None => Rows::of(self.tally.counted(), &|pid| name_of(&self.names, pid)),
        };
        self.output.report(end, report, Some(&rows))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
