//! The call that a thread is in, whose records come one after the other.

use aiotrace_common::{
    abi,
    record::{
        self, EVENTS_PER_RECORD, Events, ITEMS_PER_CALL, NewEntries, RingSample, Submit, Submitted,
        SubmittedIocb, flag,
    },
};

use super::{
    Undecodable, arguments,
    contexts::{Contexts, Entries},
    decode::InRing,
    parse::{io_events, is_read, prefix, read_iocb, ring, vectors},
};
use crate::{
    errno::returned::{EACCES, ENOSYS, EPERM},
    event::{
        Address, Args, Behind, Body, Call, Completion, Entry, Fault, Handle, Iocb, Moved, Refused,
        Ring, Sigset, Stack, Syscall, Vectors,
    },
    opcode::{self, Opcode},
};

/// What is known of a thread's call so far.
#[derive(Default)]
pub(super) struct Pending {
    /// Records of this thread so far.
    pub(super) seq: u32,
    /// The call the thread was in when we attached, from /proc.
    pub(super) blocked: Option<Syscall>,
    /// Its address space; 0 if not known.
    pub(super) space: u64,
    pub(super) ring_before: Option<Ring>,
    pub(super) refused: Option<record::Refused>,
    pub(super) sigset: Option<record::Sigset>,
    pub(super) iocbs: Vec<Option<Iocb>>,
    /// The iovecs of those that are vectored, by their index in the call, and when that was entered.
    pub(super) vectors: (u64, Vec<(u32, Vectors)>),
    pub(super) events: Vec<Option<abi::IoEvent>>,
    /// The indices of events that a fault rule changed.
    pub(super) changed: Vec<u32>,
    /// The stack, and when the call was entered that it belongs to.
    pub(super) stack: Option<(u64, Stack)>,
}

impl Pending {
    /// How many records are missing before this one; `None` if the record belongs to no sequence.
    pub(super) fn missing(&mut self, seq: u32) -> Option<u32> {
        if seq == 0 {
            return None;
        }
        let expected = self.seq.wrapping_add(1);
        self.seq = seq;
        if seq < expected {
            // The thread has a new slot: it is its first call, or the first after exec.
            self.clear();
            return Some(seq - 1);
        }
        Some(seq - expected)
    }

