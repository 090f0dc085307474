//! What one processor can do with events: `cargo bench -p aiotrace --bench events`, in events per second.
//!
//! The events are those of a program that reads with io_submit(1) and io_getevents(1): three for each pair, with the
//! completion.

use std::{hint::black_box, io, path::Path};

use aiotrace::{
    event::{Args, Body, Event, Ring},
    model::{Model, Settings, Thresholds},
    output::{
        Ended, Output,
        counting::Counting,
        json::Json,
        paths::Paths,
        table::Table,
        text::{Options, Text},
    },
    source::{Losses, bpf::Decoder},
};
use divan::{Bencher, counter::ItemsCount};
use jiff::tz::TimeZone;

fn main() {
    divan::main();
}

const PAIRS: u64 = 10_000;

/// What the probes sent of a program that makes a context, three pairs, and destroys it.
fn records() -> Vec<Vec<u8>> {
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/records/pairs-3.hex");
    let hex = std::fs::read_to_string(&seed).expect("the seeds of the fuzz targets");
    let digits: Vec<u32> = hex.chars().filter_map(|it| it.to_digit(16)).collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    let (mut records, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((head, tail)) = rest.split_at_checked(2) {
        let (record, behind) = tail.split_at(usize::from(u16::from_le_bytes([head[0], head[1]])));
        records.push(record.to_vec());
        rest = behind;
    }
    records
}

fn decoded(records: &[Vec<u8>]) -> Vec<Event> {
    let (mut decoder, mut events) = (Decoder::default(), Vec::new());
    for record in records {
        decoder.feed(record, |event| events.push(event.clone())).expect("a good record");
    }
    events
}

/// The beginning, up to io_setup, and then pairs: the second one again and again, later each time.
fn events() -> Vec<Event> {
    let all = decoded(&records());
    let is = |event: &Event, wanted: fn(&Args) -> bool| matches!(&event.body, Body::Call(it) if wanted(&it.args));
    let submits: Vec<usize> = (0..all.len())
        .filter(|&it| is(&all[it], |args| matches!(args, Args::Submit { .. })))
        .collect();
    let (beginning, pair) = (&all[..submits[0]], &all[submits[1]..submits[2]]);
    assert_eq!(pair.len(), 3, "a submit, a completion, a getevents");
    let mut events = beginning.to_vec();
    for number in 0..PAIRS {
        events.extend(pair.iter().map(|event| later(event, number)));
    }
    events
}

/// The event of this pair.
fn later(event: &Event, number: u64) -> Event {
    let mut event = event.clone();
    let nanoseconds = number * 100_000;
    event.time += nanoseconds;
    match &mut event.body {
        Body::Call(call) => {
            call.entered = call.entered.map(|it| it + nanoseconds);
            for ring in [&mut call.ring, &mut call.ring_before].into_iter().flatten() {
                move_on(ring, number);
            }
        }
        Body::Completion(completion) => {
            completion.since = completion.since.map(|it| it + nanoseconds);
        }
        _ => (),
    }
    event
}

fn move_on(ring: &mut Ring, number: u64) {
    for index in [&mut ring.head, &mut ring.tail] {
        *index = ((u64::from(*index) + number) % u64::from(ring.nr)) as u32;
    }
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

/// Records of the probes become events.
#[divan::bench]
fn decode(bencher: Bencher) {
    const TIMES: usize = 1000;
    let records = records();
    let count = decoded(&records).len() * TIMES;
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let mut decoder = Decoder::default();
        for record in std::iter::repeat_n(&records, TIMES).flatten() {
            let _ = decoder.feed(record, |event| {
                black_box(event);
            });
        }
    });
}

/// What is in flight, and what is wrong.
#[divan::bench]
fn model_of_events(bencher: Bencher) {
    let events = events();
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| {
        let mut model = model();
        for event in &events {
            model.handle_event(event);
            while let Some(finding) = model.next_finding() {
                drop(black_box(finding));
            }
        }
        model
    });
}

#[divan::bench]
fn text(bencher: Bencher) {
    shown(bencher, Text::new(io::sink(), Options::default(), Paths::none(), TimeZone::UTC));
}

#[divan::bench]
fn json(bencher: Bencher) {
    shown(bencher, Json::new(io::sink(), Paths::none()));
}

/// `-c`: counts and durations.
#[divan::bench]
fn summary(bencher: Bencher) {
    shown(bencher, Counting::new(Box::new(Table::new(io::sink()))));
}

fn shown(bencher: Bencher, mut output: impl Output) {
    let events = events();
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| {
        for event in &events {
            output.event(event).expect("nothing is written");
        }
    });
    let ended = Ended {
        time: 0,
        events: 0,
        losses: Losses::default(),
        attached: std::time::Duration::ZERO,
        reason: "targets_gone".into(),
        cost: None,
    };
    output.report(&ended, &model().report(), None).expect("nothing is written");
}
