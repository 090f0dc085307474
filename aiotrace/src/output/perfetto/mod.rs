//! A timeline for <https://ui.perfetto.dev>: Perfetto's TrackEvents, as protobuf.
//!
//! ```text
//!  process fio 21524                    findings and verdicts
//!    thread fio 21524                   io_submit ──┐ flows          io_getevents
//!    context 1 0x7fb7fa877000           made, or adopted        ^
//!      in flight, unreaped              counters                │
//!      requests (lanes)                 └> pread fd=7 [in flight | unreaped] ┘
//!  losses, and what the trace cannot see
//! ```
//! It is written as the trace goes on, in memory that does not grow with it.

mod output;
mod packets;
mod proto;

use std::{
    collections::HashMap,
    io::{self, Write},
};

use self::{
    packets::{Args, Event as Slice, Packets, Value},
    proto::{CounterDescriptor, EXPLICIT, ProcessDescriptor, ThreadDescriptor, TrackDescriptor},
};
use super::{
    escape::escaped,
    paths::Paths,
    requests::{Done, Over, Request, Requests},
};
use crate::{
    event::{self, Call, Completion, Event, Handle, Iocb, Ring, errno_name, opcode_name},
    model::Rules,
    opcode::Opcode,
};

/// Most processes, threads and contexts with tracks of their own at a time.
const MOST: usize = 65_536;

/// Writes a timeline.
pub struct Perfetto<W> {
    packets: Packets<W>,
    paths: Paths,
    rules: Rules,
    began: u64,
    processes: HashMap<u32, u64>,
    threads: HashMap<(u32, u32), u64>,
    contexts: HashMap<(u32, Handle), Context>,
    next_track: u64,
    next_context: u64,
    next_request: u64,
    global: u64,
}

/// A context and its tracks.
struct Context {
    track: u64,
    in_flight: u64,
    unreaped: u64,
    /// What the counters show.
    shown: (i64, i64),
    lanes: Vec<u64>,
    requests: Requests,
}

fn number(it: impl TryInto<i64>) -> Value {
    Value::Number(it.try_into().unwrap_or(i64::MAX))
}

fn hex(it: u64) -> Value {
    Value::Text(format!("{it:#x}"))
}

fn result(ret: i64) -> Value {
    Value::Text(match errno_name(ret) {
        Some(name) => format!("{ret} {name}"),
        None => ret.to_string(),
    })
}

impl<W: Write> Perfetto<W> {
    /// Writes to `out`; `paths` looks up what descriptors point to.
    pub fn new(out: W, paths: Paths) -> Self {
        Self {
            packets: Packets::new(out),
            paths,
            rules: Rules::default(),
            began: 0,
            processes: HashMap::new(),
            threads: HashMap::new(),
            contexts: HashMap::new(),
            next_track: 0,
            next_context: 0,
            next_request: 0,
            global: 0,
        }
    }

    /// The number of a new track. Traces that are put together must not have the same.
    fn new_track(&mut self) -> u64 {
        self.next_track += 1;
        (self.began << 20) ^ self.next_track
    }

    fn process(&mut self, pid: u32, name: Option<&[u8]>) -> io::Result<u64> {
        let known = self.processes.get(&pid).copied();
        if let (Some(track), None) = (known, name) {
            return Ok(track);
        }
        if self.processes.len() >= MOST {
            self.processes.clear();
            self.threads.clear();
        }
        let track = known.unwrap_or_else(|| self.new_track());
        self.processes.insert(pid, track);
        let process_name = name.map(escaped);
        let process = ProcessDescriptor { pid: Some(pid as i32), process_name };
        let uuid = Some(track);
        self.packets.track(TrackDescriptor {
            uuid,
            process: Some(process),
            ..TrackDescriptor::default()
        })?;
        Ok(track)
    }

