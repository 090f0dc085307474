//! What the fuzz targets do (fuzz/), and the test that replays their seeds.

use crate::{
    fault::{Case, Judge, Rule},
    model::{Model, Rules, Settings, Thresholds},
    source::{
        bpf::Decoder,
        recording::{Item, Reader},
    },
};

/// Records, each with its length (two bytes, little-endian) before it, decoded and given to the model.
/// How many events came of them.
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

/// A recording, read to its end and given to the model. How many items it has.
pub fn recording(bytes: &[u8]) -> u64 {
    let Ok(mut reader) = Reader::new(bytes) else { return 0 };
    let mut model = model();
    let mut items = 0;
    while let Ok(Some(item)) = reader.next_item() {
        items += 1;
        match item {
            Item::Start(start, _) => model.set_rules(Rules::of(start.faults.as_ref())),
            Item::Event(event) => model.handle_event(&event),
            Item::Time(now) => model.handle_timeout(now),
            _ => (),
        }
    }
    conclude(&mut model);
    items
}

/// Rules, one in a line, each read on its own; those that mean something decide about some calls. How many
/// do.
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

fn model() -> Model {
    Model::new(Settings {
        thresholds: Thresholds::default(),
        exact_completions: false,
        every_call: true,
        synchronous: true,
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
