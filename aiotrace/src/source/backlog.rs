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

mod batch;
mod spill;

use std::{
    fs::File,
    sync::{
        Arc,
        mpsc::{
            Receiver, RecvError, RecvTimeoutError, SyncSender, TryRecvError, TrySendError,
            sync_channel,
        },
    },
    time::Duration,
};

pub use self::batch::Batch;
use self::{batch::BATCH, spill::Spill};
use aiotrace_common::record::Thread;

use super::{Losses, collector::End};
use crate::counted::Counted;

/// Batches that may wait in memory: 8 MiB.
const QUEUE: usize = 32;
/// With so many that the reader has not given back, a batch gathers until it is full: small ones would take
/// the places of large ones.
const FEW: usize = 4;

/// From the collector.
pub enum Message {
    /// Records, in order; see [`Batch::records`].
    Records(Batch),
    /// The trace is over, and so many bytes of records still wait.
    Behind(u64),
    /// Something was lost: all causes so far.
    Lost(Losses),
    /// Somebody asks for a report: what was lost so far, and the threads that are in a call.
    Report(Losses, Vec<Thread>),
    /// What was counted so far.
    Counted(Box<Counted>),
    /// Something that the user should know.
    Note(String),
    /// We are detached and nothing follows.
    End(Box<End>),
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

#[cfg(test)]
mod tests;
