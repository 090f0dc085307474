//! How events are shown. Outputs write to any [`std::io::Write`] and know neither the source nor
//! the terminal.

pub mod clock;
pub mod counted;
pub mod counting;
mod format;
pub mod json;
pub mod junit;
mod lines;
pub mod parquet;
pub mod paths;
pub mod people;
pub mod perfetto;
mod report;
mod requests;
mod short;
pub mod table;
pub mod text;

use std::io;

use self::people::Person;
pub use self::{
    counted::Rows,
    format::{Format, Listed, Traced},
};
pub use crate::words::escape;
use crate::{
    counted::Counted,
    event::Event,
    model::{Finding, Report, Verdict},
};
pub use aiotrace_model::trace::{Cost, Ended, FaultRule, Faults, Losses, Start};

/// The calls that were counted in one interval.
#[derive(Debug)]
pub struct Interval {
    /// When it began, nanoseconds of CLOCK_MONOTONIC.
    pub from: u64,
    /// When it ended.
    pub until: u64,
    /// The counted calls.
    pub rows: Rows,
}

/// Something that shows a trace. It implements only the methods for what it shows.
///
/// All methods fail with the errors of the writer.
#[expect(clippy::missing_errors_doc, reason = "it stands above, once for all methods")]
pub trait Output {
    /// The trace begins.
    fn start(&mut self, start: &Start) -> io::Result<()>;

    /// An event came.
    fn event(&mut self, _: &Event) -> io::Result<()> {
        Ok(())
    }

    /// A process was looked up: who it is.
    fn person(&mut self, _: &Person) -> io::Result<()> {
        Ok(())
    }

    /// The model came to a finding.
    fn finding(&mut self, _: &Finding) -> io::Result<()> {
        Ok(())
    }

    /// The model came to the verdict on a fault.
    fn verdict(&mut self, _: &Verdict) -> io::Result<()> {
        Ok(())
    }

    /// The kernel's counts of all calls up to now were read.
    fn counted(&mut self, _: &Counted) -> io::Result<()> {
        Ok(())
    }

    /// This much was lost so far, apart from what only the report knows.
    fn lost(&mut self, _: &Losses) -> io::Result<()> {
        Ok(())
    }

    /// With `-c --interval`: an interval has ended.
    fn interval(&mut self, _: &Interval) -> io::Result<()> {
        Ok(())
    }

    /// `hidden` events were not shown, because a terminal cannot show so many.
    fn thinned(&mut self, _hidden: u64) -> io::Result<()> {
        Ok(())
    }

    /// The report at the end of the trace, or when somebody asked for it. `rows`: with `-c`, the counted calls.
    fn report(&mut self, end: &Ended, report: &Report, rows: Option<&Rows>) -> io::Result<()>;

    /// Writes everything that is still in a buffer.
    fn flush(&mut self) -> io::Result<()>;
}
