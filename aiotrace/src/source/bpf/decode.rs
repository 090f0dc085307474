//! From records to events: joins the records of one call, and notices when one is missing.
//!
//! ```text
//!  Ring*  Stack?  Submit+                     (entered)
//!  Ring*  Submit*  Refused?  Submitted   ->   one Call   (late iocbs, new entries, then the result)
//!  Stack?  Setup                         ->   one Call
//!  Ring*  Sigset?  Events+               ->   one Call
//! ```
//! A `Ring` gives completions; so does `Completion`, where a probe tells of them. What no probe tells,
//! [`Contexts`] knows from the calls.
//!
//! All records of a call come from one thread, in order, so the state is one [`Pending`] per
//! thread. Its vectors are used again for the next call.

use std::{collections::HashMap, hash::BuildHasher as _};

use aiotrace_common::{
    abi,
    names::Feature,
    record::{
        self, Cancel, Destroy, EVENTS_PER_RECORD, Events, Header, ITEMS_PER_CALL, Kind, Memory,
        NewEntries, PAGE, RingSample, Setup, Submit, Submitted, SubmittedIocb, flag,
    },
};
use zerocopy::{FromBytes as _, TryFromBytes};

use super::{
    adopt::Found,
    choice::ProbeSet,
    contexts::{self, Contexts},
};
use crate::{
    event::{
        Address, Adopted, Args, Body, Call, Change, Changed, Completion, Effect, Entry, Event,
        ExitStatus, Fault, Gone, Handle, How, Iocb, Moved, Process, Refused, Ring, Sigset, Stack,
        Syscall, Unfinished, Why,
    },
    stacks::{Copied, Unwind},
};

/// A record that is cut short or of no known kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {0} bytes cannot be decoded")]
pub struct Undecodable(pub usize);

/// The state of threads is forgotten beyond this number of them. (Threads tell when they die; only
/// where those records are lost does the number grow.)
const MOST_THREADS: usize = 65_536;

/// Joins records to events.
#[derive(Default)]
pub struct Decoder {
    threads: HashMap<u32, Pending, foldhash::fast::RandomState>,
    /// Threads were forgotten, so one that is new may not be.
    forgot: bool,
    contexts: Contexts,
    /// The ends of contexts are told by a probe.
    told_ends: bool,
    /// The address space of each process, if so.
    processes: HashMap<u32, u64, foldhash::fast::RandomState>,
    /// Contexts that ended because their process exits or runs a new program: which, it will tell.
    ended: Vec<Event>,
    spaces: foldhash::fast::RandomState,
    /// Completions that were changed in a ring and are not reaped yet, as they are now.
    in_rings: Vec<InRing>,
    unwinder: Option<Box<dyn Unwind>>,
    /// Not every call is told, so what is in flight is not known.
    in_part: bool,
}

/// Of them, remembered at most.
const MOST_IN_RINGS: usize = 4096;

/// A completion that was changed in a ring.
struct InRing {
    space: u64,
    handle: u64,
    event: abi::IoEvent,
}

/// What is known of a thread's call so far.
#[derive(Default)]
struct Pending {
    /// Records of this thread so far.
    seq: u32,
    /// The call the thread was in when we attached, from /proc.
    blocked: Option<Syscall>,
    /// Its address space; 0 if not known.
    space: u64,
    ring_before: Option<Ring>,
    refused: Option<record::Refused>,
    sigset: Option<record::Sigset>,
    iocbs: Vec<Option<Iocb>>,
    events: Vec<Option<abi::IoEvent>>,
    /// Which of them a fault rule changed.
    changed: Vec<u32>,
    /// And when the call with it was entered.
    stack: Option<(u64, Stack)>,
}

impl Decoder {
    /// For the records of these probes.
    pub fn new(set: &ProbeSet) -> Self {
        Self { told_ends: set.has(Feature::Gone), ..Self::default() }
    }

    /// For a source that does not tell every call.
    #[must_use]
    pub fn in_part(self, in_part: bool) -> Self {
        Self { in_part, ..self }
    }

    /// Stacks are made by `unwinder`. (Without one, there are none.)
    #[must_use]
    pub fn with_stacks(self, unwinder: impl Unwind + 'static) -> Self {
        Self { unwinder: Some(Box::new(unwinder)), ..self }
    }

