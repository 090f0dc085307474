//! From records to events: joins the records of one call, and notices when one is missing.
//!
//! ```text
//!  Stack?  Ring*  Submit+                     (entered)
//!  Ring*  Submit*  Refused?  Submitted   ->   one Call   (late iocbs, new entries, then the result)
//!  Stack?  Ring*  Refused?  SubmittedOne ->   one Call
//!  (either with Vectors, when it is entered)
//!  Stack?  Setup                         ->   one Call
//!  Ring*  Sigset?  Events+               ->   one Call
//! ```
//! A `Ring` gives completions; so does a `Completion`, where a probe sees them. What no probe sees, [`Contexts`]
//! derives from the calls.
//!
//! All records of a call come from one thread, in order, so the state is one [`Pending`] per
//! thread. Its vectors are used again for the next call.

mod ends;

use std::{collections::HashMap, ops::Range};

use aiotrace_common::{
    abi,
    names::Feature,
    record::{
        self, Call, Cancel, Destroy, Header, ITEMS_PER_CALL, Kind, Memory, RingSample, Setup,
        Submit, Submitted, SubmittedOne, flag,
    },
};
use foldhash::{SharedSeed, fast::SeedableRandomState};

use super::{
    contexts::{self, Contexts},
    found::Found,
    parse::{copied, is_read, kept_iocb, prefix, read_iocb, ring, vectors},
    pending::Pending,
    unwind::Unwind,
};
use crate::{
    event::{
        Address, Adopted, Args, Body, Changed, Completion, Event, Fault, Gone, Handle, How, Moved,
        Ring, Synchronous, Syscall, Unfinished, Vectors, Why,
    },
    trace::ProbeSet,
};

/// A record that is cut short or of no known kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {0} bytes cannot be decoded")]
pub struct Undecodable(pub usize);

/// Most entries of a ring that are read from outside at a time.
const READ_AT_ONCE: u32 = 4096;
/// If there are more threads than this, their state is forgotten. (Threads send a record when they die; only if those
/// records are lost does the number grow.)
const MOST_THREADS: usize = 65_536;

/// Joins records to events.
#[derive(Default)]
pub struct Decoder {
    threads: HashMap<u32, Pending, foldhash::fast::RandomState>,
    /// Threads were forgotten, so a thread that seems new may have made calls before.
    forgot: bool,
    contexts: Contexts,
    /// A probe sees the ends of contexts.
    told_ends: bool,
    /// The address space of each process, if a probe sees the ends of contexts.
    processes: HashMap<u32, u64, foldhash::fast::RandomState>,
    /// Contexts that ended because their process exits or runs a new program; the record of the process will say
    /// which of the two.
    ended: Vec<Event>,
    /// Hides the kernel's addresses: events have a hash of them.
    spaces: SeedableRandomState,
    /// Completions that were changed in a ring and are not reaped yet, as they are now.
    in_rings: Vec<InRing>,
    unwinder: Option<Box<dyn Unwind>>,
    /// The source does not record every call, so the number of requests in flight is unknown.
    in_part: bool,
}

/// Most changed completions remembered.
const MOST_IN_RINGS: usize = 4096;

/// A completion that was changed in a ring.
pub(super) struct InRing {
    pub(super) space: u64,
    pub(super) handle: u64,
    pub(super) event: abi::IoEvent,
}

impl Decoder {
    /// A decoder for the records of these probes.
    pub fn new(set: &ProbeSet) -> Self {
        Self { told_ends: set.has(Feature::Gone), ..Self::default() }
    }

    /// `in_part`: the source does not record every call.
    #[must_use]
    pub fn in_part(self, in_part: bool) -> Self {
        Self { in_part, ..self }
    }

