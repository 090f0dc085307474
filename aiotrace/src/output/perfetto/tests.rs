//! What is written can be read again: each track is described before it is used, what begins on a
//! track ends in order, and a request has two flows.

use std::collections::HashMap;

use aiotrace_common::abi;
use aiotrace_model::trace::{Clock, Machine, Probes};
use prost::Message as _;

use super::{
    proto::{TracePacket, kind},
    *,
};
use crate::{
    event::{Address, Adopted, Body, Entry, Gone, How, IoEvent, Syscall},
    output::{Output as _, Start},
};

#[derive(Clone, PartialEq, prost::Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

const CTX: Handle = Handle(0x1000);

fn at(time: u64, body: Body) -> Event {
    Event { time, pid: 7, tid: 7, body }
}

fn call(time: u64, entered: Option<u64>, ret: i64, args: event::Args, ring: Option<Ring>) -> Event {
    let call = Call {
        entered,
        entry: Entry::Seen,
        ret,
        args,
        ring,
        ring_before: None,
        compat: false,
        stack: None,
        fault: None,
    };
    at(time, Body::Call(call))
}

fn submit(time: u64, addresses: &[u64]) -> Event {
    let iocb = |it: &u64| {
        let value = abi::Iocb { fildes: 3, nbytes: 8, ..abi::Iocb::default() };
        Some(Iocb {
            address: Some(Address(*it)),
            value: Some(value),
            read_late: false,
            vectors: None,
        })
    };
    let (iocbs, nr) = (addresses.iter().map(iocb).collect(), addresses.len() as i64);
    let args = event::Args::Submit { ctx: CTX, nr, iocbpp: Address(1), iocbs, truncated: 0 };
    call(time, Some(time - 10), nr, args, None)
}

fn io_event(obj: u64) -> IoEvent {
    IoEvent { data: 0, obj, res: 8, res2: 0 }
}

fn completion(time: u64, obj: u64) -> Event {
    at(time, Body::Completion(Completion::exact(CTX, Some(io_event(obj)))))
}

fn getevents(time: u64, objs: &[u64], ring: Option<Ring>) -> Event {
    let args = event::Args::Getevents {
        syscall: Syscall::Getevents,
        ctx: CTX,
        min_nr: 1,
        nr: 8,
        events: Address(1),
        timeout: Address(0),
        timeout_value: None,
        sigset: Address(0),
        sigset_value: None,
        list: objs.iter().map(|it| Some(io_event(*it))).collect(),
        truncated: 0,
        changed: Vec::new(),
    };
    call(time, Some(time - 5), objs.len() as i64, args, ring)
}

/// The packets of a trace of these events.
fn written(events: &[Event]) -> Vec<TracePacket> {
    let mut bytes = Vec::new();
    let mut output = Perfetto::new(&mut bytes, Paths::none());
    let start = Start {
        clock: Clock { start: 1000, to_wall: 5_000_000, to_boot: 0 },
        machine: Machine::default(),
        probes: Probes::Trampoline,
        lacks: Vec::new(),
        faults: None,
    };
    output.start(&start).unwrap();
    events.iter().for_each(|it| output.event(it).unwrap());
    let mut keys: Vec<_> = output.contexts.keys().copied().collect();
    keys.sort_unstable();
    for key in keys {
        output.gone(key, "the test ends", 9000).unwrap();
    }
    output.flush().unwrap();
    Trace::decode(&bytes[..]).unwrap().packet
}

/// The slices, as name, begin and end, in the order of their ends. Checks that they are in order.
fn slices(packets: &[TracePacket]) -> Vec<(String, u64, u64)> {
    let mut names = HashMap::new();
    let mut tracks = HashMap::new();
    let mut events = Vec::new();
    for packet in packets {
        for it in packet.interned_data.iter().flat_map(|it| &it.event_names) {
            names.insert(it.iid.unwrap(), it.name.clone().unwrap());
        }
        if let Some(track) = &packet.track_descriptor {
            tracks.insert(track.uuid.unwrap(), Vec::new());
            assert!(track.parent_uuid.is_none_or(|it| tracks.contains_key(&it)));
        }
        if let Some(event) = &packet.track_event {
            assert!(tracks.contains_key(&event.track_uuid.unwrap()), "described before");
            events.push((packet.timestamp.unwrap(), event));
        }
    }
    // As the trace processor does.
    events.sort_by_key(|it| it.0);
    let mut slices = Vec::new();
    for (time, event) in events {
        let open = tracks.get_mut(&event.track_uuid.unwrap()).unwrap();
        match event.r#type.unwrap() {
            kind::BEGIN => open.push((names[&event.name_iid.unwrap()].clone(), time)),
            kind::END => {
                let (name, from) = open.pop().unwrap();
                slices.push((name, from, time));
            }
            _ => (),
        }
    }
    assert!(tracks.values().all(Vec::is_empty), "all that began has ended");
    slices
}

