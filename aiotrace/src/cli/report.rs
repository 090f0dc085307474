//! `aiotrace report`: tells a recorded trace again.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    Hint,
    conclusions::{Conclusions, FailOn},
    cost,
    recorder::{Functions, Known},
    view::View,
    written,
};
use crate::{
    event::Event,
    output::Ended,
    source::{
        Losses,
        recording::{Error, Item, Reader},
    },
    trace,
};

/// Memory that a recording may take, MiB. Traces stay below that (docs/recording.md); a file that was made to take more
/// is not read on.
const MOST_MEMORY: u64 = 400;
/// Items between two looks at the memory; each may take an MiB.
const ITEMS: u64 = 64;

/// Tell a recorded trace again, as it was told live: calls, findings and the report
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    view: View,
    /// End with status 1 if there is a finding of this severity, or a worse one
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,
    /// A recording, made with `--record FILE`; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let file: Box<dyn Read> = match options.file.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(
            File::open(&options.file)
                .with_context(|| format!("cannot open {}", options.file.display()))?,
        ),
    };
    let mut reader =
        Reader::new(BufReader::new(file)).map_err(|error| with_hint(error, &options.file))?;
    let (start, settings) = match reader.next_item() {
        Ok(Some(Item::Start(start, settings))) => (start, settings),
        Ok(_) => return Err(with_hint(Error::Truncated, &options.file)),
        Err(error) => return Err(with_hint(error, &options.file)),
    };
    let known = Known::default();
    let functions = Functions::default();
    let view = options.view.open(known.paths(), &functions.symbols(), false, false)?;
    view.file.as_ref().map_or(Ok(()), written::begin)?;
    let mut shown = view.shown;
    let mut conclusions = Conclusions::again(settings, options.fail_on);
    conclusions.start(&start, &mut shown);
    let (mut last, mut events) = (start.clock.start, 0);
    let mut items = 0u64;
    let mut ended = loop {
        items += 1;
        if items.is_multiple_of(ITEMS) && cost::memory_now() > MOST_MEMORY << 20 {
            eprintln!(
                "aiotrace: telling it takes more than {MOST_MEMORY} MiB of memory, which no trace does; this is what \
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
            Ok(Some(Item::Report(mut ended))) => {
                ended.losses = conclusions.with_unread(ended.losses);
                conclusions.report(&ended, &mut shown);
            }
            Ok(Some(Item::End(ended))) => break ended,
            Ok(Some(Item::Start(..))) => return Err(with_hint(reader.damaged(), &options.file)),
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
    ended.losses = conclusions.with_unread(ended.losses);
    conclusions.end(&ended, &mut shown);
    shown.finish()?;
    Ok(u8::from(conclusions.failed()))
}

/// The end of a trace whose end is not recorded.
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

fn with_hint(error: Error, file: &Path) -> anyhow::Error {
    let hint = match &error {
        Error::Foreign => "make one with `aiotrace attach --record FILE`".to_owned(),
        Error::Version(_) => "read it with the aiotrace that made it".to_owned(),
        Error::Truncated | Error::Damaged { .. } | Error::Chunk(_) | Error::Io(_) => {
            "nothing of it can be told".to_owned()
        }
    };
    anyhow::Error::new(error).context(file.display().to_string()).context(Hint(hint))
}
