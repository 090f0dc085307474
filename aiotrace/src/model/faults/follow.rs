//! What calls, completions, endings and time tell of the faults that are watched.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Faults, MOST_COMPLETIONS, MOST_FAULTS, NO_REQUEST,
    watched::{Kind, Want, Watched, wants_of, wants_of_call},
};
use crate::{
    event::{Args, Call, Changed, Effect, Event, ExitStatus, IoEvent, Iocb},
    model::{
        Model, Subject,
        finding::ContextRef,
        process::place,
        requests::Request,
        rules::delivered,
        verdict::{Cause, HUNG_AFTER, Outcome},
    },
};

const EINPROGRESS: i64 = -(libc::EINPROGRESS as i64);

/// A call that may be a retry.
struct Attempt<'a> {
    space: u64,
    tid: u32,
    /// When it was entered.
    entered: u64,
    /// When it returned.
    time: u64,
    args: &'a Args,
    /// `None`: it has not returned.
    ret: Option<i64>,
    /// A fault met it.
    is_injected: bool,
}

impl Attempt<'_> {
    fn has_succeeded(&self) -> bool {
        let is_cancel = matches!(self.args, Args::Cancel { .. });
        self.ret.is_some_and(|ret| ret >= 0 || is_cancel && ret == EINPROGRESS) && !self.is_injected
    }
}

impl Faults {
    fn attempt(&mut self, attempt: &Attempt<'_>) {
        if self.watched.is_empty() {
            return;
        }
        let touched = match attempt.args {
            Args::Submit { ctx, iocbs, truncated, .. } => {
                self.submitted(attempt, ctx.0, iocbs, *truncated)
            }
            args => self.called(attempt, args),
        };
        for number in touched {
            self.retried(number, attempt);
        }
        if let Args::Getevents { list, changed, .. } = attempt.args {
            self.reaped(attempt.space, list, changed);
        }
    }

    /// The faults of which it retries something.
    fn submitted(
        &mut self,
        attempt: &Attempt<'_>,
        ctx: u64,
        iocbs: &[Option<Iocb>],
        truncated: u64,
    ) -> BTreeSet<u64> {
        let mut touched = BTreeSet::new();
        let accepted = attempt.ret.unwrap_or(0).clamp(0, i64::from(u32::MAX)) as usize;
        let mut is_unread = truncated > 0;
        for (index, iocb) in iocbs.iter().enumerate() {
            let request =
                iocb.as_ref().and_then(|it| Request::new(it, (attempt.entered, 0), (0, 0)));
            let Some(request) = request else {
                is_unread = true;
                continue;
            };
            is_unread |= request.opcode.is_none();
            let mut wanting: BTreeMap<u64, u32> = BTreeMap::new();
            for want in wants_of(ctx, &request).into_iter().flatten() {
                for (number, place) in self.wanting(attempt.space, want, attempt.entered) {
                    wanting.entry(number).or_insert(place);
                }
            }
            for (number, place) in wanting {
                touched.insert(number);
                self.tried(number, place, &request, index < accepted, attempt.is_injected);
            }
        }
        if is_unread {
            // One of those may have been a retry.
            self.unsure(Some(attempt.space));
        }
        touched
    }