    pub(super) fn submit(&mut self, bytes: &[u8]) -> Result<(), Undecodable> {
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
            // An iocb that was read at entry is kept: it was read at the right time.
            if slot.as_ref().is_some_and(|known| known.value.is_some()) {
                continue;
            }
            *slot = Some(read_iocb(&found));
        }
        Ok(())
    }

    /// Takes the iovecs of a request, which was entered at this time.
    pub(super) fn vectors(&mut self, bytes: &[u8]) -> Result<(), Undecodable> {
        let (record, rest): (record::Vectors, _) = prefix(bytes)?;
        let found = vectors(rest, record.count, record.header.flags)?;
        let (entered, all) = &mut self.vectors;
        if std::mem::replace(entered, record.header.time) != record.header.time {
            all.clear();
        }
        if all.len() < ITEMS_PER_CALL {
            all.push((record.index, found));
        }
        Ok(())
    }

    pub(super) fn submitted(
        &mut self,
        contexts: &mut Contexts,
        record: &Submitted,
        entries: &[u8],
        mut of: impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let call = &record.call;
        let handle = call.args[0];
        if call.ret >= 0 {
            let from = contexts.used(self.space, handle, call.header.pid, call.ret as u64);
            tell_moved(from, handle, &mut of);
        }
        self.entries(contexts, handle, record.new, entries, &mut of)?;
        self.tell_refused(call, &mut of);
        self.finish(contexts, call, record.ring, of)
    }

    /// Gives the completions of entries that are new in a ring.
    pub(super) fn entries(
        &mut self,
        contexts: &mut Contexts,
        handle: u64,
        new: NewEntries,
        bytes: &[u8],
        of: &mut impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let NewEntries { seen, first, count, beyond, memory } = new;
        if beyond > 0 {
            contexts.behind(self.space, handle, beyond);
            of(Body::Behind(Behind { ctx: Handle(handle), completions: beyond }));
        }
        if count == 0 {
            return Ok(());
        }
        if count as usize > EVENTS_PER_RECORD {
            return Err(Undecodable(bytes.len()));
        }
        let is_read = is_read(memory);
        let entries = io_events(bytes, if is_read { count as usize } else { 0 })?;
        let Entries { since, new, never } =
            contexts.entries((self.space, handle), first, count, seen);
        let mut tell = |event: Option<abi::IoEvent>| {
            let (since, until) = (Some(since.unwrap_or(0)), Some(seen));
            let ctx = Handle(handle);
            of(Body::Completion(Completion { ctx, event, since, until, discarded: false }));
        };
        (0..never).for_each(|_| tell(None));
        let is_new = |index: u32| new.iter().any(|range| range.contains(&index));
        for (_, entry) in (0..).zip(entries).filter(|(index, _)| is_new(*index)) {
            tell(Some(entry));
        }
        if !is_read {
            (0..count).filter(|index| is_new(*index)).for_each(|_| tell(None));
        }
        Ok(())
    }

    /// Gives the event of the refused iocb, when the call's result says which one it was: all before it were
    /// accepted.
    pub(super) fn tell_refused(&mut self, call: &record::Call, of: &mut impl FnMut(Body) -> Body) {
        let Some(record) = self.refused.take() else {
            return;
        };
        let index = call.ret.max(0) as u64;
        let of_call = || self.iocbs.get(index as usize)?.as_ref()?.address;
        let iocb = Some(Address(record.iocb)).filter(|it| it.0 != 0).or_else(of_call);
        of(Body::Refused(Refused { ctx: Handle(call.args[0]), index, iocb, ret: record.ret }));
    }

    pub(super) fn events(
        &mut self,
        contexts: &mut Contexts,
        in_rings: &mut Vec<InRing>,
        bytes: &[u8],
        mut of: impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let (record, rest): (Events, _) = prefix(bytes)?;
        if record.first == 0 {
            self.events.clear();
        }
        // Records between these two may be lost.
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
            let handle = record.call.args[0];
            let from = contexts.used(self.space, handle, record.call.header.pid, 0);
            tell_moved(from, handle, &mut of);
        }
        self.finish_with(contexts, &record.call, args, record.ring, of)
    }

    /// The arguments of a call, with what is known already of the memory that they point to.
    pub(super) fn arguments(&mut self, syscall: Syscall, args: &[u64; 6]) -> Args {
        let vectors = std::mem::take(&mut self.vectors.1);
        Self::arguments_with(syscall, args, || (std::mem::take(&mut self.iocbs), vectors))
    }

    /// As [`Self::arguments`], while the call goes on.
    pub(super) fn arguments_so_far(&self, syscall: Syscall, args: &[u64; 6]) -> Args {
        Self::arguments_with(syscall, args, || (self.iocbs.clone(), self.vectors.1.clone()))
    }

    fn arguments_with(
        syscall: Syscall,
        args: &[u64; 6],
        known: impl FnOnce() -> (Vec<Option<Iocb>>, Vec<(u32, Vectors)>),
    ) -> Args {
        let mut args = arguments(syscall, args);
        if let Args::Submit { nr, iocbs, truncated, .. } = &mut args {
            let recorded = (*nr).clamp(0, ITEMS_PER_CALL as i64) as usize;
            let vectors;
            (*iocbs, vectors) = known();
            // If a record was lost, it is unknown what was submitted.
            iocbs.resize(recorded, None);
            for (index, vectors) in vectors {
                let iocb = iocbs.get_mut(index as usize).and_then(Option::as_mut);
                if let Some(iocb) = iocb.filter(|it| is_vectored(it) && !it.read_late) {
                    iocb.vectors = Some(vectors);
                }
            }
            *truncated = ((*nr).max(0) as u64).saturating_sub(recorded as u64);
        }
        args
    }

    pub(super) fn finish(
        &mut self,
        contexts: &mut Contexts,
        call: &record::Call,
        sample: RingSample,
        of: impl FnMut(Body) -> Body,
    ) -> Result<(), Undecodable> {
        let args = self.arguments(call.syscall, &call.args);
        self.finish_with(contexts, call, args, sample, of)
    }

    pub(super) fn finish_with(
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
            contexts.looked(self.space, call.args[0], sample.tail, call.header.time);
        }
        // The vectors are used again for the next call.
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
        // What filters answer with. Any other errno is more likely the kernel's, of a call whose beginning was not seen.
        let may_be_denied = match call.ret {
            EPERM | ENOSYS => true,
            // The kernel has it, too, where it checks the file of a request.
            EACCES => call.syscall != Syscall::Submit,
            _ => false,
        };
        match (flags & flag::SECCOMP != 0 && may_be_denied, is_first) {
            (true, _) => Entry::Denied,
            (false, true) => Entry::BeforeAttach,
            (false, false) => Entry::Missed,
        }
    }

    pub(super) fn clear(&mut self) {
        self.ring_before = None;
        self.refused = None;
        self.sigset = None;
        self.stack = None;
        self.iocbs.clear();
        self.vectors.1.clear();
        self.events.clear();
        self.changed.clear();
    }
}

fn is_vectored(iocb: &Iocb) -> bool {
    iocb.value.is_some_and(|it| opcode::is_vectored(Opcode::of(&it)))
}

/// Gives an event if a ring has got another handle.
fn tell_moved(from: Option<u64>, to: u64, of: &mut impl FnMut(Body) -> Body) {
    if let Some(from) = from {
        of(Body::ContextMoved(Moved { from: Handle(from), to: Handle(to) }));
    }
}