    /// Tells that a thread was inside a call when we attached.
    pub fn blocked_at_attach(&mut self, tid: u32, syscall: Syscall) {
        self.threads.entry(tid).or_default().blocked = Some(syscall);
    }

    /// Tells of a context that was there before the attach, and gives the event.
    pub fn adopt(&mut self, found: &Found, time: u64) -> Event {
        let Found { pid, handle, space, charge, ring } = *found;
        if let Some(space) = space {
            let seen = ring.map(|it| contexts::Seen { id: it.id, nr: it.nr, tail: it.tail });
            self.contexts.adopted(space, handle, seen, pid);
        }
        let adopted = Adopted { ctx: Handle(handle), ring: ring.map(Ring::from), charge };
        Event { time, pid, tid: pid, body: Body::ContextAdopted(adopted) }
    }

    /// Somebody looked at a ring from outside: the completions in it that were not told yet. `read` gives
    /// entries from a place in the ring on.
    pub fn look(
        &mut self,
        pid: u32,
        handle: u64,
        tail: u32,
        time: u64,
        read: impl Fn(u32, u32) -> Option<Vec<abi::IoEvent>>,
        mut event: impl FnMut(&Event),
    ) {
        let Some((space, parts)) = self.contexts.pending(pid, handle, tail) else { return };
        for part in parts.into_iter().filter(|it| !it.is_empty()) {
            let Some(entries) = read(part.start, part.end - part.start) else { return };
            let count = entries.len() as u32;
            let (since, _) = self.contexts.entries(space, handle, part.start, count);
            for entry in entries {
                let (ctx, since) = (Handle(handle), Some(since.unwrap_or(0)));
                let completion = Completion { ctx, event: Some(entry), since, discarded: false };
                event(&Event { time, pid, tid: pid, body: Body::Completion(completion) });
            }
        }
        self.contexts.looked(space, handle, time);
    }

