//! Shows a recorded trace.

use std::path::Path;

use super::{
    conclusions::Conclusions,
    files,
    items::{Items, Next, with_hint},
    recorder::{Functions, Known},
    shown::Shown,
    view::View,
};
use crate::{
    event::Event,
    failure::Result,
    model::Severity,
    output::{Ended, people::Person},
    source::{Losses, recording::Item},
    trace,
};

/// Shows a recording (`-` is standard input) as `view` says. Gives whether there was a finding at
/// least as severe as `fail_on`.
///
/// # Errors
/// If the recording cannot be read at all, or if the output cannot be written.
pub fn tell(path: &Path, view: &View, fail_on: Option<Severity>) -> Result<bool> {
    let say = |why: &str| eprintln!("aiotrace: {why}");
    let told = tell_to(path, fail_on, &say, |known, functions| {
        let view = view.open(known.paths(), &functions.symbols(), false, false)?;
        view.file.as_ref().map_or(Ok(()), files::begin)?;
        Ok(view.shown)
    })?;
    told.written.map(|()| told.failed)
}

/// What became of a recording that was shown.
pub(super) struct Told {
    /// There was a finding at least as severe as `fail_on`.
    pub failed: bool,
    /// It is damaged, or more than can be shown: it was not read to the end of its file.
    pub is_cut: bool,
    /// Whether everything could be written.
    pub written: Result<()>,
}

/// Shows a recording with the output that `opens` opens. `say` tells why it is not whole.
pub(super) fn tell_to(
    path: &Path,
    fail_on: Option<Severity>,
    say: &dyn Fn(&str),
    opens: impl FnOnce(&Known, &Functions) -> Result<Shown>,
) -> Result<Told> {
    let (mut items, start, settings) = Items::open(path)?;
    let known = Known::default();
    let functions = Functions::default();
    let mut shown = opens(&known, &functions)?;
    let mut conclusions = Conclusions::again(settings, fail_on);
    conclusions.start(&start, &mut shown);
    let mut is_damaged = false;
    let (mut last, mut events) = (start.clock.start, 0);
    let mut ended = loop {
        let item = match items.following().map_err(|error| with_hint(error, path))? {
            Next::Item(item) => item,
            Next::Over { why, is_cut } => {
                say(&why);
                is_damaged = is_cut;
                if is_cut {
                    conclusions.event(&Event::lost_somewhere(last), &mut shown);
                }
                break cut_short(last, start.clock.start, events);
            }
        };
        match item {
            Item::Event(event) => {
                (last, events) = (last.max(event.time), events + 1);
                known.forget(&event);
                conclusions.event(&event, &mut shown);
            }
            Item::Time(now) => conclusions.time(now, &mut shown),
            Item::Path { pid, fd, path } => known.set((pid, fd), 0, path),
            Item::Functions { module, offset, functions: found } => {
                functions.set((module, offset), found);
            }
            Item::TimedOut(now) => conclusions.timed_out(now, &mut shown),
            Item::Report(mut ended) => {
                ended.losses = conclusions.with_unread(ended.losses);
                conclusions.report(&ended, &mut shown);
            }
            Item::End(ended) => break ended,
            Item::Who { pid, process, who } => {
                let person = Person { pid, process, who };
                shown.attempt(|output| output.person(&person));
            }
            // Text and JSON do not have it; and a second beginning is an error.
            Item::Process { .. } | Item::Start(..) => (),
        }
        conclusions.forget_questions();
        if shown.failed.is_some() {
            break cut_short(last, start.clock.start, events);
        }
    };
    if let Some(unknown) = items.unknown() {
        say(&unknown);
    }
    ended.losses = conclusions.with_unread(ended.losses);
    conclusions.end(&ended, &mut shown);
    let (failed, written) = (conclusions.failed(), shown.finish());
    Ok(Told { failed, is_cut: is_damaged, written })
}

/// The end of a trace whose recording has no end.
fn cut_short(time: u64, start: u64, events: u64) -> Ended {
    Ended {
        time,
        events,
        losses: Losses::default(),
        attached: std::time::Duration::from_nanos(time.saturating_sub(start)),
        reason: trace::Reason::RecordingEnds,
        cost: None,
    }
}
