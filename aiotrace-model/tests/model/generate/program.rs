//! The behaviour of the programs: what they submit, which mistakes they make on purpose, and how they end.

use super::{calls::getevents_args, *};

impl World {
    /// An unused iocb, for a request unlike all others.
    pub fn wanted(&mut self, space: u64, opcode: u16) -> Wanted {
        let number = self.number();
        let (fd, offset) =
            if opcode == POLL { (number as u32, 0) } else { (3, number as i64 * 512) };
        let address = self.free_iocb(space, &[]);
        let nbytes = if opcode == POLL { 0 } else { 512 };
        Wanted { address, opcode, fd, offset, nbytes, is_bad: false }
    }

    /// The first iocb that neither the kernel nor the program uses.
    pub fn free_iocb(&self, space: u64, more: &[Wanted]) -> u64 {
        let is_used = |address: u64| {
            let is_it = |it: &Wanted| it.address == address;
            more.iter().any(is_it)
                || self.is_left(space, address)
                || self.is_in_call(space, address)
                || self.kernel.contexts.iter().any(|it| {
                    it.space == space && it.open().any(|open| is_it(&it.requests[open].what))
                })
        };
        (1..).map(|it| it * 64).find(|it| !is_used(*it)).expect("there is always a free one")
    }

    pub fn is_in_call(&self, space: u64, address: u64) -> bool {
        let calls = self.processes.iter().filter(|it| it.space == space);
        calls.flat_map(|it| &it.threads).any(|it| match &it.call {
            Some(InCall::Submit { wanted, .. }) => wanted.iter().any(|it| it.address == address),
            _ => false,
        })
    }

    /// Whether the iocb was refused, or came after one that was.
    fn is_left(&self, space: u64, address: u64) -> bool {
        self.rest.iter().any(|it| it.space == space && it.what.address == address)
    }

    /// Number of slots that no call will take.
    pub fn room(&self, ctx: Ctx) -> usize {
        let all = self.processes.iter().flat_map(|it| &it.threads);
        let taken = all.filter_map(|it| match &it.call {
            Some(InCall::Submit { ctx: of, wanted, accepted, error: 0, .. }) if *of == ctx => {
                Some(wanted.len() - accepted)
            }
            _ => None,
        });
        self.kernel.contexts[ctx].room().saturating_sub(taken.sum())
    }

    /// What to submit: first the rest of earlier calls, then something new.
    pub fn batch(
        &mut self,
        ctx: Ctx,
        opcodes: &[u16],
        twice: bool,
        bad: Option<u8>,
    ) -> Vec<Wanted> {
        let space = self.kernel.contexts[ctx].space;
        let room = if self.rules.faults { usize::MAX } else { self.room(ctx) };
        let mut wanted: Vec<Wanted> = Vec::new();
        // A request is repeated on the same context, unless that cannot be used any more.
        let usable: Vec<bool> =
            (0..self.kernel.contexts.len()).map(|it| self.is_usable(it)).collect();
        let is_meant = |it: &mut Rest| {
            it.space == space && !it.is_dropped && (it.ctx == ctx || !usable[it.ctx])
        };
        let rest: Vec<_> = self.rest.extract_if(.., is_meant).collect();
        for mut it in rest {
            if wanted.len() >= room {
                self.rest.push(it);
                continue;
            }
            if it.ctx != ctx && self.told.views[it.ctx].gone.is_none() {
                // As far as the model can know, the other context can still be used.
                self.told.allow(Name::ShortSubmitDropped, Severity::Warning, it.pid);
            }
            // If the iocb was in a call twice, it may be in flight: then a copy is submitted.
            if self.free_iocb(space, &wanted) != it.what.address {
                it.what.address = self.free_iocb(space, &wanted);
            }
            wanted.push(it.what);
        }
        for (index, opcode) in opcodes.iter().enumerate() {
            let mut what = self.wanted(space, *opcode);
            what.address = self.free_iocb(space, &wanted);
            what.is_bad = bad.is_some_and(|it| usize::from(it) % opcodes.len() == index);
            wanted.push(what);
        }
        if twice && !opcodes.is_empty() && bad.is_none() {
            wanted.extend(wanted.last().copied());
        }
        wanted.truncate(room);
        wanted
    }