    /// Takes one record and gives the events it completes.
    ///
    /// # Errors
    /// [`Undecodable`]; the record is skipped.
    pub fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(&Event)) -> Result<(), Undecodable> {
        let header: Header = prefix(bytes)?.0;
        let mut of = |body| {
            let made = Event { time: header.time, pid: header.pid, tid: header.tid, body };
            event(&made);
            made.body
        };
        match header.kind {
            Kind::Completion => {
                let (record, _): (record::Completion, _) = prefix(bytes)?;
                let discarded = header.flags & flag::DISCARDED != 0;
                if !discarded {
                    self.contexts.completed(record.space, record.handle);
                }
                let (ctx, event) = (Handle(record.handle), Some(record.event));
                of(Body::Completion(Completion { ctx, event, since: None, discarded }));
                return Ok(());
            }
            Kind::ContextGone => {
                let (record, _): (record::ContextGone, _) = prefix(bytes)?;
                self.contexts.check(record.space, record.handle, record.completed);
                let in_flight = self.contexts.gone(record.space, record.handle, header.time);
                let gone = |how| Gone { ctx: Handle(record.handle), how, in_flight };
                match self.how(&record) {
                    Some(how) => {
                        of(Body::ContextGone(gone(how)));
                    }
                    None => {
                        let Header { time, pid, tid, .. } = header;
                        let body = Body::ContextGone(gone(How::Exit));
                        self.ended.push(Event { time, pid, tid, body });
                    }
                }
                return Ok(());
            }
            Kind::ContextMoved => {
                let (record, _): (record::ContextMoved, _) = prefix(bytes)?;
                self.contexts.moved(record.space, record.from, record.to);
                let (from, to) = (Handle(record.from), Handle(record.to));
                of(Body::ContextMoved(Moved { from, to }));
                return Ok(());
            }
            // Not of a thread's sequence.
            Kind::Process if header.seq == 0 => {
                let (record, _): (record::Process, _) = prefix(bytes)?;
                self.process(&record, event);
                return Ok(());
            }
            _ => (),
        }
        if self.threads.len() > MOST_THREADS {
            self.threads.clear();
            self.contexts.lost(0);
            self.forgot = true;
        }
        let thread = self.threads.entry(header.tid).or_insert_with(|| Pending {
            seq: if self.forgot { header.seq.wrapping_sub(1) } else { 0 },
            ..Pending::default()
        });
        if let Some(missing @ 1..) = thread.missing(header.seq) {
            // What is known of the call in progress may belong to another one.
            thread.clear();
            self.contexts.lost(thread.space);
            of(Body::Lost { records: u64::from(missing) });
        }
        let contexts = &mut self.contexts;
        match header.kind {
            Kind::Submit => {
                let (record, _): (Submit, _) = prefix(bytes)?;
                if is_read(record.ring.memory) {
                    contexts.looked(thread.space, record.args[0], header.time);
                }
                thread.submit(bytes)
            }
            Kind::Ring => {
                let (record, entries): (record::Ring, _) = prefix(bytes)?;
                thread.entries(contexts, record.handle, record.new, entries, &mut of)
            }
            Kind::Stack => {
                let copied = copied(bytes)?;
                let unwinder = self.unwinder.as_mut();
                thread.stack = unwinder.map(|it| (header.time, it.unwind(header.pid, &copied)));
                Ok(())
            }
            Kind::ContextSeen => {
                let (record, _): (record::ContextSeen, _) = prefix(bytes)?;
                let ring = contexts::Seen { id: record.id, nr: record.nr, tail: record.tail };
                let moved = contexts.seen(thread.space, record.handle, ring, header.pid);
                if let Some(from) = moved {
                    let (from, to) = (Handle(from), Handle(record.handle));
                    of(Body::ContextMoved(Moved { from, to }));
                }
                Ok(())
            }
            Kind::Refused => {
                thread.refused = Some(prefix(bytes)?.0);
                Ok(())
            }
            Kind::Sigset => {
                thread.sigset = Some(prefix(bytes)?.0);
                Ok(())
            }
            Kind::Changed => {
                let (record, _): (record::Changed, _) = prefix(bytes)?;
                let fault = Fault::from_record(record.fault).ok_or(Undecodable(bytes.len()))?;
                let record::Changed { handle, event, res, index, .. } = record;
                let is_in_call = index != u32::MAX && fault.effect == Effect::Done;
                if is_in_call && thread.changed.len() < ITEMS_PER_CALL {
                    thread.changed.push(index);
                }
                if index == u32::MAX && fault.effect == Effect::Done {
                    if self.in_rings.len() >= MOST_IN_RINGS {
                        self.in_rings.remove(0);
                    }
                    let event = abi::IoEvent { res, ..event };
                    self.in_rings.push(InRing { space: thread.space, handle, event });
                }
                of(Body::Changed(Changed { ctx: Handle(handle), event, res, fault }));
                Ok(())
            }
            Kind::Submitted => {
                let (record, entries): (Submitted, _) = prefix(bytes)?;
                let handle = record.call.args[0];
                thread.entries(contexts, handle, record.new, entries, &mut of)?;
                if record.call.ret >= 0 {
                    let accepted = record.call.ret as u64;
                    contexts.used(thread.space, handle, header.pid, accepted);
                }
                thread.tell_refused(&record.call, &mut of);
                thread.finish(contexts, &record.call, record.ring, of)
            }
            Kind::Setup => {
                let (record, _): (Setup, _) = prefix(bytes)?;
                let stored = is_read(record.memory).then_some(Handle(record.handle));
                if let (0, Some(handle)) = (record.call.ret, stored) {
                    contexts.created(thread.space, handle.0, header.pid, header.time);
                }
                let args = Args::Setup {
                    nr_events: record.call.args[0] as u32,
                    ctxp: Address(record.call.args[1]),
                    stored,
                };
                thread.finish_with(contexts, &record.call, args, RingSample::UNREAD, of)
            }
            Kind::Destroy => {
                let (record, _): (Destroy, _) = prefix(bytes)?;
                if record.call.ret == 0 && !self.told_ends {
                    let ctx = Handle(record.call.args[0]);
                    let began = match record.call.entered {
                        0 => header.time,
                        entered => entered,
                    };
                    let in_flight = contexts.gone(thread.space, ctx.0, began);
                    let in_flight = in_flight.filter(|_| !self.in_part);
                    of(Body::ContextGone(Gone { ctx, how: How::Destroy, in_flight }));
                }
                thread.finish(contexts, &record.call, record.ring, of)
            }
            Kind::Cancel => {
                let (record, _): (Cancel, _) = prefix(bytes)?;
                let args = Args::Cancel {
                    ctx: Handle(record.call.args[0]),
                    iocb: Address(record.call.args[1]),
                    result: Address(record.call.args[2]),
                    value: is_read(record.memory).then_some(record.iocb),
                };
                thread.finish_with(contexts, &record.call, args, record.ring, of)
            }
            Kind::Events => thread.events(contexts, &mut self.in_rings, bytes, of),
            Kind::Gone => {
                self.threads.remove(&header.tid);
                Ok(())
            }
            Kind::Process => {
                let (record, _): (record::Process, _) = prefix(bytes)?;
                thread.space = record.space;
                self.process(&record, event);
                Ok(())
            }
            Kind::Completion | Kind::ContextGone | Kind::ContextMoved => Ok(()),
        }
    }

    /// A process changed; first what ends by that.
    fn process(&mut self, record: &record::Process, mut event: impl FnMut(&Event)) {
        let Header { time, pid, tid, .. } = record.header;
        if let (Some(unwinder), record::Change::Exec | record::Change::Exit) =
            (&mut self.unwinder, record.change)
        {
            unwinder.forget(pid);
        }
        if self.told_ends {
            self.changed(record, &mut event);
        }
        // Where a probe tells the ends, it does so before or after this.
        let ended = if self.told_ends { Vec::new() } else { changed(&mut self.contexts, record) };
        for mut it in ended {
            it.gone.in_flight = it.gone.in_flight.filter(|_| !self.in_part);
            let body = Body::ContextGone(it.gone);
            event(&Event { time, pid: it.pid, tid: it.pid, body });
        }
        let space = (record.space != 0).then(|| self.spaces.hash_one(record.space));
        event(&Event { time, pid, tid, body: Body::Process(process(record, space)) });
    }

    /// How a context ended; `None` if that is not known yet.
    fn how(&self, record: &record::ContextGone) -> Option<How> {
        match record.end {
            record::End::Destroy => Some(How::Destroy),
            record::End::Exec => Some(How::Exec),
            record::End::Exit if record.by_other == 0 => Some(How::Exit),
            record::End::Exit => match self.processes.get(&record.header.pid) {
                None => Some(How::Exit),
                Some(space) if *space != record.space => Some(How::Exec),
                Some(_) => None,
            },
        }
    }

    /// Remembers which process has which address space, and tells what ended by that.
    fn changed(&mut self, record: &record::Process, event: &mut impl FnMut(&Event)) {
        let pid = record.header.pid;
        let how = match record.change {
            record::Change::Exit => {
                self.processes.remove(&pid);
                How::Exit
            }
            record::Change::Exec | record::Change::Seen => {
                if self.processes.len() > MOST_THREADS {
                    self.processes.clear();
                }
                self.processes.insert(pid, record.space);
                How::Exec
            }
            record::Change::Fork => return,
        };
        if record.change == record::Change::Seen {
            return;
        }
        for mut ended in self.ended.extract_if(.., |it| it.pid == pid) {
            if let Body::ContextGone(gone) = &mut ended.body {
                gone.how = how;
            }
            event(&ended);
        }
    }

    /// The calls that are in progress when the trace ends.
    pub fn unfinished(
        &mut self,
        now: u64,
        threads: &[record::Thread],
        mut event: impl FnMut(&Event),
    ) {
        self.ended.drain(..).for_each(|it| event(&it));
        for thread in threads {
            let Some(syscall) = thread.call() else {
                continue;
            };
            let pending = self.threads.entry(thread.tid).or_default();
            let mut args = pending.arguments(syscall, &thread.args);
            if let Args::Getevents { timeout_value, .. } = &mut args
                && thread.timeout_memory == Memory::Read as u32
            {
                *timeout_value = Some(thread.timeout);
            }
            event(&Event {
                time: now,
                pid: thread.pid,
                tid: thread.tid,
                body: Body::Unfinished(Unfinished {
                    entered: Some(thread.entered),
                    args,
                    why: Why::TraceEnds,
                }),
            });
        }
    }
}

