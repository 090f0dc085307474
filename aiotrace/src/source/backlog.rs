//! What waits between the thread that collects records and the output: a queue in memory
//! and, where the output is a local file, an unnamed file behind it. The drain never waits for
//! either reader or formatter; a file takes records several times faster than they can be written
//! as text.
//!
//! ```text
//!  drain ── Feeder ──> queue (8 MiB) ──────────────> Eater ──> output
//!                └───> file, while the queue is full ──┘
//! ```
//! Once a batch went to the file, all go there until the reader has taken the last of them; so the
//! order stays.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{
            Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, TrySendError,
            sync_channel,
        },
    },
    time::Duration,
};

use super::{Losses, collector::End};
use crate::counted::Counted;

/// A batch is handed on when it has this size.
const BATCH: usize = 256 << 10;
/// Batches that may wait in memory: 8 MiB.
const QUEUE: usize = 32;
/// With so many that the reader has not given back, a batch gathers until it is full: small ones would take
/// the places of large ones.
const FEW: usize = 4;
/// Bytes of the file, which begins again when all of it was read.
const MOST_IN_FILE: u64 = 4 << 30;

/// From the collector.
pub enum Message {
    /// Records, in order; see [`Batch::records`].
    Records(Batch),
    /// The trace is over, and so many bytes of records still wait.
    Behind(u64),
    /// Something was lost: all causes so far.
    Lost(Losses),
    /// Somebody asks for a report; what was lost so far.
    Report(Losses),
    /// What was counted so far.
    Counted(Box<Counted>),
    /// Something that the user should know.
    Note(String),
    /// We are detached and nothing follows.
    End(Box<End>),
}

/// Records, one behind the other, each with its length before it.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: u64,
}

impl Batch {
    /// Room for all that it will hold: growing would double it.
    fn empty() -> Self {
        const LARGEST_RECORD: usize = 8 << 10;
        Self { bytes: Vec::with_capacity(BATCH + LARGEST_RECORD), records: 0 }
    }

    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(&(record.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }

    /// The records.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (record, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
            rest = after;
            Some(record)
        })
    }
}

/// The two ends. `file`: where records wait when the queue is full; without it they are lost.
pub fn backlog(file: Option<File>) -> (Feeder, Eater) {
    let (sender, receiver) = sync_channel(QUEUE);
    let (spare, spares) = sync_channel(QUEUE);
    let spill = file.map(|file| Arc::new(Spill::new(file)));
    let (free, batch) = (Vec::new(), Batch::empty());
    let feeder = Feeder { sender, spares, free, out: 0, spill: spill.clone(), batch, dropped: 0 };
    (feeder, Eater { receiver, spare, spill, end: None, told: false, empty: None })
}

/// The end of the drain.
pub struct Feeder {
    sender: SyncSender<Message>,
    spares: Receiver<Batch>,
    /// Those that came back.
    free: Vec<Batch>,
    /// Handed on and not back yet.
    out: usize,
    spill: Option<Arc<Spill>>,
    batch: Batch,
    /// Records for which there was no room.
    dropped: u64,
}

impl Feeder {
    /// Adds a record.
    pub fn push(&mut self, record: &[u8]) {
        self.batch.push(record);
        if self.batch.bytes.len() >= BATCH {
            self.hand_on();
        }
    }

    /// Lets the reader have what was added; never waits. What fits nowhere stays, and is dropped and
    /// counted when it is a full batch.
    pub fn hand_on(&mut self) {
        if self.batch.records == 0 {
            return;
        }
        let full = self.batch.bytes.len() >= BATCH;
        if let Some(spill) = self.spill.as_deref().filter(|spill| spill.waiting() > 0) {
            if full {
                self.dropped += spill.write(&self.batch);
                self.batch.clear();
            }
            return;
        }
        while let Ok(spare) = self.spares.try_recv() {
            self.out = self.out.saturating_sub(1);
            self.free.push(spare);
        }
        if !full && self.out >= FEW {
            return;
        }
        let empty = self.free.pop().unwrap_or_else(Batch::empty);
        let batch = std::mem::replace(&mut self.batch, empty);
        self.out += 1;
        if let Err(TrySendError::Full(Message::Records(mut rejected))) =
            self.sender.try_send(Message::Records(batch))
        {
            self.out -= 1;
            if full {
                self.dropped += match &self.spill {
                    Some(spill) => spill.write(&rejected),
                    None => rejected.records,
                };
                rejected.clear();
            }
            let empty = std::mem::replace(&mut self.batch, rejected);
            self.free.push(empty);
        }
    }

    /// Whether something was not handed on yet.
    pub fn holds(&self) -> bool {
        self.batch.records > 0
    }

    /// How many records were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Says something else than records; `false` if there is no room for it now.
    pub fn say(&self, message: Message) -> bool {
        self.sender.try_send(message).is_ok()
    }

    /// The last message. `end` is told how many records were dropped.
    pub fn finish(mut self, end: impl FnOnce(u64) -> End) {
        // Nothing more can be lost: now there is time to wait.
        match self.spill.as_deref().filter(|spill| spill.waiting() > 0) {
            Some(spill) => self.dropped += spill.write(&self.batch),
            None => {
                let _ = self.sender.send(Message::Records(self.batch));
            }
        }
        let _ = self.sender.send(Message::End(Box::new(end(self.dropped))));
    }
}

/// The end of the output.
pub struct Eater {
    receiver: Receiver<Message>,
    spare: SyncSender<Batch>,
    spill: Option<Arc<Spill>>,
    /// It came while records waited in the file.
    end: Option<Box<End>>,
    told: bool,
    /// To be filled from the file.
    empty: Option<Batch>,
}

