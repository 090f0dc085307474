//! What the calls do in the reference, and what the source sees of them.

use super::*;

impl World {
    pub fn seen(&mut self, (process, thread): Who) {
        let it = &mut self.processes[process];
        let (space, pid) = (it.space, it.pid);
        let thread = &mut it.threads[thread];
        if !std::mem::replace(&mut thread.is_seen, true) {
            let body = told::process(Some(space), Change::Seen);
            it.is_known |= self.told.record(space, pid, thread.tid, vec![body]);
        }
    }

    pub fn enter(&mut self, who: Who) {
        self.seen(who);
        self.told.now += 10;
    }

    pub fn record(&mut self, who: Who, bodies: Vec<Body>) -> bool {
        let (pid, tid) = self.ids(who);
        self.told.record(self.space(who), pid, tid, bodies)
    }

    pub fn call(
        &self,
        entered: u64,
        args: Args,
        ret: i64,
        ring: Option<Ring>,
        before: Option<Ring>,
    ) -> Body {
        Body::Call(Call {
            entered: Some(entered),
            entry: Entry::Seen,
            ret,
            args,
            ring,
            ring_before: before,
            compat: false,
            stack: None,
            fault: None,
        })
    }

    pub fn setup(&mut self, who: Who, asked: u32) {
        let Process { space, is_guest, .. } = self.processes[who.0];
        let would_fail = !self.rules.faults && self.kernel.is_full(asked);
        // A probe names the process that made the context.
        if is_guest || would_fail {
            return;
        }
        self.enter(who);
        let entered = self.told.now;
        let (pid, _) = self.ids(who);
        let lost = self.lost_handles(space);
        let made = self.kernel.setup(space, asked, |it| lost.contains(&it));
        let stored = made.ok().map(|ctx| self.kernel.contexts[ctx].handle);
        match made {
            Ok(_) => {
                self.told.view(&self.kernel, pid, false);
                self.destroyed.retain(|it| Some(it.1) != stored || it.0 != space);
            }
            Err(_) => self.told.expect(Name::SetupDenied, Severity::Error, pid),
        }
        self.told.now += 10;
        let ret = made.err().unwrap_or(0);
        let args = Args::Setup { nr_events: asked, ctxp: Address(8), stored };
        let is_heard = self.record(who, vec![self.call(entered, args, ret, None, None)]);
        if let Ok(ctx) = made {
            self.told.views[ctx].is_taken_for_another = !is_heard;
        }
    }

    pub fn submit(&mut self, who: Who, ctx: Ctx, wanted: Vec<Wanted>) {
        if wanted.is_empty() {
            return;
        }
        self.enter(who);
        let entered = self.told.now;
        let ids = self.ids(who);
        let ring = self.told.look(&mut self.kernel, ctx, ids);
        // The iocbs have a record of their own.
        let known = self.record(who, Vec::new());
        self.kernel.contexts[ctx].users += 1;
        let call = self.number();
        let (accepted, error) = (0, 0);
        self.processes[who.0].threads[who.1].call =
            Some(InCall::Submit { ctx, entered, wanted, accepted, error, call, ring, known });
    }

    /// A call makes progress.
    pub fn progress(&mut self, (process, thread): Who, count: usize) {
        match &mut self.processes[process].threads[thread].call {
            Some(InCall::Submit { ctx, wanted, accepted, error, call, .. }) => {
                for what in wanted.iter().skip(*accepted).take(count) {
                    if *error != 0 {
                        break;
                    }
                    match self.kernel.submit_one(*ctx, *what, *call) {
                        Ok(()) => *accepted += 1,
                        Err(errno) => *error = errno,
                    }
                }
            }
            Some(InCall::Getevents { ctx, most, got, .. })
                if self.kernel.contexts[*ctx].is_alive =>
            {
                *got += self.kernel.reap(*ctx, count.min(*most - *got)).len();
            }
            _ => (),
        }
    }

    /// The call returns; `false` if it cannot return yet.
    pub fn finish(&mut self, who: Who) -> bool {
        self.progress(who, usize::MAX);
        let Some(call) = self.processes[who.0].threads[who.1].call.take() else { return true };
        let ctx = call.ctx();
        if matches!(call, InCall::Destroy { .. }) {
            if self.kernel.contexts[ctx].users > 0 {
                self.processes[who.0].threads[who.1].call = Some(call);
                return false;
            }
            // io_destroy waits for the requests in flight.
            for request in self.kernel.contexts[ctx].open().collect::<Vec<_>>() {
                self.complete(ctx, request, false);
            }
        } else {
            self.kernel.contexts[ctx].users -= 1;
        }
        self.told.now += 10;
        match call {
            InCall::Submit { .. } => self.submitted(who, call),
            InCall::Getevents { .. } => self.got_events(who, call),
            InCall::Destroy { entered, ring, reaped, .. } => {
                let handle = self.kernel.contexts[ctx].handle;
                let args = Args::Destroy { ctx: handle };
                let call = self.call(entered, args, 0, Some(ring), None);
                let mut bodies = vec![call];
                if !self.rules.exact {
                    bodies.insert(0, self.told.gone(&self.kernel, ctx, How::Destroy));
                }
                self.told.destroyed(ctx, reaped);
                let space = self.space(who);
                let is_heard = self.record(who, bodies);
                if is_heard && !self.rules.exact {
                    self.destroyed.push((space, handle));
                } else if !self.rules.exact {
                    self.told.missed.push((space, self.told.views[ctx].pid, handle));
                }
            }
        }
        true
    }

