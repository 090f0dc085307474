//! What events tell the model of faults: one is made, or something may be the sequel of one.

use std::collections::BTreeMap;

use super::{
    MOST_FAULTS, Rules, Verdict,
    again::Since,
    attempt::Attempt,
    watched::{Kind, Want, Watched, places, wants_of_call, wants_of_completion, written},
};
use crate::{
    event::{Args, Call, Changed, Effect, Event, Fault, Handle, Iocb},
    model::{
        Doubt, Model, Question, Subject,
        finding::ContextRef,
        owed::Owed,
        process::Space,
        requests::Request,
        rules::delivered,
        verdict::{Cause, Half},
    },
};

impl Model {
    /// What the fault rules of the trace do: before its first event.
    pub fn set_rules(&mut self, rules: Rules) {
        self.faults.asked = super::asked::Asked::new(&rules.texts);
        self.faults.history = (!rules.texts.is_empty()).then(Default::default);
        self.faults.rules = rules;
    }

    /// What was made of a fault, and was not told yet.
    pub fn next_verdict(&mut self) -> Option<Verdict> {
        let mut verdict = self.faults.untold()?;
        let ended = verdict.later.map(|later| verdict.time.saturating_add(later));
        verdict.told = ended.unwrap_or(self.moment).max(verdict.time);
        if let Some(name) = self.names.get(&verdict.pid) {
            verdict.process.clone_from(name);
        }
        Some(verdict)
    }

    /// A call: perhaps a retry, perhaps a fault.
    pub(in crate::model) fn follow(&mut self, event: &Event, call: &Call) {
        let space = self.space(event.pid);
        if let Some(activity) = self.faults.active.get_mut(&space) {
            activity.calls += 1;
            activity.last = activity.last.max(event.time);
            activity.is_in_submit = false;
        }
        self.faults.asked.call(&call.args);
        let is_injected = self.faults.rules.injected(call);
        let attempt = Attempt {
            space,
            tid: event.tid,
            entered: call.entered.unwrap_or(event.time),
            time: event.time,
            args: &call.args,
            ret: Some(call.ret),
            is_injected,
            stack: call.stack.as_ref(),
        };
        self.faults.attempt(&attempt);
        self.ask_of_identified();
        self.ask_for_others(event.pid);
        if matches!(call.args, Args::Submit { .. }) && call.ret > 0 {
            self.child_submitted(space);
            self.submitted_elsewhere(space, event.time, call);
        }
        if self.provokes(call) {
            self.provoke(event.time);
        }
        let Some(fault) = call.fault else { return };
        let cause = Cause::Call(call.args.syscall());
        match fault.effect {
            Effect::WouldBe => self.faults.row(fault.rule, cause, None).dry_run += 1,
            Effect::Missed => self.faults.row(fault.rule, cause, None).missed += 1,
            Effect::Done if is_injected => {
                self.failed(event, call);
            }
            Effect::Done if self.faults.rules.delayed(call) => {
                self.faults.row(fault.rule, cause, None).delayed += 1;
            }
            Effect::Done | Effect::Unsure => {
                let row = self.faults.row(fault.rule, cause, None);
                row.made += 1;
                row.not_followed += 1;
            }
        }
    }

    /// Whether synchronous calls are watched from this one on: io_submit did not take all that it was given.
    fn provokes(&self, call: &Call) -> bool {
        match &call.args {
            Args::Submit { nr, .. } => {
                (call.ret < 0 && delivered(call.fault).is_some()) || (1..*nr).contains(&call.ret)
            }
            _ => false,
        }
    }

    /// A call in progress when the trace ends may be a retry.
    pub(in crate::model) fn unfinished(
        &mut self,
        event: &Event,
        entered: Option<u64>,
        args: &Args,
    ) {
        let Some(entered) = entered else { return };
        let space = self.space(event.pid);
        let time = event.time;
        let (ret, is_injected) = (None, false);
        let tid = event.tid;
        let stack = None;
        let activity = self.faults.active.get_mut(&space);
        activity.into_iter().for_each(|it| it.is_in_submit |= matches!(args, Args::Submit { .. }));
        self.faults.attempt(&Attempt { space, tid, entered, time, args, ret, is_injected, stack });
    }