    fn thread(&mut self, pid: u32, tid: u32, name: Option<&[u8]>) -> io::Result<u64> {
        self.process(pid, None)?;
        let known = self.threads.get(&(pid, tid)).copied();
        if let (Some(track), None) = (known, name) {
            return Ok(track);
        }
        if self.threads.len() >= MOST {
            self.threads.clear();
        }
        let track = known.unwrap_or_else(|| self.new_track());
        self.threads.insert((pid, tid), track);
        let thread = ThreadDescriptor {
            pid: Some(pid as i32),
            tid: Some(i64::from(tid)),
            thread_name: name.map(escaped),
        };
        let uuid = Some(track);
        self.packets.track(TrackDescriptor {
            uuid,
            thread: Some(thread),
            ..TrackDescriptor::default()
        })?;
        Ok(track)
    }

    fn child(&mut self, parent: u64, name: &str, rank: i32) -> io::Result<u64> {
        let uuid = self.new_track();
        self.packets.track(TrackDescriptor {
            uuid: Some(uuid),
            name: Some(name.to_owned()),
            parent_uuid: Some(parent),
            sibling_order_rank: Some(rank),
            ..TrackDescriptor::default()
        })?;
        Ok(uuid)
    }

    fn counter(&mut self, parent: u64, name: &str, unit: &str, rank: i32) -> io::Result<u64> {
        let uuid = self.new_track();
        let counter = CounterDescriptor {
            unit_name: Some(unit.to_owned()),
            y_axis_share_key: Some(unit.to_owned()),
        };
        self.packets.track(TrackDescriptor {
            uuid: Some(uuid),
            name: Some(name.to_owned()),
            parent_uuid: Some(parent),
            counter: Some(counter),
            sibling_order_rank: Some(rank),
            ..TrackDescriptor::default()
        })?;
        Ok(uuid)
    }

    /// The tracks of a context, which are made if they are not there.
    fn context(&mut self, (pid, handle): (u32, Handle), why: &str, time: u64) -> io::Result<()> {
        if handle == Handle(0) || self.contexts.contains_key(&(pid, handle)) {
            return Ok(());
        }
        if self.contexts.len() >= MOST {
            let all: Vec<(u32, Handle)> = self.contexts.keys().copied().collect();
            for key in all {
                self.gone(key, "too many contexts", time)?;
            }
        }
        let parent = self.process(pid, None)?;
        self.next_context += 1;
        let (track, name) =
            (self.new_track(), format!("context {} {:#x}", self.next_context, handle.0));
        self.packets.track(TrackDescriptor {
            uuid: Some(track),
            name: Some(name),
            parent_uuid: Some(parent),
            child_ordering: Some(EXPLICIT),
            description: Some(format!("an AIO context, {why}: its counters and its requests")),
            ..TrackDescriptor::default()
        })?;
        let in_flight = self.counter(track, "in flight", "requests", 1)?;
        let unreaped = self.counter(track, "unreaped", "completions", 2)?;
        let slice = Slice {
            track,
            name: why.to_owned(),
            category: "aio.context",
            args: vec![("context", hex(handle.0))],
            ..Slice::default()
        };
        self.packets.slice(time, &slice)?;
        let context = Context {
            track,
            in_flight,
            unreaped,
            shown: (0, 0),
            lanes: Vec::new(),
            requests: Requests::default(),
        };
        self.contexts.insert((pid, handle), context);
        Ok(())
    }

    /// A context ends, and so do its requests.
    fn gone(&mut self, key: (u32, Handle), how: &str, time: u64) -> io::Result<()> {
        let Some(context) = self.contexts.remove(&key) else { return Ok(()) };
        let Context { track, in_flight, unreaped, lanes, requests, .. } = context;
        for request in requests.left() {
            self.draw(&lanes, &request, Some((time, how)))?;
        }
        self.packets.count(time, in_flight, 0)?;
        self.packets.count(time, unreaped, 0)?;
        let instant =
            Slice { track, name: how.to_owned(), category: "aio.context", ..Slice::default() };
        self.packets.instant(time, &instant)?;
        self.packets.end(time, track)
    }

