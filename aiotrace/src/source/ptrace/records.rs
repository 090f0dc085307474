//! Writes records: the same as those of the probes (aiotrace-ebpf), in the same order.

use aiotrace_common::record::{Header, Kind};
use zerocopy::{Immutable, IntoBytes};

use super::tracee::Tracee;
use crate::source::backlog::{Feeder, Message};

/// Where records are written.
pub struct Records {
    /// `None`: nobody reads them any more.
    feeder: Option<Feeder>,
    /// The record that is being written, and the array behind it.
    buffer: Vec<u8>,
    /// Records wait to be handed on.
    pub(super) waits: bool,
}

impl Records {
    /// Writes records into this feeder.
    pub fn new(feeder: Feeder) -> Self {
        Self { feeder: Some(feeder), buffer: Vec::with_capacity(32 << 10), waits: false }
    }

    /// Writes a record.
    pub fn emit(&mut self, record: &(impl IntoBytes + Immutable)) {
        self.push(record.as_bytes());
    }

    /// Writes a record and the array that follows it.
    pub fn emit_with(
        &mut self,
        record: &(impl IntoBytes + Immutable),
        array: &(impl IntoBytes + Immutable + ?Sized),
    ) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(record.as_bytes());
        buffer.extend_from_slice(array.as_bytes());
        self.push(&buffer);
        self.buffer = buffer;
    }

    fn push(&mut self, record: &[u8]) {
        if let Some(feeder) = &mut self.feeder {
            feeder.push(record);
            self.waits = true;
        }
    }

    /// Hands the records on to the reader.
    pub fn hand_on(&mut self) {
        if let Some(feeder) = &mut self.feeder {
            feeder.hand_on();
            self.waits = feeder.holds();
        }
    }

    /// Sends another message; `false` if there was no room for it.
    pub fn say(&self, message: Message) -> bool {
        self.feeder.as_ref().is_some_and(|it| it.say(message))
    }

    /// Number of records for which there was no room.
    pub fn dropped(&self) -> u64 {
        self.feeder.as_ref().map_or(0, Feeder::dropped)
    }

    /// Takes the feeder out, for the last message; later records go nowhere.
    pub fn take(&mut self) -> Option<Feeder> {
        self.feeder.take()
    }
}

/// The header of this thread's next record, which counts in its sequence.
pub fn header(tracee: &mut Tracee, kind: Kind, flags: u16, time: u64) -> Header {
    tracee.seq = tracee.seq.wrapping_add(1);
    Header { kind, flags, seq: tracee.seq, time, pid: tracee.pid, tid: tracee.tid }
}
