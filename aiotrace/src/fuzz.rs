//! What the fuzz targets do (fuzz/), and the test that replays their seeds.

use std::{
    io::{self, Write},
    time::Duration,
};

use aiotrace_common::abi::{IoEvent, RingHeader};
use jiff::tz::TimeZone;

use crate::{
    event::{Body, Event, Handle, Looked, RingFound},
    fault::{Case, Judge, Rule},
    model::{Model, Rules, Settings, Thresholds},
    output::{
        Output,
        counting::Counting,
        escape::must_be_escaped,
        json::Json,
        paths::Paths,
        perfetto::Perfetto,
        table::Table,
        text::{self, Text},
    },
    proc::{self, ring},
    source::{
        bpf::{Decoder, adopt::Found},
        recording::{Item, Reader},
    },
    stacks,
    top::{batch::Batch, choice::Choice, gather::Sink as _, play},
    trace::{
        Items,
        recorder::{Functions, Known},
    },
};

/// Decodes records, which each have their length (two bytes, little-endian) before them, and passes
/// the events to the model. Gives how many events there were.
pub fn records(bytes: &[u8]) -> u64 {
    let mut decoder = Decoder::default();
    let mut model = model();
    let mut events = 0;
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([head[0], head[1]])).min(tail.len());
        let (record, behind) = tail.split_at(length);
        let _ = decoder.feed(record, |event| {
            events += 1;
            model.handle_event(event);
        });
        rest = behind;
    }
    conclude(&mut model);
    events
}

/// Reads a recording to its end, passes it to the model, and shows it in every form. Gives how many
/// items it has.
///
/// # Panics
/// If an output contains something that a terminal obeys, which is what this test looks for.
pub fn recording(bytes: &[u8]) -> u64 {
    let mut items = 0;
    for form in FORMS {
        let known = (Known::default(), Functions::default());
        items = tell(bytes, form(Checked, &known).as_mut(), &known);
    }
    play(bytes);
    items
}

/// Shows a recording as `aiotrace top FILE` does.
fn play(bytes: &[u8]) {
    let Ok((items, start, settings)) = Items::begin(bytes) else { return };
    let (snapshots, _) = play::film(items, &start, settings, Duration::from_secs(1));
    let mut batch = Batch::new(Checked, Choice::default(), None);
    for snapshot in snapshots {
        let _ = batch.take(snapshot);
    }
}

/// Makes an output that uses the known paths of descriptors and the known functions.
type Form = fn(Checked, &(Known, Functions)) -> Box<dyn Output>;

const FORMS: [Form; 6] = [
    |to, known| text(to, known, text::Options::default()),
    |to, known| text(to, known, text::Options { verbose: true, ..text::Options::default() }),
    |to, known| Box::new(Json::new(to, known.0.paths()).with_symbols(known.1.symbols())),
    // It is no text.
    |_, known| Box::new(Perfetto::new(io::sink(), known.0.paths())),
    |to, _| Box::new(Counting::new(Box::new(Table::new(to)))),
    |to, _| Box::new(Counting::new(Box::new(Json::new(to, Paths::none())))),
];

fn text(
    to: Checked,
    (paths, functions): &(Known, Functions),
    options: text::Options,
) -> Box<dyn Output> {
    let text = Text::new(to, options, paths.paths(), TimeZone::UTC);
    Box::new(text.with_symbols(functions.symbols()))
}

fn tell(bytes: &[u8], output: &mut dyn Output, (known, functions): &(Known, Functions)) -> u64 {
    let Ok(mut reader) = Reader::new(bytes) else { return 0 };
    let mut model = model();
    let (mut items, mut ended) = (0, None);
    // The outputs write to no file, so nothing fails.
    while let Ok(Some(item)) = reader.next_item() {
        items += 1;
        let _ = match item {
            Item::Start(start, _) => {
                model.set_rules(Rules::of(start.faults.as_ref()));
                output.start(&start)
            }
            Item::Event(event) => {
                known.forget(&event);
                let shown = output.event(&event);
                model.handle_event(&event);
                shown
            }
            Item::Time(now) => {
                model.handle_timeout(now);
                Ok(())
            }
            Item::TimedOut(now) => {
                model.timed_out(now);
                Ok(())
            }
            Item::Path { pid, fd, path } => {
                known.set((pid, fd), 0, path);
                Ok(())
            }
            Item::Functions { module, offset, functions: found } => {
                functions.set((module, offset), found);
                Ok(())
            }
            Item::Process { .. } => Ok(()),
            Item::Report(told) => output.report(&told, &model.report(), None),
            Item::End(told) => {
                ended = Some(told);
                Ok(())
            }
        };
        conclusions(&mut model, output);
    }
    model.handle_timeout(u64::MAX / 2);
    model.finish(u64::MAX / 2);
    conclusions(&mut model, output);
    let report = model.report();
    if let Some(ended) = ended {
        let _ = output.report(&ended, &report, None);
    }
    let _ = output.flush();
    items
}

