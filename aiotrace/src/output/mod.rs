//! How events are shown. Outputs write to any [`std::io::Write`] and know neither the source nor
//! the terminal.

pub mod clock;
pub mod escape;
pub mod json;
mod lines;
pub mod paths;
pub mod summary;
pub mod text;

use std::{io, time::Duration};

use crate::{event::Event, output::clock::Clock, source::Losses};

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
    /// Events were not shown, because a terminal cannot show so many.
    ///
    /// # Errors
    /// Those of the writer.
    fn thinned(&mut self, hidden: u64) -> io::Result<()>;
    /// The trace is over.
    ///
    /// # Errors
    /// Those of the writer.
    fn end(&mut self, end: &Ended) -> io::Result<()>;
    /// Let everything be seen that was written so far.
    ///
    /// # Errors
    /// Those of the writer.
    fn flush(&mut self) -> io::Result<()>;
}

/// How a trace begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// When it began, and how event times relate to wall time.
    pub clock: Clock,
    /// Name of the probe set.
    pub probes: &'static str,
    /// What this probe set cannot see.
    pub lacks: Vec<&'static str>,
}

/// How a trace ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Events that reached us.
    pub events: u64,
    /// What did not.
    pub losses: Losses,
    /// How long the probes were attached.
    pub attached: Duration,
    /// `targets_gone`, `time_over`, `signal` or `output_closed`.
    pub reason: &'static str,
}