impl Pending {
    /// How many records are missing before this one; `None` if it is not counted.
    fn missing(&mut self, seq: u32) -> Option<u32> {
        if seq == 0 {
            return None;
        }
        let expected = self.seq.wrapping_add(1);
        self.seq = seq;
        if seq < expected {
            // A new slot: the first call of the thread, or the first after exec.
            self.clear();
            return Some(seq - 1);
        }
        Some(seq - expected)
    }

    fn submit(&mut self, bytes: &[u8]) -> Result<(), Undecodable> {
        let (record, rest): (Submit, _) = prefix(bytes)?;
        let late = record.header.flags & flag::LATE != 0;
        if record.first == 0 && !late {
            self.iocbs.clear();
            self.ring_before = ring(record.ring);
        }
        let first = record.first as usize;
        let count = record.count as usize;
        let wanted = count * size_of::<SubmittedIocb>();
        let bytes = rest.get(..wanted).ok_or(Undecodable(bytes.len()))?;
        if first + count > ITEMS_PER_CALL {
            return Err(Undecodable(wanted));
        }
        if self.iocbs.len() < first + count {
            self.iocbs.resize(first + count, None);
        }
        for (slot, bytes) in
            self.iocbs[first..].iter_mut().zip(bytes.chunks_exact(size_of::<SubmittedIocb>()))
        {
            let (found, _): (SubmittedIocb, _) = prefix(bytes)?;
            // What was read when it should be stays.
            if slot.is_some_and(|known| known.value.is_some()) {
                continue;
            }
            *slot = Some(Iocb {
                address: is_read(found.pointer).then_some(Address(found.address)),
                value: is_read(found.memory).then_some(found.iocb),
                read_late: late && is_read(found.memory),
            });
        }
        Ok(())
    }