    /// Draws a request, whose life ended at this time in this way; or has not ended.
    fn draw(&mut self, lanes: &[u64], it: &Request, end: Option<(u64, &str)>) -> io::Result<()> {
        let Some(track) = lanes.get(it.lane).copied() else { return Ok(()) };
        let [iocb, offset, length, data] = it.iocb;
        let mut args: Args = vec![
            ("iocb", hex(iocb)),
            ("offset", number(offset as i64)),
            ("nbytes", number(length)),
            ("data", hex(data)),
        ];
        let mut is_inexact = false;
        if let Some(done) = it.completed {
            args.push(("res", result(done.res)));
            if let Some(after) = done.after {
                is_inexact = true;
                args.push(("completed_after", number(after)));
            }
        }
        if let Some((_, how)) = end {
            args.push(("end", Value::Text(how.to_owned())));
        }
        let name = if is_inexact { format!("~{}", it.name) } else { it.name.clone() };
        let flow = self.flow(it.number);
        let category = "aio.request";
        let flows = vec![flow];
        let slice = Slice { track, name, category, args, flows, ends: Vec::new() };
        self.packets.slice(it.from, &slice)?;
        let part =
            |name: &str| Slice { track, name: name.to_owned(), category, ..Slice::default() };
        self.packets.slice(it.from, &part("in flight"))?;
        let last = end.map(|it| it.0);
        if let Some(done) = it.completed {
            let time = done.time.max(it.from).min(last.unwrap_or(u64::MAX));
            self.packets.end(time, track)?;
            self.packets.slice(time, &part("unreaped"))?;
        }
        if let Some(last) = last {
            self.packets.end(last, track)?;
            self.packets.end(last, track)?;
        }
        Ok(())
    }

    fn flow(&self, request: u64) -> u64 {
        (self.began << 20) ^ request
    }

    fn over(&mut self, key: (u32, Handle), over: &[Over], how: &str) -> io::Result<()> {
        for it in over {
            let lanes = self
                .contexts
                .get_mut(&key)
                .map(|it| std::mem::take(&mut it.lanes))
                .unwrap_or_default();
            self.draw(&lanes, &it.request, Some((it.reaped.max(it.request.from), how)))?;
            if let Some(context) = self.contexts.get_mut(&key) {
                context.lanes = lanes;
            }
        }
        Ok(())
    }

    /// Shows the counters of a context, if they have changed.
    fn counters(&mut self, key: (u32, Handle), time: u64) -> io::Result<()> {
        let Some(context) = self.contexts.get_mut(&key) else { return Ok(()) };
        let now = (context.requests.in_flight, context.requests.unreaped);
        let before = std::mem::replace(&mut context.shown, now);
        if now.0 != before.0 {
            self.packets.count(time, context.in_flight, now.0)?;
        }
        if now.1 != before.1 {
            self.packets.count(time, context.unreaped, now.1)?;
        }
        Ok(())
    }

    fn call(&mut self, event: &Event, call: &Call) -> io::Result<()> {
        let key = (event.pid, call.args.handle());
        let track = self.thread(event.pid, event.tid, None)?;
        let mut slice = Slice {
            track,
            name: call.args.syscall().name().to_owned(),
            category: "aio.call",
            args: vec![("context", hex(key.1.0)), ("ret", result(call.ret))],
            ..Slice::default()
        };
        if let Some(fault) = call.fault.filter(|it| it.effect.is_made()) {
            slice.args.push(("fault", Value::Text(format!("rule {}", fault.rule))));
        }
        let is_injected = self.rules.injected(call);
        match &call.args {
            event::Args::Setup { nr_events, stored, .. } => {
                slice.args.push(("nr_events", number(*nr_events)));
                if let Some(handle) = stored.filter(|_| call.ret == 0 && !is_injected) {
                    let made = format!("made, asked for {nr_events}");
                    self.context((event.pid, handle), &made, event.time)?;
                }
            }
            event::Args::Submit { nr, iocbs, .. } => {
                slice.args.push(("nr", number(*nr)));
                if call.ret > 0 {
                    self.context(key, "known from its first io_submit", event.time)?;
                    slice.flows = self.submitted(event, call, iocbs)?;
                }
            }
            event::Args::Getevents { min_nr, nr, list, .. } => {
                slice.args.extend([("min_nr", number(*min_nr)), ("nr", number(*nr))]);
                for it in list.iter().flatten() {
                    let Some(context) = self.contexts.get_mut(&key) else { break };
                    if let Some(over) = context.requests.reaped(it.obj, event.time) {
                        slice.ends.push(self.flow(over.request.number));
                        self.over(key, &[over], "reaped by io_getevents")?;
                    }
                }
            }
            event::Args::Cancel { iocb, .. } => slice.args.push(("iocb", hex(iocb.0))),
            event::Args::Destroy { .. } => (),
        }
        match call.entered {
            Some(entered) => {
                self.packets.slice(entered.min(event.time), &slice)?;
                self.packets.end(event.time, track)?;
            }
            // It is not known when it began.
            None => self.packets.instant(event.time, &slice)?,
        }
        self.emptied(key, call.ring, call.began(event))?;
        self.counters(key, event.time)
    }