fn requests(packets: &[TracePacket]) -> Vec<(String, u64, u64)> {
    let parts = ["pread fd=3", "~pread fd=3", "in flight", "unreaped"];
    let mut all = slices(packets);
    all.retain(|it| parts.contains(&it.0.as_str()));
    all
}

fn flows(packets: &[TracePacket]) -> (usize, usize) {
    let events: Vec<_> = packets.iter().filter_map(|it| it.track_event.as_ref()).collect();
    let all = events.iter().map(|it| it.flow_ids.len()).sum();
    (all, events.iter().map(|it| it.terminating_flow_ids.len()).sum())
}

#[test]
fn a_request_is_in_flight_and_then_unreaped() {
    let packets = written(&[
        submit(2000, &[0xa0, 0xb0]),
        completion(2500, 0xa0),
        getevents(3000, &[0xa0], None),
        completion(3500, 0xb0),
        getevents(4000, &[0xb0], None),
    ]);
    let part = |name: &str, from, to| (name.to_owned(), from, to);
    let mut found = requests(&packets);
    found.sort();
    let mut wanted = vec![
        part("in flight", 1990, 2500),
        part("unreaped", 2500, 3000),
        part("pread fd=3", 1990, 3000),
        part("in flight", 1990, 3500),
        part("unreaped", 3500, 4000),
        part("pread fd=3", 1990, 4000),
    ];
    wanted.sort();
    assert_eq!(found, wanted);
    assert_eq!(flows(&packets), (4, 2), "one at io_submit, one at the request, and its end");
    let counted: Vec<i64> =
        packets.iter().filter_map(|it| it.track_event.as_ref()?.counter_value).collect();
    assert_eq!(counted.iter().max(), Some(&2));
}

#[test]
fn what_completes_and_is_reaped_before_its_submit_returns_is_in_order() {
    let packets = written(&[
        at(
            1500,
            Body::ContextAdopted(Adopted { ctx: CTX, ring: None, charge: None, in_flight: None }),
        ),
        completion(1995, 0xa0),
        getevents(1998, &[0xa0], None),
        submit(2000, &[0xa0]),
    ]);
    let last = requests(&packets).pop().unwrap();
    assert_eq!(last, ("pread fd=3".to_owned(), 1990, 1998));
}

#[test]
fn a_time_that_is_not_exact_is_marked() {
    let mut event = completion(2500, 0xa0);
    if let Body::Completion(it) = &mut event.body {
        it.since = Some(2100);
    }
    let empty = Some(Ring { head: 3, tail: 3, nr: 16 });
    let packets = written(&[submit(2000, &[0xa0]), event, getevents(3000, &[], empty)]);
    let last = requests(&packets).pop().unwrap();
    assert_eq!(last.0, "~pread fd=3");
    assert_eq!(last.2, 2995, "the ring was empty when io_getevents began, or before");
}

#[test]
fn a_context_ends_with_its_requests() {
    let gone = Gone { ctx: CTX, how: How::Destroy, in_flight: Some(1), at_most: false };
    let packets = written(&[submit(2000, &[0xa0]), at(5000, Body::ContextGone(gone))]);
    let last = requests(&packets).pop().unwrap();
    assert_eq!(last, ("pread fd=3".to_owned(), 1990, 5000));
}

/// Memory does not grow with the trace: requests that nobody reaps are given up, and so are names.
#[test]
fn many_requests_take_bounded_memory() {
    let mut output = Perfetto::new(io::sink(), Paths::none());
    for number in 0..80_000u64 {
        output.event(&submit(2000 + number, &[number])).unwrap();
        output.event(&completion(2000 + number, number)).unwrap();
        if number % 8 == 0 {
            output.event(&getevents(2000 + number, &[number], None)).unwrap();
        }
    }
    let context = output.contexts.into_values().next().unwrap();
    assert!(context.lanes.len() <= 65_536 && context.requests.left().len() <= 65_536);
}