    fn failed(&mut self, event: &Event, call: &Call) {
        let mut wants = wants_of_call(&call.args);
        let (handle, kind) = match &call.args {
            Args::Setup { .. } => (Handle(0), Kind::Call),
            Args::Destroy { ctx } => (*ctx, Kind::Destroy),
            Args::Getevents { ctx, .. } | Args::Cancel { ctx, .. } => (*ctx, Kind::Call),
            Args::Submit { ctx, nr, iocbs, truncated, .. } => {
                let accepted = call.ret.max(0) as usize;
                let refused = (*nr as u64).saturating_sub(accepted as u64);
                let refused = if *nr > 0 { refused } else { 0 };
                let given = (iocbs.len() as u64).saturating_add(*truncated);
                let refused = refused.min(given.saturating_sub(accepted as u64));
                let times = (call.entered.unwrap_or(event.time), event.time);
                let known = |it: &Option<Iocb>| {
                    Request::new(it.as_ref()?, times, (0, 0)).filter(|it| it.opcode.is_some())
                };
                let left: BTreeMap<u32, Owed> = (0u32..)
                    .zip(iocbs)
                    .skip(accepted)
                    .take(usize::try_from(refused).unwrap_or(usize::MAX))
                    .filter_map(|(index, it)| Some((index, Owed::new(known(it)?))))
                    .collect();
                let unnamed = refused.saturating_sub(left.len() as u64);
                (*ctx, Kind::Submit { left, unnamed })
            }
        };
        if handle.0 != 0 && !matches!(kind, Kind::Destroy) {
            wants.push(Want::Destroy(handle));
        }
        let context = self.context_when((event.pid, handle), call.began(event));
        let context = context.map(|it| it.name);
        let what = (Cause::Call(call.args.syscall()), call.ret);
        let since = Since::new(event.tid, event.time, Some(&call.args)).at(call.stack.clone());
        self.watch(event, call.fault, what, (context, handle), kind, (wants, since));
    }

    fn watch(
        &mut self,
        event: &Event,
        fault: Option<Fault>,
        (cause, ret): (Cause, i64),
        (context, handle): (Option<ContextRef>, Handle),
        mut kind: Kind,
        (mut wants, since): (Vec<Want>, Since),
    ) -> Option<u64> {
        let fault = fault?;
        let space = self.space(event.pid);
        let mut doubt = None;
        if let Kind::Completion { subject, owed, .. } = &mut kind {
            // After a loss the iocb may be another request's, which nobody saw.
            doubt = self.spaces.get(&space).and_then(Space::doubt);
            if doubt.is_some() {
                (*subject, *owed) = (None, None);
                wants.clear();
            }
        }
        // Who shares the memory, and is not traced, may do anything with the context.
        let is_shared = self.spaces.get(&space).is_some_and(|it| it.is_shared);
        doubt = doubt.or(is_shared.then_some(Doubt::SharedMemory));
        let fd = match &kind {
            Kind::Submit { left, .. } => left.values().next().map(|it| it.request.fd),
            Kind::Completion { subject, .. } => subject.map(|it| it.fd),
            Kind::Call | Kind::Destroy => None,
        };
        let written = written(&kind);
        let mut unseen = self.faults.unseen(event.time, &kind);
        let of = (event.pid, space);
        let placeless = self.ask_who_does(of, event.time, &written, &mut unseen);
        if let Some(fd) = fd.filter(|fd| self.faults.wants_path(space, *fd, event.time)) {
            self.ask(Question::Path { pid: event.pid, fd });
        }
        self.faults.watch(Watched {
            written,
            placeless,
            unseen,
            here: Vec::new(),
            places: places(&kind),
            since,
            again: None,
            is_unreaped: false,
            fewer: None,
            before: Vec::new(),
            time: event.time,
            pid: event.pid,
            tid: event.tid,
            space,
            fault,
            cause,
            ret,
            context,
            handle,
            moved: None,
            kind,
            wants,
            calls: 0,
            retries: 0,
            after: None,
            done: None,
            did: Vec::new(),
            succeeded: false,
            next_fault: false,
            doubt,
            over: None,
            settled: None,
            told: None,
        })
    }