impl Eater {
    /// The next message, waiting for it no longer than this; an error if the drain is dead.
    ///
    /// # Errors
    /// The drain is gone without a last message.
    pub fn wait_next_for(&mut self, time: Duration) -> Result<Option<Message>, RecvError> {
        if let Some(message) = self.try_next()? {
            return Ok(Some(message));
        }
        // Nothing waits in the file: that begins only when the queue is full.
        match self.receiver.recv_timeout(time) {
            Ok(Message::End(end)) => {
                self.end = Some(end);
                self.try_next()
            }
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RecvError),
        }
    }

    /// The next message, if there is one already.
    ///
    /// # Errors
    /// The drain is gone without a last message.
    pub fn try_next(&mut self) -> Result<Option<Message>, RecvError> {
        loop {
            // Asked first: what is then found in the queue is older than what is in the file.
            let waiting = self.spill.as_deref().map_or(0, Spill::waiting);
            match self.receiver.try_recv() {
                Ok(Message::End(end)) => {
                    self.end = Some(end);
                    continue;
                }
                Ok(message) => return Ok(Some(message)),
                Err(TryRecvError::Disconnected) if self.end.is_none() && waiting == 0 => {
                    return Err(RecvError);
                }
                Err(_) => (),
            }
            if let Some(spill) = self.spill.as_deref().filter(|_| waiting > 0) {
                if self.end.is_some() && !std::mem::replace(&mut self.told, true) {
                    return Ok(Some(Message::Behind(waiting)));
                }
                return Ok(Some(Message::Records(
                    spill.read(self.empty.take().unwrap_or_default()),
                )));
            }
            return Ok(self.end.take().map(|mut end| {
                end.losses.queue_full += self.spill.as_deref().map_or(0, Spill::unreadable);
                Message::End(end)
            }));
        }
    }

    /// Gives a batch back to be filled again.
    pub fn give_back(&mut self, mut batch: Batch) {
        batch.clear();
        if let Err(TrySendError::Full(batch)) = self.spare.try_send(batch) {
            self.empty = Some(batch);
        }
    }

    /// Takes what comes until the drain is gone.
    pub fn discard(&mut self) {
        while self.receiver.recv().is_ok() {}
    }
}

/// Batches in a file, each with its size and number of records before it. One thread writes, one
/// reads.
struct Spill {
    file: File,
    /// Bytes.
    written: AtomicU64,
    read: AtomicU64,
    /// Records written and not yet read.
    records: AtomicU64,
    /// Records that were written and could not be read back.
    unreadable: AtomicU64,
}

const BATCH_HEAD: usize = 16;

impl Spill {
    fn new(file: File) -> Self {
        let zero = || AtomicU64::new(0);
        Self { file, written: zero(), read: zero(), records: zero(), unreadable: zero() }
    }

    /// Bytes written and not yet read.
    fn waiting(&self) -> u64 {
        let read = self.read.load(Ordering::Acquire);
        self.written.load(Ordering::Acquire).saturating_sub(read)
    }

    /// How many records had to be dropped instead: the disk is full, or the bound is reached.
    fn write(&self, batch: &Batch) -> u64 {
        if self.waiting() == 0 {
            // From the beginning again. In this order the reader never sees anything waiting.
            self.written.store(0, Ordering::Release);
            self.read.store(0, Ordering::Release);
        }
        let at = self.written.load(Ordering::Relaxed);
        let head = [batch.bytes.len() as u64, batch.records].map(u64::to_ne_bytes).concat();
        let size = (BATCH_HEAD + batch.bytes.len()) as u64;
        let fits = at + size <= MOST_IN_FILE;
        let written = fits
            && self.file.write_all_at(&head, at).is_ok()
            && self.file.write_all_at(&batch.bytes, at + BATCH_HEAD as u64).is_ok();
        if !written {
            return batch.records;
        }
        self.records.fetch_add(batch.records, Ordering::Relaxed);
        self.written.store(at + size, Ordering::Release);
        0
    }

    /// The next batch, in place of an empty one; there must be one. (Giving its place on the disk back
    /// would lock the file against the writer, which may not wait.)
    fn read(&self, mut batch: Batch) -> Batch {
        let at = self.read.load(Ordering::Relaxed);
        let Some(size) = self.batch_at(at, &mut batch) else {
            // Nothing behind it can be found.
            self.read.store(self.written.load(Ordering::Acquire), Ordering::Release);
            self.unreadable.fetch_add(self.records.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            return Batch::default();
        };
        self.records.fetch_sub(batch.records, Ordering::Relaxed);
        self.read.store(at + size, Ordering::Release);
        batch
    }

    /// Its size in the file.
    fn batch_at(&self, at: u64, batch: &mut Batch) -> Option<u64> {
        let mut head = [0; BATCH_HEAD];
        self.file.read_exact_at(&mut head, at).ok()?;
        let (length, records) = head.split_at(8);
        let length = u64::from_ne_bytes(length.try_into().ok()?);
        batch.bytes.resize(usize::try_from(length).ok()?, 0);
        self.file.read_exact_at(&mut batch.bytes, at + BATCH_HEAD as u64).ok()?;
        batch.records = u64::from_ne_bytes(records.try_into().ok()?);
        Some(BATCH_HEAD as u64 + length)
    }

    fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
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
            match eater.wait_next_for(Duration::from_secs(9)).expect("no death").expect("a message")
            {
                Message::Records(batch) => {
                    for record in batch.records() {
                        seen.push(u32::from_ne_bytes(record[..4].try_into().expect("four bytes")));
                    }
                    eater.give_back(batch);
                }
                Message::Behind(bytes) => assert!(bytes > 0),
                Message::Lost(_) | Message::Report(_) | Message::Note(_) | Message::Counted(_) => {
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
}