    /// Gives the completions of entries that are new in a ring.
    fn entries(
        &mut self,
        contexts: &mut Contexts,
        handle: u64,
        new: NewEntries,
        bytes: &[u8],
        of: &mut impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let NewEntries { first, count, beyond, memory } = new;
        if count == 0 {
            return Ok(());
        }
        if count as usize > EVENTS_PER_RECORD {
            return Err(Undecodable(bytes.len()));
        }
        let is_read = is_read(memory);
        let entries = io_events(bytes, if is_read { count as usize } else { 0 })?;
        let (since, new) = contexts.entries(self.space, handle, first, count);
        let mut tell = |event: Option<abi::IoEvent>| {
            let since = Some(since.unwrap_or(0));
            let ctx = Handle(handle);
            of(Body::Completion(Completion { ctx, event, since, discarded: false }));
        };
        let is_new = |index: u32| new.iter().any(|range| range.contains(&index));
        for (_, entry) in (0..).zip(entries).filter(|(index, _)| is_new(*index)) {
            tell(Some(entry));
        }
        if !is_read {
            (0..count).filter(|index| is_new(*index)).for_each(|_| tell(None));
        }
        if beyond > 0 {
            contexts.lost(self.space);
            of(Body::Lost { records: u64::from(beyond) });
        }
        Ok(())
    }

    /// Gives the iocb that was refused, now that it is known which one it is: all before it were
    /// accepted.
    fn tell_refused(&mut self, call: &record::Call, of: &mut impl FnMut(Body) -> Body) {
        let Some(record) = self.refused.take() else {
            return;
        };
        let index = call.ret.max(0) as u64;
        let of_call = || self.iocbs.get(index as usize)?.as_ref()?.address;
        let iocb = Some(Address(record.iocb)).filter(|it| it.0 != 0).or_else(of_call);
        of(Body::Refused(Refused { ctx: Handle(call.args[0]), index, iocb, ret: record.ret }));
    }