    /// The ring at the address of the handle, as a call sees it when it returns; and the context that it belongs to.
    pub fn ring_now(&mut self, who: Who, ctx: Ctx) -> (Option<Ring>, Option<Ctx>) {
        let handle = self.kernel.contexts[ctx].handle;
        let there = self.kernel.find(self.space(who), handle);
        let ids = self.ids(who);
        (there.map(|it| self.told.look(&mut self.kernel, it, ids)), there)
    }

    fn submitted(&mut self, who: Who, call: InCall) {
        let InCall::Submit { ctx, entered, wanted, accepted, error, call, ring: before, known } =
            call
        else {
            return;
        };
        let (pid, _) = self.ids(who);
        let ret = if accepted > 0 { accepted as i64 } else { error };
        let (ring, there) = self.ring_now(who, ctx);
        let handle = self.kernel.contexts[ctx].handle;
        let is_gone = self.told.views[ctx].gone.is_some();
        if ret > 0 && !is_gone {
            self.told.views[ctx].pid = pid;
            for it in self.kernel.contexts[ctx].requests.iter_mut().filter(|it| it.call == call) {
                it.returned = true;
                if it.failed && it.told {
                    self.told.expect(Name::FailedCompletion, Severity::Warning, pid);
                }
            }
            let rest = wanted[accepted..].iter();
            let space = self.kernel.contexts[ctx].space;
            self.rest.extend(rest.map(|it| Rest { space, pid, ctx, what: *it, is_dropped: false }));
        }
        let is_eagain = ret == EAGAIN || self.rules.exact && error == EAGAIN;
        if is_eagain && !is_gone {
            self.told.expect(Name::SubmitEagain, Severity::Warning, pid);
        } else if is_eagain && self.kernel.is_held(self.space(who), handle) {
            // As far as the model can know, the handle belongs to a context whose ring is unmapped.
            self.told.allow(Name::SubmitEagain, Severity::Warning, pid);
        }
        if ret < 0 && ret != EAGAIN {
            self.told.expect(Name::RefusedCalls, Severity::Warning, pid);
        } else if ret == EAGAIN && is_gone {
            // The context is not known any more.
            self.told.allow(Name::RefusedCalls, Severity::Warning, pid);
        }
        match there {
            Some(there) if there == ctx && (ret > 0 || ret == EAGAIN) => {
                self.told.looked(&self.kernel, there)
            }
            _ => (),
        }
        let mut bodies = Vec::new();
        if self.rules.exact && error != 0 {
            let (index, iocb) = (accepted as u64, Some(Address(wanted[accepted].address)));
            bodies.push(Body::Refused(Refused { ctx: handle, index, iocb, ret: error }));
        }
        let iocbs = wanted.iter().map(|it| known.then_some(iocb(it))).collect();
        let args = Args::Submit {
            ctx: handle,
            nr: wanted.len() as i64,
            iocbpp: Address(16),
            iocbs,
            truncated: 0,
        };
        bodies.push(self.call(entered, args, ret, ring, Some(before)));
        self.record(who, bodies);
    }

    pub fn getevents(&mut self, who: Who, ctx: Ctx, most: usize, unread: bool) {
        self.enter(who);
        self.kernel.contexts[ctx].users += 1;
        let entered = self.told.now;
        self.processes[who.0].threads[who.1].call =
            Some(InCall::Getevents { ctx, entered, most, got: 0, unread });
    }

    fn got_events(&mut self, who: Who, call: InCall) {
        let InCall::Getevents { ctx, entered, most, got, unread } = call else { return };
        let (pid, _) = self.ids(who);
        let (mut ring, there) = self.ring_now(who, ctx);
        let context = &self.kernel.contexts[ctx];
        let handle = context.handle;
        // Another thread destroyed the context in the meantime.
        let ret = if got == 0 && !context.is_alive { EINVAL } else { got as i64 };
        ring = ring.filter(|_| !unread);
        if ret >= 0 && self.told.views[ctx].gone.is_none() {
            self.told.views[ctx].pid = pid;
            match there {
                Some(there) if there == ctx && !unread => self.told.looked(&self.kernel, ctx),
                _ => self.told.reaped(ctx, got),
            }
        }
        let args = getevents_args(handle, most);
        self.record(who, vec![self.call(entered, args, ret, ring, None)]);
    }