    /// Handles whose ring was unmapped. Without a probe that sees the ends of contexts, nobody can tell such a
    /// context from another one with the same handle, so in that mode no other one gets it.
    pub fn lost_handles(&self, space: u64) -> Vec<Handle> {
        let all = self.kernel.contexts.iter();
        let lost = all.filter(|it| it.space == space && it.is_alive && !it.is_mapped);
        lost.filter(|_| !self.rules.exact).map(|it| it.handle).collect()
    }

    /// Whether nothing is in flight, even when the calls in progress return.
    pub fn is_quiet(&self, ctx: Ctx) -> bool {
        let mut all = self.processes.iter().flat_map(|it| &it.threads);
        let is_done = |it: &Thread| match &it.call {
            Some(InCall::Submit { ctx: of, wanted, accepted, error, .. }) if *of == ctx => {
                *accepted == wanted.len() || *error != 0
            }
            _ => true,
        };
        self.kernel.contexts[ctx].in_flight() == 0 && all.all(is_done)
    }

    pub fn use_after_destroy(&mut self, who: Who, which: u8) -> Option<()> {
        let space = self.space(who);
        let is_free = |handle: Handle| {
            (0..self.told.views.len()).all(|it| {
                let context = &self.kernel.contexts[it];
                (context.space, context.handle) != (space, handle)
                    || self.told.views[it].gone.is_some()
            })
        };
        let all: Vec<_> =
            self.destroyed.iter().filter(|it| it.0 == space && is_free(it.1)).collect();
        let handle = pick(&all, which)?.1;
        self.enter(who);
        let (pid, _) = self.ids(who);
        self.told.expect(Name::UseAfterDestroy, Severity::Warning, pid);
        let args = getevents_args(handle, 1);
        let call = self.call(self.told.now, args, EINVAL, None, None);
        self.record(who, vec![call]);
        Some(())
    }

    pub fn reuse_in_flight(&mut self, who: Who, ctx: Ctx, which: u8) -> Option<()> {
        let context = &self.kernel.contexts[ctx];
        let address = |it: usize| context.requests[it].what.address;
        let is_alone =
            |it: &usize| context.open().filter(|of| address(*of) == address(*it)).count() == 1;
        let all: Vec<_> = context
            .open()
            .filter(|it| context.requests[*it].returned && is_alone(it))
            .filter(|it| !self.is_in_call(context.space, address(*it)))
            // If an iocb was in a call twice, the second may be in the rest: it would be taken for that one,
            // submitted again.
            .filter(|it| !self.is_left(context.space, address(*it)))
            .collect();
        let first = pick(&all, which)?;
        let has_place = self.told.pending(&self.kernel, ctx) + 1 < context.ring().nr as usize;
        if self.room(ctx) == 0 || !has_place {
            return None;
        }
        let what = context.requests[first].what;
        self.submit(who, ctx, vec![what]);
        self.finish(who);
        let pid = if self.rules.exact { self.told.views[ctx].creator } else { self.ids(who).0 };
        self.told.expect(Name::IocbReusedInFlight, Severity::Warning, pid);
        self.complete(ctx, first, false);
        self.getevents(who, ctx, 0, false);
        self.finish(who);
        Some(())
    }

    /// What a program does before it ends well.
    fn clean_up(&mut self, process: usize) {
        let (who, space) = ((process, 0), self.processes[process].space);
        for _ in 0..20 {
            for ctx in 0..self.kernel.contexts.len() {
                if self.kernel.contexts[ctx].space != space || !self.is_usable(ctx) {
                    continue;
                }
                let open: Vec<_> = self.kernel.contexts[ctx].open().collect();
                for request in open {
                    if self.kernel.contexts[ctx].requests[request].what.opcode != POLL {
                        self.complete(ctx, request, false);
                    }
                }
                self.getevents(who, ctx, usize::MAX, false);
                self.finish(who);
            }
            if self.rest.iter().all(|it| it.space != space || it.is_dropped) {
                return;
            }
            let mut owed = self.rest.iter().filter(|it| it.space == space && !it.is_dropped);
            let own = owed.find(|it| self.is_usable(it.ctx)).map(|it| it.ctx);
            match own.or_else(|| self.context(space, 0)) {
                Some(ctx) => {
                    let wanted = self.batch(ctx, &[], false, None);
                    self.submit(who, ctx, wanted);
                    self.finish(who);
                }
                None => self.setup(who, 8),
            }
        }
    }

