//! What the model learns from each completion.

use super::{
    ContextRef, Doubt, Evidence, Kind, MOST_KINDS, Model, Needs, Subject,
    findings::{
        failed_completion::{FailedCompletion, which},
        short_io::ShortIo,
    },
    requests::{Completed, Match, Request},
};
use crate::{
    errno::returned::{EAGAIN, EINVAL},
    event::{Completion, Event, Handle, IoEvent, Iocb},
    model::Finding,
    opcode::{Opcode, PREAD, PREADV, PWRITE, PWRITEV},
};

const RWF_NOWAIT: u32 = 8;

impl Model {
    pub(super) fn completion(&mut self, event: &Event, completion: &Completion) {
        let ctx = completion.ctx;
        // A completion that comes after the end of its context is discarded.
        if completion.discarded {
            return;
        }
        let space = self.space(event.pid);
        let Some(context) = self.contexts.get_mut(&(space, ctx)) else { return };
        let Some(mut io_event) = completion.event else {
            let after = completion.since.unwrap_or(event.time);
            context.requests.complete_unread(after, event.time);
            return;
        };
        io_event.res = self.faults.own_result(space, &io_event);
        let after = completion.since.unwrap_or(event.time);
        let completed = Completed {
            event: io_event,
            after,
            time: event.time,
            until: completion.until.map_or(event.time, |it| it.max(event.time)),
            is_late: false,
        };
        let (name, doubt) = (context.name, context.doubt_of_reading());
        let found = context.requests.complete(completed);
        if let Some(found) = &found {
            context.count(found);
        }
        self.faults.told(space, io_event, found.as_ref().map(|it| &it.request));
        if let Some(found) = found {
            self.matched(event.pid, name, doubt, found);
        }
    }

    /// io_getevents gave these events to the program: their entries may have been unreadable in the ring, or not read
    /// yet.
    pub(super) fn given(&mut self, event: &Event, ctx: Handle, list: &[Option<IoEvent>]) {
        let space = self.space(event.pid);
        self.faults.given(space, list);
        for it in list.iter().flatten() {
            let Some(context) = self.contexts.get_mut(&(space, ctx)) else { return };
            if context.requests.hidden() == 0 {
                // Its completion came as an event before.
                self.faults.was_given(space, it);
                continue;
            }
            let mut it = *it;
            it.res = self.faults.own_result(space, &it);
            let (name, doubt) = (context.name, context.doubt);
            if let Some(found) = context.requests.given(it, event.time) {
                context.count(&found);
                self.matched(event.pid, name, doubt, found);
            }
        }
    }

    /// Notes a completion whose request is known.
    pub(super) fn matched(
        &mut self,
        pid: u32,
        name: ContextRef,
        doubt: Option<Doubt>,
        found: Match,
    ) {
        self.followed = self.followed.saturating_sub(1);
        self.count(pid, &found);
        let Match { request, completed, again: _ } = &found;
        let time = completed.time;
        let event = completed.event;
        let space = self.space(pid);
        self.faults.completed(space, request, event.res, time);
        if let Some(space) = self.spaces.get_mut(&space).filter(|it| it.has_short()) {
            space.completed(request, event.res);
        }
        let new = |evidence: Evidence| {
            let mut finding = Finding::new(evidence, time, pid);
            finding.context = Some(name);
            finding.doubt = doubt;
            finding
        };
        self.reused(&found, |it| new(it.into()));
        let is_by_design = self.is_by_design(pid, name, request, event.res);
        let Some(subject) = Subject::of(request) else { return };
        let opcode = subject.opcode;
        if matches!(opcode, PREAD | PREADV) {
            self.read_something_or_nothing(pid, name, doubt, &found);
        }
        if matches!(opcode, PWRITE | PWRITEV) && event.res > 0 {
            self.wrote_to_file(pid, name, doubt, &found);
        }
        if event.res < 0 {
            self.would_block(pid, name, request, &event, time);
            if is_by_design {
                return;
            }
            let mut finding = new(FailedCompletion::of(subject, event.res).into());
            finding.request = Some(subject);
            if event.res == EINVAL && matches!(opcode, PREAD | PWRITE | PREADV | PWRITEV) {
                return self.perhaps_misaligned(finding, request);
            }
            return self.find(finding, which(request.fd, opcode), event.res as u64);
        }
        // A vectored request counts iovecs, not bytes; the result of a poll is a mask.
        let is_short = matches!(opcode, PREAD | PWRITE) && (event.res as u64) < request.nbytes;
        if is_short {
            let mut finding = new(ShortIo { request: subject, res: event.res }.into());
            finding.request = Some(subject);
            // A read at the end of a file is short, and a read of a pipe may be short, too.
            let end = (request.offset.max(0) as u64).saturating_add(event.res as u64);
            let beyond = (opcode == PREAD).then_some(end);
            let needs = Needs::Storage { fd: request.fd, beyond };
            self.find_if(needs, finding, u64::from(request.fd), opcode.0.into());
        }
    }

    /// Whether the program asked for this error.
    fn is_by_design(&mut self, pid: u32, of: ContextRef, request: &Request, res: i64) -> bool {
        let would_block = request.rw_flags & RWF_NOWAIT != 0 && res == EAGAIN;
        let space = self.space(pid);
        let space = self.spaces.get_mut(&space);
        space.is_some_and(|it| it.take_cancelled(of.id, request)) || would_block
    }

    /// Counts requests that io_submit did not accept.
    pub(super) fn count_refused<'a>(
        &mut self,
        pid: u32,
        iocbs: impl Iterator<Item = &'a Option<Iocb>>,
    ) {
        for value in iocbs.filter_map(|it| it.as_ref()?.value) {
            if let Some(kind) = self.kind(pid, value.fildes, Opcode::of(&value)) {
                kind.refused += 1;
            }
        }
    }

    pub(super) fn kind(&mut self, pid: u32, fd: u32, opcode: Opcode) -> Option<&mut Kind> {
        let key = (pid, fd, opcode);
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&key) {
            return None;
        }
        let kind = self.kinds.entry(key).or_default();
        kind.process = None;
        Some(kind)
    }

    fn count(&mut self, pid: u32, found: &Match) {
        let Match { request, completed, .. } = found;
        let Some(opcode) = request.opcode else { return };
        let name = (self.space(pid), completed.event.obj, completed.event.data);
        let made_to_fail = !self.unnamed.is_empty() && self.unnamed.remove(&name).is_some();
        let Some(kind) = self.kind(pid, request.fd, opcode) else { return };
        kind.done.requests += 1;
        kind.done.made_to_fail += u64::from(made_to_fail);
        kind.done.failed += u64::from(completed.event.res < 0);
        if request.rw_flags & RWF_NOWAIT != 0 {
            let would_block = completed.event.res == EAGAIN;
            kind.nowait += 1;
            kind.would_block += u64::from(would_block);
            if kind.would_block_since == 0 {
                kind.would_block_from = completed.time;
            }
            kind.would_block_since = if would_block { kind.would_block_since + 1 } else { 0 };
        }
        if completed.event.res > 0 && !request.is_poll() {
            kind.done.bytes += completed.event.res as u64;
        }
        if request.entered != 0 && !completed.is_late {
            let since = |time: u64| time.saturating_sub(request.entered);
            kind.latency.submit.record(since(request.returned), false);
            kind.latency.complete.record(since(completed.time), completed.is_bound());
        }
    }
}