    /// A fault changed a completion, or would have.
    pub(in crate::model) fn changed(&mut self, event: &Event, changed: &Changed) {
        let cause = Cause::Completion;
        let Changed { ctx, event: own, res, fault } = *changed;
        match fault.effect {
            Effect::WouldBe => self.faults.row(fault.rule, cause, None).dry_run += 1,
            Effect::Missed => self.faults.row(fault.rule, cause, None).missed += 1,
            Effect::Done | Effect::Unsure => (),
        }
        if delivered(Some(fault)).is_none() {
            return;
        }
        self.provoke(event.time);
        let space = self.space(event.pid);
        self.faults.forget_retries();
        if self.faults.changed.len() < MOST_FAULTS {
            self.faults.changed.insert((space, own.obj, own.data), (res, own.res));
        }
        // A retry that meets a fault.
        for (number, _) in self.faults.wanting(space, Want::Completion(own.obj), event.time) {
            let Some(watched) = self.faults.watched.get_mut(&number) else { continue };
            let Kind::Completion { owed, completed, .. } = &mut watched.kind else { continue };
            if owed.as_deref().is_some_and(Owed::is_left) {
                // It does a part only.
                self.faults.came_back(number, (own.obj, None), i64::from(i32::MIN), None);
                continue;
            }
            *completed = None;
            (watched.next_fault, watched.succeeded) = (true, false);
            self.faults.settle(number, Half::Retried);
        }
        if res >= own.res || (res >= 0 && own.res < 0) {
            // Nothing that a program has to do anything about.
            let row = self.faults.row(fault.rule, cause, Some(res));
            row.made += 1;
            row.not_followed += 1;
            return;
        }
        let mut context = self.context_mut(event.pid, ctx);
        if let Some(context) = context.as_mut().filter(|_| res < 0) {
            context.done.made_to_fail += 1;
        }
        let name = context.as_ref().map(|it| it.name);
        let by_hand = context.as_ref().is_some_and(|it| it.is_reaped_by_hand());
        let in_flight = context.and_then(|it| it.requests.of_event(&own)).cloned();
        let request = self.faults.whose(space, &own, in_flight);
        let known = request.as_ref().filter(|it| it.opcode.is_some());
        let wants = known.map_or_else(
            || vec![Want::Iocb(ctx, own.obj)],
            |request| wants_of_completion(request, res),
        );
        if let Some(subject) = known.and_then(Subject::of).filter(|_| res < 0)
            && let Some(kind) = self.kind(event.pid, subject.fd, subject.opcode)
        {
            kind.done.made_to_fail += 1;
        } else if known.is_none() && res < 0 && self.unnamed.len() < MOST_FAULTS {
            self.unnamed.insert((space, own.obj, own.data), ());
        }
        let kind = Kind::Completion {
            subject: known.and_then(Subject::of),
            is_owed: known.is_some_and(|it| !it.is_poll()),
            owed: known.map(|it| Box::new(owed_after(it, res, own.res))),
            own: own.res,
            is_delivered: false,
            pieces: Vec::new(),
            completed: None,
        };
        let since = Since::new(event.tid, event.time, None);
        let number =
            self.watch(event, Some(fault), (cause, res), (name, ctx), kind, (wants, since));
        let by_hand = by_hand || fault.effect == Effect::Unsure;
        if let Some(number) = number {
            self.faults.is_undelivered(number, (space, &own), by_hand);
        }
    }
}

/// What is left of a request whose completion has this result, instead of the kernel's own.
pub(super) fn owed_after(request: &Request, res: i64, own: i64) -> Owed {
    Owed::after(request.clone(), res.max(0) as u64, u64::try_from(own).ok())
}