    /// Makes the numbers of address spaces depend on this seed, so that the same records give the same events: for
    /// tests. (Without it the numbers are random: somebody who knows the seed can find out the kernel's addresses.)
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        let spaces = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { spaces, ..self }
    }

    /// Lets `unwinder` make the stacks. (Without one, there are none.)
    #[must_use]
    pub fn with_stacks(self, unwinder: impl Unwind + 'static) -> Self {
        Self { unwinder: Some(Box::new(unwinder)), ..self }
    }

    /// Notes that a thread was inside a call when we attached.
    pub fn blocked_at_attach(&mut self, tid: u32, syscall: Syscall) {
        self.threads.entry(tid).or_default().blocked = Some(syscall);
    }

    /// Adds a context that existed before the attach, and returns the event.
    pub fn adopt(&mut self, found: &Found, time: u64) -> Event {
        let Found { pid, handle, space, charge, in_flight, ring } = *found;
        if let Some(space) = space {
            let seen = ring.map(|it| contexts::Seen { id: it.id, nr: it.nr, tail: it.tail });
            self.contexts.adopted(space, handle, seen, pid);
        }
        let ring = ring.map(Ring::from);
        let adopted = Adopted { ctx: Handle(handle), ring, charge, in_flight };
        Event { time, pid, tid: pid, body: Body::ContextAdopted(adopted) }
    }

    /// Takes a look at a ring from outside, made between these times: gives the completions in the ring that are new.
    /// `read` returns the entries from a position on, if the tail is unchanged.
    pub fn look(
        &mut self,
        pid: u32,
        handle: u64,
        tail: u32,
        (before, time): (u64, u64),
        read: impl Fn(u32, u32) -> Option<Vec<abi::IoEvent>>,
        mut event: impl FnMut(&Event),
    ) {
        let Some((space, parts)) = self.contexts.pending(pid, handle, tail) else { return };
        let pieces = |part: Range<u32>| {
            let piece = move |first| first..part.end.min(first + READ_AT_ONCE);
            part.clone().step_by(READ_AT_ONCE as usize).map(piece)
        };
        for part in parts.into_iter().flat_map(pieces) {
            let Some(entries) = read(part.start, part.end - part.start) else { return };
            let count = entries.len() as u32;
            let found = self.contexts.entries((space, handle), part.start, count, time);
            let since = found.since;
            // (The completions that never come are last: whoever counts the others begins at the first.)
            let all = entries.into_iter().map(Some);
            for entry in all.chain((0..found.never).map(|_| None)) {
                let completion = Completion {
                    ctx: Handle(handle),
                    event: entry,
                    since: Some(since.unwrap_or(0)),
                    until: None,
                    discarded: false,
                };
                event(&Event { time, pid, tid: pid, body: Body::Completion(completion) });
            }
        }
        self.contexts.looked(space, handle, tail, before);
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
                of(Body::Completion(Completion { discarded, ..Completion::exact(ctx, event) }));
                return Ok(());
            }
            Kind::ContextGone => {
                let (record, _): (record::ContextGone, _) = prefix(bytes)?;
                self.contexts.check(record.space, record.handle, record.completed);
                let in_flight = self.contexts.gone(record.space, record.handle, header.time);
                let gone =
                    |how| Gone { ctx: Handle(record.handle), how, in_flight, at_most: false };
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
            Kind::Synchronous => {
                let (record, rest): (record::Synchronous, _) = prefix(bytes)?;
                let record::Synchronous {
                    entered,
                    offset,
                    memory,
                    count,
                    ret,
                    call,
                    fd,
                    placed,
                    vectors: known,
                    ..
                } = record;
                let memory = match call.is_vectored() {
                    true if known == 0 => None,
                    true => Some(vectors(rest, known, header.flags)?),
                    false => (memory != 0).then(|| Vectors::one(Address(memory), count)),
                };
                of(Body::Synchronous(Synchronous {
                    call,
                    entered: (entered != 0).then_some(entered),
                    fd,
                    offset: is_read(placed).then_some(offset),
                    memory,
                    count,
                    ret,
                }));
                return Ok(());
            }
            // This record belongs to no thread's sequence.
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
            // What is known of the call in progress may belong to another call.
            thread.clear();
            self.contexts.lost(thread.space);
            of(Body::Lost { records: u64::from(missing) });
        }
        let contexts = &mut self.contexts;
        match header.kind {
            Kind::Submit => {
                let (record, _): (Submit, _) = prefix(bytes)?;
                if is_read(record.ring.memory) {
                    contexts.looked(thread.space, record.args[0], record.ring.tail, header.time);
                }
                thread.submit(bytes)
            }
            Kind::Vectors => thread.vectors(bytes),
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
                let is_in_call = index != u32::MAX && fault.effect.is_made();
                if is_in_call && thread.changed.len() < ITEMS_PER_CALL {
                    thread.changed.push(index);
                }
                if index == u32::MAX && fault.effect.is_made() {
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
                thread.submitted(contexts, &record, entries, of)
            }
            Kind::SubmittedOne => {
                let (record, entries): (SubmittedOne, _) = prefix(bytes)?;
                let SubmittedOne { submitted, ring_before, iocb } = record;
                if is_read(ring_before.memory) {
                    let Call { args, entered, .. } = submitted.call;
                    contexts.looked(thread.space, args[0], ring_before.tail, entered);
                }
                thread.ring_before = ring(ring_before);
                thread.iocbs.clear();
                thread.iocbs.push(Some(read_iocb(&iocb)));
                thread.submitted(contexts, &submitted, entries, of)
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
                    if is_read(record.ring.memory) {
                        contexts.looked(thread.space, ctx.0, record.ring.tail, began);
                    }
                    let in_flight = contexts.gone(thread.space, ctx.0, began);
                    let in_flight = in_flight.filter(|_| !self.in_part);
                    of(Body::ContextGone(Gone {
                        ctx,
                        how: How::Destroy,
                        in_flight,
                        at_most: false,
                    }));
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
            Kind::Completion | Kind::ContextGone | Kind::ContextMoved | Kind::Synchronous => Ok(()),
        }
    }

    /// The events of calls that are in progress when the trace ends.
    pub fn unfinished(
        &mut self,
        now: u64,
        threads: &[record::Thread],
        mut event: impl FnMut(&Event),
    ) {
        self.ended.drain(..).for_each(|it| event(&it));
        self.in_progress(now, threads, Why::TraceEnds, event);
    }

    /// The events of calls that these threads are in now.
    pub fn in_progress(
        &self,
        now: u64,
        threads: &[record::Thread],
        why: Why,
        mut event: impl FnMut(&Event),
    ) {
        let nothing = Pending::default();
        for thread in threads {
            let Some(syscall) = thread.call() else {
                continue;
            };
            let pending = self.threads.get(&thread.tid).unwrap_or(&nothing);
            let mut args = pending.arguments_so_far(syscall, &thread.args);
            match &mut args {
                // A probe that only counts does not read the iocb; and the ptrace source has sent it already.
                Args::Submit { nr: 1, iocbs, .. } if thread.told == 1 => {
                    *iocbs = vec![Some(kept_iocb(thread))];
                }
                Args::Getevents { timeout_value, .. }
                    if thread.timeout_memory == Memory::Read as u32 =>
                {
                    *timeout_value = Some(thread.timeout);
                }
                _ => (),
            }
            // How long it waits says nothing of a call that a fault holds.
            let is_held = Fault::from_record(thread.fault).is_some();
            let entered = (!is_held).then_some(thread.entered);
            let unfinished = Unfinished { entered, args, why };
            let body = Body::Unfinished(unfinished);
            event(&Event { time: now, pid: thread.pid, tid: thread.tid, body });
        }
    }
}

#[cfg(test)]
mod tests;
