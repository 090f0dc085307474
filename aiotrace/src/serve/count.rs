//! Feeds the state from a trace that counts.

use std::{io, sync::Arc};

use super::look::{Machine, locked};
use crate::{
    clock,
    counted::Counted,
    event::{Body, Change, Event},
    model::{Finding, Report},
    output::{Ended, Losses, Output, Rows, Start},
    privileges,
};

/// An output that shows nothing: the scrapes do.
pub struct Feed {
    machine: Arc<Machine>,
    /// Called when the probes are attached.
    begun: Option<Box<dyn FnOnce()>>,
}

impl Feed {
    /// Feeds this state. `begun` is called when the trace has begun.
    pub fn new(machine: Arc<Machine>, begun: Box<dyn FnOnce()>) -> Self {
        Self { machine, begun: Some(begun) }
    }
}

impl Output for Feed {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        privileges::drop_after_attach();
        locked(&self.machine.state).begin(start);
        if let Some(begun) = self.begun.take() {
            begun();
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Body::Process(process) = &event.body {
            let mut state = locked(&self.machine.state);
            if let Change::Fork { child, .. } = process.change {
                state.name(child, &process.name);
            }
            state.name(event.pid, &process.name);
        }
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        locked(&self.machine.state).find(finding, clock::monotonic());
        Ok(())
    }

    fn counted(&mut self, counted: &Counted) -> io::Result<()> {
        // Also what somebody asked for between two intervals: ended processes are told once.
        locked(&self.machine.state).count(counted);
        Ok(())
    }

    fn lost(&mut self, losses: &Losses) -> io::Result<()> {
        locked(&self.machine.state).losses = *losses;
        Ok(())
    }

    fn report(&mut self, _: &Ended, _: &Report, _: Option<&Rows>) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