    fn events(
        &mut self,
        contexts: &mut Contexts,
        in_rings: &mut Vec<InRing>,
        bytes: &[u8],
        of: impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let (record, rest): (Events, _) = prefix(bytes)?;
        if record.first == 0 {
            self.events.clear();
        }
        // Records in between may be lost.
        self.events.resize(record.first as usize % (ITEMS_PER_CALL + 1), None);
        if is_read(record.memory) {
            self.events.extend(io_events(rest, record.count as usize)?.map(Some));
        } else {
            let count = record.count as usize % (ITEMS_PER_CALL + 1);
            self.events.resize(self.events.len() + count, None);
        }
        if record.call.header.flags & flag::MORE != 0 {
            return Ok(());
        }
        let (space, handle) = (self.space, record.call.args[0]);
        for (index, event) in (0..).zip(&self.events) {
            let is_it =
                |it: &InRing| (it.space, it.handle) == (space, handle) && Some(it.event) == *event;
            if !in_rings.is_empty()
                && let Some(place) = in_rings.iter().position(is_it)
            {
                in_rings.remove(place);
                self.changed.push(index);
            }
        }
        let mut args = self.arguments(record.call.syscall, &record.call.args);
        if let Args::Getevents { timeout_value, sigset_value, list, truncated, changed, .. } =
            &mut args
        {
            *changed = std::mem::take(&mut self.changed);
            *timeout_value = is_read(record.timeout_memory).then_some(record.timeout);
            let sigset = self.sigset.take().filter(|it| is_read(it.memory));
            *sigset_value = sigset.map(|it| Sigset {
                address: Address(it.address),
                size: it.size,
                mask: is_read(it.mask_memory).then_some(it.mask),
            });
            *list = std::mem::take(&mut self.events);
            *truncated = (record.call.ret.max(0) as u64).saturating_sub(list.len() as u64);
        }
        if record.call.ret >= 0 {
            contexts.used(self.space, record.call.args[0], record.call.header.pid, 0);
        }
        self.finish_with(contexts, &record.call, args, record.ring, of)
    }

    /// The arguments of a call, with what is already known of its memory.
    fn arguments(&mut self, syscall: Syscall, args: &[u64; 6]) -> Args {
        let mut args = arguments(syscall, args);
        if let Args::Submit { nr, iocbs, truncated, .. } = &mut args {
            let recorded = (*nr).clamp(0, ITEMS_PER_CALL as i64) as usize;
            *iocbs = std::mem::take(&mut self.iocbs);
            // Where a record was lost, it is not known what was submitted.
            iocbs.resize(recorded, None);
            *truncated = ((*nr).max(0) as u64).saturating_sub(recorded as u64);
        }
        args
    }

    fn finish(
        &mut self,
        contexts: &mut Contexts,
        call: &record::Call,
        sample: RingSample,
        of: impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let args = self.arguments(call.syscall, &call.args);
        self.finish_with(contexts, call, args, sample, of)
    }

    fn finish_with(
        &mut self,
        contexts: &mut Contexts,
        call: &record::Call,
        args: Args,
        sample: RingSample,
        mut of: impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let body = Body::Call(Call {
            entered: (call.entered != 0).then_some(call.entered),
            entry: self.entry(call),
            ret: call.ret,
            args,
            ring: ring(sample),
            ring_before: self.ring_before.take(),
            compat: call.header.flags & flag::COMPAT != 0,
            stack: self.stack.take().filter(|it| it.0 == call.entered).map(|it| it.1),
            fault: Fault::from_record(call.fault),
        });
        if is_read(sample.memory) {
            contexts.looked(self.space, call.args[0], call.header.time);
        }
        // The vectors are for the next call.
        match of(body) {
            Body::Call(Call { args: Args::Submit { iocbs, .. }, .. }) => self.iocbs = iocbs,
            Body::Call(Call { args: Args::Getevents { list, .. }, .. }) => self.events = list,
            _ => (),
        }
        self.clear();
        Ok(())
    }

    fn entry(&mut self, call: &record::Call) -> Entry {
        let flags = call.header.flags;
        let blocked = self.blocked.take();
        if flags & flag::NOT_ENTERED == 0 {
            return Entry::Seen;
        }
        let is_first = flags & flag::KNOWN_THREAD == 0;
        if is_first && (blocked == Some(call.syscall) || call.ret >= 0) {
            return Entry::BeforeAttach;
        }
        // A filter answers with an errno.
        match (flags & flag::SECCOMP != 0 && call.ret < 0, is_first) {
            (true, _) => Entry::Denied,
            (false, true) => Entry::BeforeAttach,
            (false, false) => Entry::Missed,
        }
    }