    fn tried(
        &mut self,
        number: u64,
        place: u32,
        request: &Request,
        is_accepted: bool,
        is_injected: bool,
    ) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let meets_fault = !is_accepted && is_injected;
        watched.next_fault |= meets_fault;
        let Kind::Completion { retry, completed, .. } = &mut watched.kind else {
            if is_accepted || meets_fault {
                self.take(number, place);
            }
            return;
        };
        if !is_accepted {
            return;
        }
        *completed = None;
        let before = retry.replace(request.iocb);
        let space = watched.space;
        let want = Want::Completion(request.iocb);
        watched.wants.push(want);
        if let Some(before) = before {
            self.no_completion(number, before);
        }
        self.wanted.entry((space, want)).or_default().push((number, NO_REQUEST));
    }

    /// It does not wait for the completion of this iocb any more.
    fn no_completion(&mut self, number: u64, iocb: u64) {
        let want = Want::Completion(iocb);
        let Some(watched) = self.watched.get_mut(&number) else { return };
        if let Some(at) = watched.wants.iter().position(|it| *it == want) {
            watched.wants.remove(at);
        }
        let space = watched.space;
        self.unwant(space, want, number, NO_REQUEST);
    }

    fn called(&mut self, attempt: &Attempt<'_>, args: &Args) -> BTreeSet<u64> {
        let mut touched = BTreeSet::new();
        let has_succeeded = attempt.has_succeeded();
        for want in wants_of_call(attempt.tid, args) {
            for (number, _) in self.wanting(attempt.space, want, attempt.entered) {
                let Some(watched) = self.watched.get_mut(&number) else { continue };
                let is_retry =
                    !matches!(want, Want::Destroy(_)) || matches!(watched.kind, Kind::Destroy);
                if !is_retry {
                    if has_succeeded {
                        watched.over.get_or_insert(attempt.time);
                    }
                    continue;
                }
                watched.succeeded |= has_succeeded;
                watched.next_fault |= attempt.is_injected;
                touched.insert(number);
            }
        }
        touched
    }

    fn retried(&mut self, number: u64, attempt: &Attempt<'_>) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        watched.retries += 1;
        let after = attempt.entered.saturating_sub(watched.time);
        watched.after.get_or_insert(after);
        let is_over = match &watched.kind {
            Kind::Call | Kind::Destroy => watched.succeeded || watched.next_fault,
            Kind::Submit { left, .. } if left.is_empty() => {
                watched.succeeded = !watched.next_fault;
                true
            }
            Kind::Submit { .. } => false,
            Kind::Completion { .. } => watched.next_fault,
        };
        if is_over {
            self.close(number, Outcome::Retried, None);
        }
    }

    /// The program has these.
    fn reaped(&mut self, space: u64, list: &[Option<IoEvent>], changed: &[u32]) {
        for (index, event) in list.iter().enumerate() {
            let Some(event) = event else { continue };
            if changed.iter().any(|it| *it as usize == index) {
                continue;
            }
            for (number, _) in self.wanting(space, Want::Completion(event.obj), u64::MAX) {
                self.came_back(number, event.obj, event.res, None);
                if event.res >= 0 {
                    self.close(number, Outcome::Retried, None);
                }
            }
        }
    }

    /// A retry completed; without a time: and was reaped.
    fn came_back(&mut self, number: u64, iocb: u64, res: i64, time: Option<u64>) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let Kind::Completion { retry, completed, .. } = &mut watched.kind else { return };
        if res < 0 {
            (*retry, *completed) = (None, None);
            return self.no_completion(number, iocb);
        }
        *completed = time.or(*completed);
        watched.succeeded |= time.is_none();
    }

    /// As the kernel says.
    pub fn completed(&mut self, space: u64, request: &Request, res: i64, time: u64) {
        if self.rules.change_completions() {
            if self.completed.len() >= MOST_COMPLETIONS {
                self.completed.clear();
            }
            self.completed.insert((space, request.iocb), request.clone());
        }
        for (number, _) in self.wanting(space, Want::Completion(request.iocb), request.entered) {
            self.came_back(number, request.iocb, res, Some(time));
        }
    }

    /// What the kernel gave, if a source saw a result that is ours.
    pub fn own_result(&mut self, space: u64, event: &IoEvent) -> i64 {
        match self.changed.remove(&(space, event.obj)) {
            Some((given, own)) if given == event.res => own,
            _ => event.res,
        }
    }

    /// What follows is not known for sure; `None`: of nobody.
    pub fn unsure(&mut self, space: Option<u64>) {
        let is_meant = |it: &&mut Watched| space.is_none_or(|space| it.space == space);
        self.watched.values_mut().filter(is_meant).for_each(|it| it.unsure = true);
    }

    /// An address space that stood for a process has become known.
    pub fn moved(&mut self, from: u64, to: u64) {
        let is_meant = |it: &&mut Watched| it.space == from;
        self.watched.values_mut().filter(is_meant).for_each(|it| it.space = to);
        let wanted: Vec<_> = self.wanted.extract_if(|(space, _), _| *space == from).collect();
        for ((_, want), mut list) in wanted {
            self.wanted.entry((to, want)).or_default().append(&mut list);
        }
        if let Some(activity) = self.active.remove(&from) {
            self.active.insert(to, activity);
        }
    }

    /// The address space is gone: its last process exited, or runs another program (no status).
    pub fn ended(&mut self, space: u64, exit: Option<ExitStatus>) {
        let calls = self.active.remove(&space).map_or(0, |it| it.calls);
        if self.completed.len() + self.changed.len() > 0 {
            self.completed.retain(|(of, _), _| *of != space);
            self.changed.retain(|(of, _), _| *of != space);
        }
        let is_meant = |(_, it): &(&u64, &Watched)| it.space == space;
        let numbers: Vec<u64> = self.watched.iter().filter(is_meant).map(|it| *it.0).collect();
        for number in numbers {
            let Some(watched) = self.watched.get(&number) else { continue };
            match watched.told {
                None | Some((Outcome::Hung, _)) => {
                    let outcome = watched.without_sequel(exit, calls);
                    let goes_on = outcome == Outcome::GaveUp || watched.has_completed().is_some();
                    self.close(number, outcome, exit.filter(|_| !goes_on));
                }
                Some(_) => self.drop(number),
            }
        }
    }

    /// The trace is over.
    fn finish(&mut self) {
        let numbers: Vec<u64> = self.watched.keys().copied().collect();
        for number in numbers {
            let Some(watched) = self.watched.get(&number) else { continue };
            if watched.told.is_none() {
                let outcome = watched.at_end();
                self.close(number, outcome, None);
            }
        }
    }
}

