//! Writes packets one by one. Names are written once and then stand for themselves by number, which
//! makes a trace a third as large.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use prost::Message as _;

use super::proto::{
    Clock, ClockSnapshot, DebugAnnotation, Interned, InternedData, TracePacket,
    TracePacketDefaults, TrackDescriptor, TrackEvent, clock, flags, kind,
};

/// A piece of output, in bytes.
const PIECE: usize = 64 << 10;
/// Most names that stand for themselves by number: a target chooses some of them.
const MOST_NAMES: usize = 16_384;
/// All packets are of one sequence.
const SEQUENCE: u32 = 1;

/// A value of an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

/// Arguments by name.
pub type Args = Vec<(&'static str, Value)>;

/// Something on a track.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// The track.
    pub track: u64,
    /// Its name.
    pub name: String,
    /// Its category.
    pub category: &'static str,
    /// Its arguments.
    pub args: Args,
    /// The flows that go through it.
    pub flows: Vec<u64>,
    /// The flows that end in it.
    pub ends: Vec<u64>,
}

/// Writes packets.
pub struct Packets<W> {
    out: W,
    bytes: Vec<u8>,
    packet: Vec<u8>,
    names: Names,
    categories: Names,
    arguments: Names,
}

impl<W: Write> Packets<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        let names = Names::default;
        let bytes = Vec::with_capacity(2 * PIECE);
        Self {
            out,
            bytes,
            packet: Vec::new(),
            names: names(),
            categories: names(),
            arguments: names(),
        }
    }

    /// The first packet: which clock all times are of, and what the time of day was.
    ///
    /// # Errors
    /// Those of the writer; so for all methods.
    pub fn begin(&mut self, start: u64, wall: u64) -> io::Result<()> {
        let at =
            |clock_id, timestamp| Clock { clock_id: Some(clock_id), timestamp: Some(timestamp) };
        let clocks = vec![at(clock::MONOTONIC, start), at(clock::REALTIME, wall)];
        self.write(TracePacket {
            clock_snapshot: Some(ClockSnapshot {
                clocks,
                primary_trace_clock: Some(clock::MONOTONIC),
            }),
            sequence_flags: Some(flags::CLEARED),
            first_packet_on_sequence: Some(true),
            trace_packet_defaults: Some(TracePacketDefaults {
                timestamp_clock_id: Some(clock::MONOTONIC),
            }),
            ..TracePacket::default()
        })
    }

    /// Describes a track.
    pub fn track(&mut self, track: TrackDescriptor) -> io::Result<()> {
        let track_descriptor = Some(track);
        self.write(TracePacket { track_descriptor, ..TracePacket::default() })
    }

    /// Something begins.
    pub fn slice(&mut self, time: u64, event: &Event) -> io::Result<()> {
        self.event(time, kind::BEGIN, event)
    }

    /// Something happens.
    pub fn instant(&mut self, time: u64, event: &Event) -> io::Result<()> {
        self.event(time, kind::INSTANT, event)
    }

    /// What began last on a track ends.
    pub fn end(&mut self, time: u64, track: u64) -> io::Result<()> {
        let event = TrackEvent {
            r#type: Some(kind::END),
            track_uuid: Some(track),
            ..TrackEvent::default()
        };
        self.put(time, event, None)
    }

    /// A number has this value from now on.
    pub fn count(&mut self, time: u64, track: u64, value: i64) -> io::Result<()> {
        let event = TrackEvent {
            r#type: Some(kind::COUNTER),
            track_uuid: Some(track),
            counter_value: Some(value),
            ..TrackEvent::default()
        };
        self.put(time, event, None)
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.hand_on()?;
        self.out.flush()
    }

    fn event(&mut self, time: u64, kind: i32, event: &Event) -> io::Result<()> {
        let mut new = InternedData::default();
        let name_iid = self.names.number(&event.name, &mut new.event_names);
        let category = self.categories.number(event.category, &mut new.event_categories);
        let mut debug_annotations = Vec::with_capacity(event.args.len());
        for (name, value) in &event.args {
            let name_iid = self.arguments.number(name, &mut new.debug_annotation_names);
            let (int_value, string_value) = match value {
                Value::Number(it) => (Some(*it), None),
                Value::Text(it) => (None, Some(it.clone())),
            };
            debug_annotations.push(DebugAnnotation { name_iid, int_value, string_value });
        }
        let track_event = TrackEvent {
            category_iids: category.into_iter().collect(),
            debug_annotations,
            r#type: Some(kind),
            name: name_iid.is_none().then(|| event.name.clone()),
            name_iid,
            track_uuid: Some(event.track),
            counter_value: None,
            flow_ids: event.flows.clone(),
            terminating_flow_ids: event.ends.clone(),
        };
        let is_new = new != InternedData::default();
        self.put(time, track_event, is_new.then_some(new))
    }

    fn put(&mut self, time: u64, event: TrackEvent, new: Option<InternedData>) -> io::Result<()> {
        self.write(TracePacket {
            timestamp: Some(time),
            track_event: Some(event),
            interned_data: new,
            sequence_flags: Some(flags::NEEDS),
            ..TracePacket::default()
        })
    }

    fn write(&mut self, packet: TracePacket) -> io::Result<()> {
        let packet = TracePacket { trusted_packet_sequence_id: Some(SEQUENCE), ..packet };
        self.packet.clear();
        packet.encode(&mut self.packet).map_err(io::Error::other)?;
        // Field 1 of Trace, with its length.
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut self.bytes);
        prost::encoding::encode_varint(self.packet.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(&self.packet);
        if self.bytes.len() >= PIECE { self.hand_on() } else { Ok(()) }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let result = self.out.write_all(&self.bytes);
        self.bytes.clear();
        result
    }
}

/// The names of one kind.
#[derive(Default)]
struct Names(HashMap<String, u64>);

impl Names {
    /// The number of a name; if it is new, it is added to `new`. `None`: there are too many.
    fn number(&mut self, name: &str, new: &mut Vec<Interned>) -> Option<u64> {
        if let Some(number) = self.0.get(name) {
            return Some(*number);
        }
        if self.0.len() >= MOST_NAMES {
            return None;
        }
        let iid = self.0.len() as u64 + 1;
        self.0.insert(name.to_owned(), iid);
        new.push(Interned { iid: Some(iid), name: Some(name.to_owned()) });
        Some(iid)
    }
}