    /// The process exits, or runs another program.
    pub fn leave(
        &mut self,
        process: usize,
        clean: bool,
        status: Option<ExitStatus>,
        gone_later: bool,
    ) -> Option<()> {
        let &Process { pid, space, .. } = self.processes.get(process)?;
        let is_last = self.processes.iter().filter(|it| it.space == space).count() == 1;
        for _ in 0..2 {
            for who in self.threads(|it| it.call.is_some()) {
                if self.space(who) == space {
                    self.finish(who);
                }
            }
        }
        // Probes name the process that made the context, or used it last, wherever the context is now.
        let is_known_by =
            |it: &told::View| it.gone.is_none() && (it.pid == pid || it.creator == pid);
        let of_space = |it: &usize| self.kernel.contexts[*it].space == space;
        let mut of_it = (0..self.told.views.len()).filter(of_space);
        if status.is_none() && !is_last && of_it.any(|it| is_known_by(&self.told.views[it])) {
            return None;
        }
        if clean && is_last {
            self.clean_up(process);
        }
        for thread in 0..self.processes[process].threads.len() {
            let tid = self.processes[process].threads[thread].tid;
            self.told.lose(tid, 0);
            self.told.tell_loss(space, pid, tid);
        }
        self.told.now += 10;
        let gone_later = gone_later && self.rules.exact;
        if is_last && !gone_later {
            self.end_contexts(space, status);
        }
        if is_last {
            let dropped = self.rest.extract_if(.., |it| it.space == space);
            for it in dropped {
                match status {
                    Some(ExitStatus::Signal(_)) => (),
                    // The program may have done it with poll(2).
                    _ if it.what.opcode == POLL => {
                        self.told.allow(Name::ShortSubmitDropped, Severity::Warning, it.pid);
                    }
                    // A child that goes on, or runs another program, may have done it.
                    _ if self.forked.contains(&space) => {
                        for severity in [Severity::Warning, Severity::Error] {
                            self.told.allow(Name::ShortSubmitDropped, severity, it.pid);
                        }
                    }
                    // The next program has the descriptors.
                    None => {
                        self.told.allow(Name::ShortSubmitDropped, Severity::Warning, it.pid);
                    }
                    Some(_) => {
                        self.told.expect(Name::ShortSubmitDropped, Severity::Error, it.pid);
                    }
                }
            }
        }
        match status {
            Some(status) => {
                self.told.process(pid, pid, Some(space), Change::Exit { status });
                self.told.dead.insert(pid);
                self.processes.remove(process);
            }
            None => {
                let new = self.number() + 1_000_000;
                let change = Change::Exec { path: b"/bin/true".to_vec() };
                self.told.process(pid, pid, Some(new), change);
                self.told.spaces.entry(pid).or_default().push(new);
                let it = &mut self.processes[process];
                (it.space, it.is_guest, it.is_known) = (new, false, true);
                it.threads = vec![Thread { tid: pid, is_seen: false, call: None }];
            }
        }
        if is_last && gone_later {
            self.told.now += 10;
            self.end_contexts(space, status);
        }
        Some(())
    }

    fn end_contexts(&mut self, space: u64, status: Option<ExitStatus>) {
        let how = if status.is_some() { How::Exit } else { How::Exec };
        let is_meant = |it: &Ctx| {
            let context = &self.kernel.contexts[*it];
            context.space == space && context.is_alive
        };
        let mut all: Vec<_> = (0..self.kernel.contexts.len()).filter(is_meant).collect();
        // If two contexts had a handle, the model assumes that they end in this order.
        all.sort_by_key(|it| std::cmp::Reverse((self.kernel.contexts[*it].is_mapped, *it)));
        for ctx in all {
            self.kernel.kill(ctx);
            let view = &self.told.views[ctx];
            let pid = if self.rules.exact { view.creator } else { view.pid };
            let body = self.told.gone(&self.kernel, ctx, how);
            self.told.tell(pid, pid, body);
        }
        for (_, pid, ctx) in self.told.missed.extract_if(.., |it| it.0 == space).collect::<Vec<_>>()
        {
            let gone = Gone { ctx, how, in_flight: None, at_most: false };
            self.told.tell(pid, pid, Body::ContextGone(gone));
        }
    }
}