impl Model {
    /// What the fault rules of the trace do: before its first event.
    pub fn set_rules(&mut self, rules: super::Rules) {
        self.faults.rules = rules;
    }

    /// What was made of a fault, and was not told yet.
    pub fn next_verdict(&mut self) -> Option<super::Verdict> {
        let mut verdict = self.faults.untold()?;
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
        }
        let is_injected = self.faults.rules.injected(call);
        self.faults.attempt(&Attempt {
            space,
            tid: event.tid,
            entered: call.entered.unwrap_or(event.time),
            time: event.time,
            args: &call.args,
            ret: Some(call.ret),
            is_injected,
        });
        let Some(fault) = call.fault else { return };
        let cause = Cause::Call(call.args.syscall());
        match fault.effect {
            Effect::WouldBe => self.faults.row(fault.rule, cause, None).dry_run += 1,
            Effect::Missed => self.faults.row(fault.rule, cause, None).missed += 1,
            Effect::Done if is_injected => self.failed(event, call),
            Effect::Done if self.faults.rules.delayed(call) => {
                self.faults.row(fault.rule, cause, None).delayed += 1;
            }
            Effect::Done => {
                let row = self.faults.row(fault.rule, cause, None);
                row.made += 1;
                row.not_followed += 1;
            }
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
        let (tid, time) = (event.tid, event.time);
        let (ret, is_injected) = (None, false);
        self.faults.attempt(&Attempt { space, tid, entered, time, args, ret, is_injected });
    }

    fn failed(&mut self, event: &Event, call: &Call) {
        let mut wants = wants_of_call(event.tid, &call.args);
        let (handle, kind) = match &call.args {
            Args::Setup { .. } => (0, Kind::Call),
            Args::Destroy { ctx } => (ctx.0, Kind::Destroy),
            Args::Getevents { ctx, .. } | Args::Cancel { ctx, .. } => (ctx.0, Kind::Call),
            Args::Submit { ctx, nr, iocbs, truncated, .. } => {
                let accepted = call.ret.max(0) as usize;
                let refused = (*nr as u64).saturating_sub(accepted as u64);
                let refused = if *nr > 0 { refused } else { 0 };
                let given = (iocbs.len() as u64).saturating_add(*truncated);
                let refused = refused.min(given.saturating_sub(accepted as u64));
                let times = (call.entered.unwrap_or(event.time), event.time);
                let left: BTreeMap<u32, Request> = (0u32..)
                    .zip(iocbs)
                    .skip(accepted)
                    .filter_map(|(index, it)| {
                        Some((index, Request::new(it.as_ref()?, times, (0, 0))?))
                    })
                    .take(usize::try_from(refused).unwrap_or(usize::MAX))
                    .collect();
                let unnamed = refused.saturating_sub(left.len() as u64);
                (ctx.0, Kind::Submit { left, unnamed })
            }
        };
        if handle != 0 && !matches!(kind, Kind::Destroy) {
            wants.push(Want::Destroy(handle));
        }
        let name = |model: &mut Self| {
            Some(model.context_mut(event.pid, crate::event::Handle(handle))?.name)
        };
        let context = if handle == 0 { None } else { name(self) };
        let what = (Cause::Call(call.args.syscall()), call.ret);
        self.watch(event, call.fault, what, (context, handle), kind, wants);
    }

    fn watch(
        &mut self,
        event: &Event,
        fault: Option<crate::event::Fault>,
        (cause, ret): (Cause, i64),
        (context, handle): (Option<ContextRef>, u64),
        kind: Kind,
        wants: Vec<Want>,
    ) {
        let Some(fault) = fault else { return };
        let space = self.space(event.pid);
        self.faults.watch(Watched {
            time: event.time,
            pid: event.pid,
            tid: event.tid,
            space,
            fault,
            cause,
            ret,
            context,
            handle,
            kind,
            wants,
            calls: 0,
            retries: 0,
            after: None,
            succeeded: false,
            next_fault: false,
            unsure: false,
            over: None,
            told: None,
        });
    }

