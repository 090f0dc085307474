//! `-c`: calls are counted instead of shown. What an output is given then is numbers, from the kernel or from the events.

use std::{collections::BTreeMap, io};

use super::{
    Ended, Interval, Output, Start,
    counted::{Rows, name_of},
};
use crate::{
    counted::{Counted, MOST_PROCESSES, Tally},
    event::{Body, Change, Event},
    model::{Finding, Report, Rules, Verdict},
};

/// Names remembered: a machine that starts processes all day is not remembered whole.
const MOST_NAMES: usize = 16 * MOST_PROCESSES;

/// Counts for another output.
pub struct Counting {
    output: Box<dyn Output>,
    tally: Tally,
    names: BTreeMap<u32, Vec<u8>>,
    rules: Rules,
    /// When the trace began.
    began: u64,
    /// What was counted up to the last interval's end.
    interval: Option<Counted>,
}

impl Counting {
    /// For this one.
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
