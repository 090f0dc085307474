//! How events are shown. Outputs write to any [`std::io::Write`] and know neither the source nor
//! the terminal.

pub mod clock;
pub mod counted;
pub mod json;
mod lines;
pub mod paths;
mod report;
pub mod summary;
pub mod text;

use std::io;

pub use crate::words::escape;
use crate::{
    counted::Counted,
    event::Event,
    model::{Finding, Report, Verdict},
};
pub use aiotrace_model::trace::{Cost, Ended, FaultRule, Faults, Start};

/// Something that shows events.
pub trait Output {
    /// The trace begins.
    ///
    /// # Errors
    /// Those of the writer; so for all methods.
    fn start(&mut self, start: &Start) -> io::Result<()>;
    /// Something happened.
    ///
    /// # Errors
    /// Those of the writer.
    fn event(&mut self, event: &Event) -> io::Result<()>;
    /// Something was concluded.
    ///
    /// # Errors
    /// Those of the writer.
    fn finding(&mut self, finding: &Finding) -> io::Result<()>;
    /// Calls were counted in the kernel: all until now.
    ///
    /// # Errors
    /// Those of the writer.
    fn counted(&mut self, counted: &Counted) -> io::Result<()>;
    /// It is known what a program made of a fault.
    ///
    /// # Errors
    /// Those of the writer.
    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()>;
    /// Events were not shown, because a terminal cannot show so many.
    ///
    /// # Errors
    /// Those of the writer.
    fn thinned(&mut self, hidden: u64) -> io::Result<()>;
    /// What is known now: when the trace is over, or when somebody asks.
    ///
    /// # Errors
    /// Those of the writer.
    fn report(&mut self, end: &Ended, report: &Report) -> io::Result<()>;
    /// Let everything be seen that was written so far.
    ///
    /// # Errors
    /// Those of the writer.
    fn flush(&mut self) -> io::Result<()>;
}
