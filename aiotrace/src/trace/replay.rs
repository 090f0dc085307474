//! Shows a recorded trace.

use std::{
    io::{self, BufReader, Read},
    path::Path,
};

use super::{
    conclusions::Conclusions,
    files,
    recorder::{Functions, Known},
    view::View,
};
use crate::{
    event::Event,
    failure::{Failure, Result},
    model::Severity,
    output::Ended,
    proc::system::memory_now,
    source::{
        Losses,
        recording::{Error, Item, Reader},
    },
    trace,
};

/// The most memory that showing a recording may take, in MiB. Traces stay below that
/// (docs/reference/recording.md); a file that was made to take more is not read further.
const MOST_MEMORY: u64 = 400;
/// How many items are read between two checks of the memory; each item may take a MiB.
const ITEMS: u64 = 64;

/// Shows a recording (`-` is standard input) as `view` says. Gives whether there was a finding at
/// least as severe as `fail_on`.
///
/// # Errors
/// If the recording cannot be read at all, or if the output cannot be written.
pub fn tell(path: &Path, view: &View, fail_on: Option<Severity>) -> Result<bool> {
    let file: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(files::read(path)?),
    };
    let mut reader = Reader::new(BufReader::new(file)).map_err(|error| with_hint(error, path))?;
    let (start, settings) = match reader.next_item() {
        Ok(Some(Item::Start(start, settings))) => (start, settings),
        Ok(_) => return Err(with_hint(Error::Truncated, path)),
        Err(error) => return Err(with_hint(error, path)),
    };
    let known = Known::default();
    let functions = Functions::default();
    let view = view.open(known.paths(), &functions.symbols(), false, false)?;
    view.file.as_ref().map_or(Ok(()), files::begin)?;
    let mut shown = view.shown;
    let mut conclusions = Conclusions::again(settings, fail_on);
    conclusions.start(&start, &mut shown);
    let (mut last, mut events) = (start.clock.start, 0);
    let mut items = 0u64;
    let mut ended = loop {
        items += 1;
        if items.is_multiple_of(ITEMS) && memory_now().is_some_and(|it| it > MOST_MEMORY << 20) {
            eprintln!(
                "aiotrace: showing the recording takes more than {MOST_MEMORY} MiB of memory, which no trace does; this is what \
                 came before"
            );
            conclusions.event(&Event::lost_somewhere(last), &mut shown);
            break cut_short(last, start.clock.start, events);
        }
        match reader.next_item() {
            Ok(Some(Item::Event(event))) => {
                (last, events) = (last.max(event.time), events + 1);
                known.forget(&event);
                conclusions.event(&event, &mut shown);
            }
            Ok(Some(Item::Time(now))) => conclusions.time(now, &mut shown),
            Ok(Some(Item::Path { pid, fd, path })) => known.set((pid, fd), 0, path),
            Ok(Some(Item::Functions { module, offset, functions: found })) => {
                functions.set((module, offset), found);
            }
            Ok(Some(Item::TimedOut(now))) => conclusions.timed_out(now, &mut shown),
            // Text and JSON do not have it.
            Ok(Some(Item::Process { .. })) => (),
            Ok(Some(Item::Report(mut ended))) => {
                ended.losses = conclusions.with_unread(ended.losses);
                conclusions.report(&ended, &mut shown);
            }
            Ok(Some(Item::End(ended))) => break ended,
            Ok(Some(Item::Start(..))) => return Err(with_hint(reader.damaged(), path)),
            Ok(None) => {
                eprintln!("aiotrace: {}", Error::Truncated);
                break cut_short(last, start.clock.start, events);
            }
            Err(error) => {
                eprintln!("aiotrace: {error}; this is what came before");
                conclusions.event(&Event::lost_somewhere(last), &mut shown);
                break cut_short(last, start.clock.start, events);
            }
        }
        conclusions.forget_questions();
        if shown.failed.is_some() {
            break cut_short(last, start.clock.start, events);
        }
    };
    if reader.unknown() > 0 {
        let (count, version) = (reader.unknown(), env!("CARGO_PKG_VERSION"));
        eprintln!(
            "aiotrace: a later aiotrace made the recording: {count} items in it are of kinds that {version} does not know, \
             and not told"
        );
    }
    ended.losses = conclusions.with_unread(ended.losses);
    conclusions.end(&ended, &mut shown);
    shown.finish()?;
    Ok(conclusions.failed())
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

fn with_hint(error: Error, file: &Path) -> Failure {
    let hint = match &error {
        Error::Foreign => "make one with `aiotrace attach --record FILE`".to_owned(),
        Error::Version(_) => "read it with the aiotrace that made it".to_owned(),
        Error::Truncated | Error::Damaged { .. } | Error::Chunk(_) | Error::Io(_) => {
            "nothing of it can be shown".to_owned()
        }
    };
    Failure::from(error).during(file.display()).with_hint(hint)
}
