//! The way out: the same records as the probes of the kernel write, in the same order (aiotrace-ebpf).

use aiotrace_common::record::{Header, Kind};
use zerocopy::{Immutable, IntoBytes};

use super::tracee::Tracee;
use crate::source::backlog::{Feeder, Message};

/// Where records go.
pub struct Records {
    /// `None`: nobody wants them any more.
    feeder: Option<Feeder>,
    /// A record and the array behind it.
    buffer: Vec<u8>,
    /// Something waits to be handed on.
    pub(super) waits: bool,
}

impl Records {
    /// Into this.
    pub fn new(feeder: Feeder) -> Self {
        Self { feeder: Some(feeder), buffer: Vec::with_capacity(32 << 10), waits: false }
    }

    /// One record.
    pub fn emit(&mut self, record: &(impl IntoBytes + Immutable)) {
        self.push(record.as_bytes());
    }

    /// One record and its array.
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

    /// Lets the reader have them.
    pub fn hand_on(&mut self) {
        if let Some(feeder) = &mut self.feeder {
            feeder.hand_on();
            self.waits = feeder.holds();
        }
    }

    /// Says something else; whether there was room for it.
    pub fn say(&self, message: Message) -> bool {
        self.feeder.as_ref().is_some_and(|it| it.say(message))
    }

    /// Records for which there was no room.
    pub fn dropped(&self) -> u64 {
        self.feeder.as_ref().map_or(0, Feeder::dropped)
    }

    /// For the last message; nothing goes out any more.
    pub fn take(&mut self) -> Option<Feeder> {
        self.feeder.take()
    }
}

/// The header of this thread's next record.
pub fn header(tracee: &mut Tracee, kind: Kind, flags: u16, time: u64) -> Header {
    tracee.seq = tracee.seq.wrapping_add(1);
    Header { kind, flags, seq: tracee.seq, time, pid: tracee.pid, tid: tracee.tid }
}