    /// A fault changed a completion, or would have.
    pub(in crate::model) fn changed(&mut self, event: &Event, changed: &Changed) {
        let cause = Cause::Completion;
        let Changed { ctx, event: own, res, fault } = *changed;
        match fault.effect {
            Effect::WouldBe => self.faults.row(fault.rule, cause, None).dry_run += 1,
            Effect::Missed => self.faults.row(fault.rule, cause, None).missed += 1,
            Effect::Done => (),
        }
        if delivered(Some(fault)).is_none() {
            return;
        }
        let space = self.space(event.pid);
        if self.faults.changed.len() < MOST_FAULTS {
            self.faults.changed.insert((space, own.obj), (res, own.res));
        }
        // A retry that meets a fault.
        for (number, _) in self.faults.wanting(space, Want::Completion(own.obj), event.time) {
            if let Some(watched) = self.faults.watched.get_mut(&number) {
                (watched.next_fault, watched.succeeded) = (true, false);
                if let Kind::Completion { completed, .. } = &mut watched.kind {
                    *completed = None;
                }
            }
            self.faults.close(number, Outcome::Retried, None);
        }
        if res >= own.res || (res >= 0 && own.res < 0) {
            // Nothing that a program has to do anything about.
            let row = self.faults.row(fault.rule, cause, Some(res));
            row.made += 1;
            row.not_followed += 1;
            return;
        }
        let context = self.context_mut(event.pid, ctx);
        let name = context.as_ref().map(|it| it.name);
        let request = context.and_then(|it| it.requests.of_iocb(own.obj)).cloned();
        let request = request.or_else(|| self.faults.completed.get(&(space, own.obj)).cloned());
        let known = request.as_ref().filter(|it| it.opcode.is_some());
        let mut wants = match known {
            Some(it) => vec![Want::Request(place(it))],
            None => vec![Want::Iocb(ctx.0, own.obj)],
        };
        // The rest of it.
        if let Some(it) = known.filter(|it| res > 0 && matches!(it.opcode, Some(0 | 1))) {
            let done = res as u64;
            wants.push(Want::Request((
                it.opcode,
                it.fd,
                it.offset.saturating_add(res),
                it.nbytes.saturating_sub(done),
            )));
        }
        let kind = Kind::Completion {
            subject: known.and_then(Subject::of),
            is_write: known.is_some_and(Request::is_write),
            retry: None,
            completed: None,
        };
        self.watch(event, Some(fault), (cause, res), (name, ctx.0), kind, wants);
    }

    /// What shows in that nothing happens.
    pub(in crate::model) fn judge_faults(&mut self) {
        let now = self.now;
        let is_past = |time: u64| time.saturating_add(HUNG_AFTER) <= now;
        let mut outcomes: Vec<(u64, Outcome)> = Vec::new();
        let mut waiting: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
        for (number, it) in self.faults.watched.iter().filter(|(_, it)| it.told.is_none()) {
            if !is_past(it.time) {
                break;
            }
            let activity = self.faults.active.get(&it.space).copied().unwrap_or_default();
            let (left, _) = it.left();
            let is_still = is_past(activity.last);
            let mut waits = || {
                let (in_flight, unreaped) =
                    *waiting.entry(it.space).or_insert_with(|| self.waits(it.space));
                let may_wait = matches!(it.kind, Kind::Call) && it.retries == 0;
                (may_wait && unreaped)
                    || (matches!(it.kind, Kind::Completion { .. }) && (in_flight || unreaped))
            };
            let is_call = matches!(it.kind, Kind::Call);
            let is_read = matches!(it.kind, Kind::Completion { is_write: false, .. });
            let went_on = activity.calls > it.calls && it.retries == 0;
            if let Some(time) = it.has_completed() {
                if is_past(time) {
                    outcomes.push((*number, Outcome::Retried));
                }
            } else if it.unsure {
                // Its end tells.
            } else if it.over.is_some_and(is_past) {
                outcomes.push((*number, if left > 0 { Outcome::Lost } else { Outcome::GaveUp }));
            } else if is_still && it.over.is_none() && (is_refused(it) || waits()) {
                outcomes.push((*number, Outcome::Hung));
            } else if went_on && (is_call || is_read) && !is_still {
                outcomes.push((*number, Outcome::GaveUp));
            }
        }
        for (number, outcome) in outcomes {
            match outcome {
                Outcome::Retried => self.faults.close(number, outcome, None),
                _ => self.faults.tell(number, outcome, None),
            }
        }
    }

    /// Whether the address space has requests in flight that end by themselves, and completions to reap.
    fn waits(&self, space: u64) -> (bool, bool) {
        let contexts = self.contexts.iter().filter(|((of, _), _)| *of == space).map(|it| it.1);
        contexts.fold((false, false), |(in_flight, unreaped), it| {
            let ends = it.requests.iter().any(|it| !it.is_poll());
            (in_flight || ends, unreaped || it.requests.unreaped() > 0)
        })
    }

    /// The trace is over.
    pub(in crate::model) fn end_faults(&mut self) {
        self.judge_faults();
        self.faults.finish();
    }
}

/// Whether io_submit did not take it, and still has not.
fn is_refused(it: &Watched) -> bool {
    matches!(it.kind, Kind::Submit { .. }) && it.left().0 > 0
}
