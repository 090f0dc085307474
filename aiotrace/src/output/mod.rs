//! How events are shown. Outputs write to any [`std::io::Write`] and know neither the source nor
//! the terminal.

pub mod clock;
pub mod counted;
pub mod counting;
mod format;
pub mod json;
mod lines;
pub mod paths;
mod report;
pub mod table;
pub mod text;

use std::io;

pub use self::{
    counted::Rows,
    format::{Format, Listed},
};
pub use crate::words::escape;
use crate::{
    counted::Counted,
    event::Event,
    model::{Finding, Report, Verdict},
};
pub use aiotrace_model::trace::{Cost, Ended, FaultRule, Faults, Start};

/// What was counted between two times.
#[derive(Debug)]
pub struct Interval {
    /// When it began, nanoseconds of CLOCK_MONOTONIC.
    pub from: u64,
    /// When it ended.
    pub until: u64,
    /// What was counted.
    pub rows: Rows,
}

/// Something that shows a trace. What it does not show, it need not mention.
///
/// The errors are those of the writer.
#[expect(clippy::missing_errors_doc, reason = "it stands above, once for all methods")]
pub trait Output {
    /// The trace begins.
    fn start(&mut self, start: &Start) -> io::Result<()>;

    /// Something happened.
    fn event(&mut self, _: &Event) -> io::Result<()> {
        Ok(())
    }

    /// Something was concluded.
    fn finding(&mut self, _: &Finding) -> io::Result<()> {
        Ok(())
    }

    /// It is known what a program made of a fault.
    fn verdict(&mut self, _: &Verdict) -> io::Result<()> {
        Ok(())
    }

    /// Calls were counted in the kernel: all until now.
    fn counted(&mut self, _: &Counted) -> io::Result<()> {
        Ok(())
    }

    /// With `-c --interval`: an interval is over.
    fn interval(&mut self, _: &Interval) -> io::Result<()> {
        Ok(())
    }

    /// Events were not shown, because a terminal cannot show so many.
    fn thinned(&mut self, _hidden: u64) -> io::Result<()> {
        Ok(())
    }

    /// What is known now: when the trace is over, or when somebody asks. `rows`: with `-c`, the calls.
    fn report(&mut self, end: &Ended, report: &Report, rows: Option<&Rows>) -> io::Result<()>;

    /// Let everything be seen that was written so far.
    fn flush(&mut self) -> io::Result<()>;
}