    /// The requests of an io_submit were accepted. Gives their flows.
    fn submitted(
        &mut self,
        event: &Event,
        call: &Call,
        iocbs: &[Option<Iocb>],
    ) -> io::Result<Vec<u64>> {
        let key = (event.pid, call.args.handle());
        let mut flows = Vec::new();
        let accepted = usize::try_from(call.ret).unwrap_or(0);
        for iocb in iocbs.iter().take(accepted).flatten() {
            let Some(address) = iocb.address else { continue };
            let (name, [offset, length, data]) = match iocb.value {
                Some(it) => {
                    let op = opcode_name(Opcode(it.opcode)).unwrap_or("?");
                    let name = format!("{op} fd={}", it.fildes as i32);
                    (name, [it.offset as u64, it.nbytes, it.data])
                }
                None => ("unread".to_owned(), [0; 3]),
            };
            self.next_request += 1;
            let request = Request {
                number: self.next_request,
                from: call.began(event).min(event.time),
                lane: 0,
                name,
                iocb: [address.0, offset, length, data],
                completed: None,
            };
            let Some(context) = self.contexts.get_mut(&key) else { break };
            let Some((lane, over)) = context.requests.submitted(request) else { continue };
            let (parent, lanes) = (context.track, context.lanes.len());
            if lane >= lanes {
                let track = self.child(parent, "requests", 10 + lane.min(10_000) as i32)?;
                if let Some(context) = self.contexts.get_mut(&key) {
                    context.lanes.push(track);
                }
            }
            flows.push(self.flow(self.next_request));
            self.over(key, over.as_slice(), "reaped by io_getevents")?;
        }
        Ok(flows)
    }

    fn emptied(&mut self, key: (u32, Handle), ring: Option<Ring>, began: u64) -> io::Result<()> {
        let is_empty = ring.is_some_and(|it| it.nr > 0 && it.unreaped() == 0);
        let Some(context) = self.contexts.get_mut(&key).filter(|_| is_empty) else { return Ok(()) };
        let over = context.requests.emptied(began);
        self.over(key, &over, "reaped from the ring, at this time or before")
    }

    fn completed(&mut self, event: &Event, it: &Completion) -> io::Result<()> {
        let key = (event.pid, it.ctx);
        let Some(found) = it.event.filter(|_| !it.discarded) else { return Ok(()) };
        let Some(context) = self.contexts.get_mut(&key) else { return Ok(()) };
        let done = Done { time: event.time, after: it.since, res: found.res };
        context.requests.completed(found.obj, done);
        self.counters(key, event.time)
    }

    /// Something on the track of the whole trace.
    fn note(&mut self, time: u64, name: &str, args: Args) -> io::Result<()> {
        let (track, name) = (self.global, name.to_owned());
        let slice = Slice { track, name, category: "aiotrace", args, ..Slice::default() };
        self.packets.instant(time, &slice)
    }
}

#[cfg(test)]
mod tests;