    pub fn destroy(&mut self, who: Who, ctx: Ctx) {
        let Context { space, handle, users, .. } = self.kernel.contexts[ctx];
        // Without a probe that sees the ends, the model tells two contexts with one handle apart by their order. And
        // it assigns calls in progress to a context whose ring was unmapped, if there is one.
        let is_heir = (0..self.kernel.contexts.len()).any(|it| {
            let other = &self.kernel.contexts[it];
            it != ctx
                && (other.space, other.handle) == (space, handle)
                && self.told.views[it].gone.is_none()
        });
        if is_heir && (!self.rules.exact || users > 0) {
            return;
        }
        self.enter(who);
        let entered = self.told.now;
        let ids = self.ids(who);
        let ring = self.told.look(&mut self.kernel, ctx, ids);
        let reaped = self.kernel.contexts[ctx].reaped;
        self.kernel.kill(ctx);
        if self.rules.exact {
            let creator = self.told.views[ctx].creator;
            let body = self.told.gone(&self.kernel, ctx, How::Destroy);
            self.told.tell(creator, creator, body);
            self.destroyed.push((space, handle));
        }
        self.processes[who.0].threads[who.1].call =
            Some(InCall::Destroy { ctx, entered, ring, reaped });
    }

    pub fn cancel(&mut self, who: Who, ctx: Ctx, request: usize) {
        self.enter(who);
        let entered = self.told.now;
        let what = self.kernel.contexts[ctx].requests[request].what;
        let can = what.opcode == POLL && self.complete(ctx, request, false);
        self.told.now += 10;
        let (ring, _) = self.ring_now(who, ctx);
        let args = Args::Cancel {
            ctx: self.kernel.contexts[ctx].handle,
            iocb: Address(what.address),
            result: Address(24),
            value: iocb(&what).value,
        };
        let ret = if can { EINPROGRESS } else { EINVAL };
        self.record(who, vec![self.call(entered, args, ret, ring, None)]);
    }

    /// `false` if the source could not tell the completion from others any more, because it is behind by a whole
    /// ring.
    pub fn complete(&mut self, ctx: Ctx, request: usize, fails: bool) -> bool {
        let context = &self.kernel.contexts[ctx];
        let has_place = self.told.pending(&self.kernel, ctx) + 1 < context.ring().nr as usize;
        if !self.rules.exact && context.is_alive && !has_place {
            return false;
        }
        self.told.now += 10;
        let what = context.requests[request].what;
        let res = if fails { EIO } else { what.nbytes as i64 };
        self.kernel.complete(ctx, request, res);
        self.told.completed(&mut self.kernel, ctx, request);
        true
    }

    pub fn remap(&mut self, who: Who, ctx: Ctx) -> Option<()> {
        let Context { space, handle: from, .. } = self.kernel.contexts[ctx];
        // Calls in progress would return with the old handle.
        let has_it = |it: &Context| (it.space, it.handle) == (space, from);
        let is_used = self.kernel.contexts.iter().any(|it| has_it(it) && it.users > 0);
        // Without a probe, the move is noticed at the next call, and completions that came before it are lost.
        let is_known = self.rules.exact || self.told.pending(&self.kernel, ctx) == 0;
        if is_used || !is_known {
            return None;
        }
        self.enter(who);
        let lost = self.lost_handles(space);
        let to = self.kernel.remap(ctx, |it| lost.contains(&it));
        self.destroyed.retain(|it| *it != (space, to));
        let body = Body::ContextMoved(Moved { from, to });
        if self.rules.exact {
            let creator = self.told.views[ctx].creator;
            self.told.tell(creator, creator, body);
        } else {
            self.record(who, vec![body]);
            self.getevents(who, ctx, 0, false);
            self.finish(who);
        }
        Some(())
    }
}

fn iocb(it: &Wanted) -> Iocb {
    let Wanted { address, opcode, fd: fildes, offset, nbytes, .. } = *it;
    let value = abi::Iocb { opcode, fildes, offset, nbytes, ..Default::default() };
    Iocb { address: Some(Address(address)), value: Some(value), read_late: false, vectors: None }
}

pub fn getevents_args(ctx: Handle, most: usize) -> Args {
    Args::Getevents {
        syscall: Syscall::Getevents,
        ctx,
        min_nr: 0,
        nr: most as i64,
        events: Address(32),
        timeout: Address(0),
        timeout_value: None,
        sigset: Address(0),
        sigset_value: None,
        list: Vec::new(),
        truncated: 0,
        changed: Vec::new(),
    }
}