fn conclusions(model: &mut Model, output: &mut dyn Output) {
    while model.next_question().is_some() {}
    while let Some(finding) = model.next_finding() {
        let _ = output.finding(&finding);
    }
    while let Some(verdict) = model.next_verdict() {
        let _ = output.verdict(&verdict);
    }
}

/// A writer that panics if something is written that a terminal obeys.
struct Checked;

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let raw = text.chars().find(|it| *it != '\n' && must_be_escaped(*it));
        assert_eq!(raw, None, "{text}");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Parses rules, one in each line, each on its own; the valid ones decide about some calls. Gives
/// how many rules are valid.
pub fn rules(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let mut rules = Vec::new();
    for line in text.lines() {
        match Rule::parse(line) {
            Ok(rule) => rules.push(rule),
            Err(mistake) => drop(mistake.to_string()),
        }
    }
    let count = rules.len() as u64;
    let mut judge = Judge::new(rules, count, 0);
    for number in 0..64 {
        let case = Case {
            what: number % 8,
            pid: number % 3,
            tid: number % 5,
            ctx: u64::from(number % 2),
            nr: i64::from(number),
            now: u64::from(number) * 100_000_000,
        };
        judge.decide(&case, |rule| rule.describes(number as u16, number, None));
    }
    count
}

/// Reads a file with code of a target. Gives how much was found in it.
pub fn elf(bytes: &[u8]) -> u64 {
    stacks::fuzz::file(bytes)
}

/// Unwinds a stack with unwind tables. Gives how many functions were found in progress.
pub fn unwind(bytes: &[u8]) -> u64 {
    stacks::unwind_fuzz(bytes)
}

/// Parses what /proc says of a process: each reader gets the same bytes. Gives how many of them
/// found something.
pub fn proc(bytes: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bytes);
    let maps = stacks::fuzz::of_proc(bytes)
        + bytes.split(|it| *it == b'\n').filter_map(ring::mapped).count() as u64;
    maps + proc::fuzz(bytes, &text)
}

/// Looks at the headers of rings, as a target may write them. A byte before each header says which
/// context is meant. Gives how many events there were.
pub fn rings(bytes: &[u8]) -> u64 {
    let (mut decoder, mut model) = (Decoder::default(), model());
    let mut events = 0;
    for (time, piece) in (1..).zip(bytes.chunks_exact(1 + size_of::<RingHeader>())) {
        let (handle, pid) = (u64::from(piece[0] % 4) << 12, u32::from(piece[0] >> 7) + 1);
        let ring = ring::header_of(&piece[1..]);
        let found = Found { pid, handle, space: Some(7), charge: None, in_flight: None, ring };
        let mut tell = |event: &Event| {
            events += 1;
            model.handle_event(event);
        };
        if piece[0] & 8 != 0 {
            tell(&decoder.adopt(&found, time));
        }
        let Some(ring) = ring else { continue };
        let entry =
            |at| IoEvent { data: u64::from(at), obj: 0x1000 + u64::from(at % 3), res: 8, res2: 0 };
        let read = |first: u32, count: u32| {
            Some((first..first.saturating_add(count)).map(entry).collect())
        };
        decoder.look(pid, handle, ring.tail, (time, time), read, &mut tell);
        let looked = Looked::Ring {
            ctx: Handle(handle),
            found: RingFound::There(ring.into()),
            destroying: false,
            awaited: None,
        };
        tell(&Event { time, pid, tid: pid, body: Body::Looked(looked) });
    }
    conclude(&mut model);
    events
}

fn model() -> Model {
    Model::new(Settings {
        thresholds: Thresholds::default(),
        exact_completions: false,
        every_call: true,
        synchronous: true,
        stops: false,
    })
}

fn conclude(model: &mut Model) {
    model.handle_timeout(u64::MAX / 2);
    model.finish(u64::MAX / 2);
    while model.next_question().is_some() {}
    while model.next_finding().is_some() {}
    while model.next_verdict().is_some() {}
    model.report();
}