    fn clear(&mut self) {
        self.ring_before = None;
        self.refused = None;
        self.sigset = None;
        self.stack = None;
        self.iocbs.clear();
        self.events.clear();
        self.changed.clear();
    }
}

/// What was copied of a stack.
fn copied(bytes: &[u8]) -> Result<Copied<'_>, Undecodable> {
    let (record, rest): (record::Stack, _) = prefix(bytes)?;
    let record::Stack { header, ip, sp, bp, pages, read, known, space } = record;
    let wanted = (pages as usize).checked_mul(PAGE);
    let pages = wanted.and_then(|it| rest.get(..it)).ok_or(Undecodable(bytes.len()))?;
    Ok(Copied { time: header.time, space, ip, sp, bp, pages, read, known })
}

/// The arguments of a call, from its registers.
pub fn arguments(syscall: Syscall, args: &[u64; 6]) -> Args {
    let ctx = Handle(args[0]);
    match syscall {
        Syscall::Setup => {
            Args::Setup { nr_events: args[0] as u32, ctxp: Address(args[1]), stored: None }
        }
        Syscall::Destroy => Args::Destroy { ctx },
        Syscall::Submit => Args::Submit {
            ctx,
            nr: args[1] as i64,
            iocbpp: Address(args[2]),
            iocbs: Vec::new(),
            truncated: 0,
        },
        Syscall::Getevents | Syscall::Pgetevents => Args::Getevents {
            syscall,
            ctx,
            min_nr: args[1] as i64,
            nr: args[2] as i64,
            events: Address(args[3]),
            timeout: Address(args[4]),
            timeout_value: None,
            sigset: Address(if syscall == Syscall::Pgetevents { args[5] } else { 0 }),
            sigset_value: None,
            list: Vec::new(),
            truncated: 0,
            changed: Vec::new(),
        },
        Syscall::Cancel => {
            Args::Cancel { ctx, iocb: Address(args[1]), result: Address(args[2]), value: None }
        }
    }
}

/// Who uses which address space now, and what ended with the one that was left.
fn changed(contexts: &mut Contexts, record: &record::Process) -> Vec<contexts::Ended> {
    let pid = record.header.pid;
    match record.change {
        record::Change::Exit => contexts.exited(pid),
        _ if record.space == 0 => Vec::new(),
        record::Change::Fork if record.followed == 0 => Vec::new(),
        record::Change::Fork => contexts.uses(record.other, record.space, How::Exec),
        record::Change::Seen | record::Change::Exec => contexts.uses(pid, record.space, How::Exec),
    }
}

/// `space` stands for the kernel's address, which is nobody's business.
fn process(record: &record::Process, space: Option<u64>) -> Process {
    let change = match record.change {
        record::Change::Seen => Change::Seen,
        record::Change::Fork => {
            Change::Fork { child: record.other, followed: record.followed != 0 }
        }
        record::Change::Exec => Change::Exec { path: until_nul(&record.path) },
        record::Change::Exit => Change::Exit { status: ExitStatus::from_wait(record.status) },
    };
    Process {
        name: until_nul(&record.name),
        thread_name: until_nul(&record.thread_name),
        started: (record.started != 0).then_some(record.started),
        space,
        change,
    }
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn is_read(memory: Memory) -> bool {
    matches!(memory, Memory::Read | Memory::ReadLate)
}

fn ring(sample: RingSample) -> Option<Ring> {
    is_read(sample.memory).then_some(Ring { head: sample.head, tail: sample.tail, nr: sample.nr })
}

fn prefix<T: TryFromBytes>(bytes: &[u8]) -> Result<(T, &[u8]), Undecodable> {
    T::try_read_from_prefix(bytes).map_err(|_| Undecodable(bytes.len()))
}

fn io_events(
    bytes: &[u8],
    count: usize,
) -> Result<impl Iterator<Item = abi::IoEvent> + '_, Undecodable> {
    let size = size_of::<abi::IoEvent>();
    let array = count
        .checked_mul(size)
        .and_then(|wanted| bytes.get(..wanted))
        .ok_or(Undecodable(bytes.len()))?;
    Ok(array.chunks_exact(size).filter_map(|bytes| abi::IoEvent::read_from_bytes(bytes).ok()))
}

#[cfg(test)]
mod tests;
