use std::time::Duration;

use super::*;
use crate::source::{Losses, collector::Reason};

fn end(dropped: u64) -> End {
    End {
        reason: Reason::TimeOver,
        losses: Losses { queue_full: dropped, ..Losses::default() },
        in_calls: Vec::new(),
        attached: Duration::ZERO,
        runs: None,
        counted: None,
    }
}

/// Far more than the queue holds: all there, in order.
fn feed(records: u32, mut feeder: Feeder) {
    for number in 0..records {
        let mut record = [0; 1 << 10];
        record[..4].copy_from_slice(&number.to_ne_bytes());
        feeder.push(&record);
    }
    feeder.hand_on();
    feeder.finish(end);
}

fn eat(mut eater: Eater) -> (Vec<u32>, u64) {
    let mut seen = Vec::new();
    loop {
        match eater.wait_next_for(Duration::from_secs(9)).expect("no death").expect("a message") {
            Message::Records(batch) => {
                for record in batch.records() {
                    seen.push(u32::from_ne_bytes(record[..4].try_into().expect("four bytes")));
                }
                eater.give_back(batch);
            }
            Message::Behind(bytes) => assert!(bytes > 0),
            Message::Lost(_) | Message::Report(..) | Message::Note(_) | Message::Counted(_) => {
                panic!("nobody said that")
            }
            Message::End(end) => return (seen, end.losses.queue_full),
        }
    }
}

#[test]
fn what_does_not_fit_waits_in_the_file_in_order() {
    const RECORDS: u32 = 40_000; // 40 MiB
    let (feeder, eater) = backlog(Some(tempfile::tempfile().expect("a file")));
    let fed = std::thread::spawn(|| feed(RECORDS, feeder));
    let (seen, dropped) = eat(eater);
    fed.join().expect("fed");
    assert_eq!(dropped, 0);
    assert!(seen.into_iter().eq(0..RECORDS));
}

#[test]
fn a_file_that_is_read_late_holds_everything() {
    const RECORDS: u32 = 20_000;
    let (mut feeder, eater) = backlog(Some(tempfile::tempfile().expect("a file")));
    for number in 0..RECORDS {
        let mut record = [0; 1 << 10];
        record[..4].copy_from_slice(&number.to_ne_bytes());
        feeder.push(&record);
    }
    // The queue is full and stays so until somebody reads.
    let spill = feeder.spill.clone().expect("a file");
    assert!(spill.waiting() > 8 << 20, "{}", spill.waiting());
    let ended = std::thread::spawn(|| feeder.finish(end));
    let (seen, dropped) = eat(eater);
    ended.join().expect("ended");
    assert_eq!(dropped, 0);
    assert!(seen.into_iter().eq(0..RECORDS));
    assert_eq!(spill.waiting(), 0);
}

#[test]
fn without_a_file_what_does_not_fit_is_counted() {
    const RECORDS: u32 = 20_000;
    let (mut feeder, eater) = backlog(None);
    for _ in 0..RECORDS {
        feeder.push(&[0; 1 << 10]);
    }
    let ended = std::thread::spawn(|| feeder.finish(end));
    let (seen, dropped) = eat(eater);
    ended.join().expect("ended");
    assert!(dropped > 0);
    assert_eq!(seen.len() as u64 + dropped, u64::from(RECORDS));
}

#[test]
fn a_full_disk_is_counted() {
    let full = File::options().read(true).write(true).open("/dev/full").expect("/dev/full");
    let (feeder, eater) = backlog(Some(full));
    let spill = feeder.spill.clone().expect("a file");
    let mut batch = Batch::default();
    batch.push(b"record");
    assert_eq!(spill.write(&batch), 1);
    assert_eq!(spill.waiting(), 0);
    drop((feeder, eater));
}

#[test]
fn a_drain_that_dies_is_told() {
    let (feeder, mut eater) = backlog(None);
    drop(feeder);
    assert!(eater.wait_next_for(Duration::from_secs(9)).is_err());
}

#[test]
fn a_batch_gives_back_its_records() {
    let mut batch = Batch::default();
    for record in [&b"one"[..], b"", b"three"] {
        batch.push(record);
    }
    assert_eq!(batch.records().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    batch.clear();
    assert_eq!(batch.records().count(), 0);
}

#[test]
fn a_batch_that_is_cut_short_ends_there() {
    let mut batch = Batch::default();
    batch.push(b"record");
    batch.bytes.truncate(7);
    assert_eq!(batch.records().count(), 0);
}
