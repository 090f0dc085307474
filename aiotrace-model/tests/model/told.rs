//! What a source reports of the reference, in both of its modes, with its losses; and the model that gets the
//! reports, with what is expected of it.

mod compare;

use std::collections::{BTreeMap, BTreeSet};

use aiotrace_model::{
    event::{
        Args, Body, Call, Change, Completion, Event, Gone, Handle, How, Limit, Looked, Process,
        Ring, RingFound, SpaceId, Ways,
    },
    model::{
        Bound, Finding, Model, Name, Peak, Question, Settings, Severity, Thresholds, report::End,
    },
};

use crate::reference::{Ctx, Kernel, Request};

const NEVER: u64 = 1 << 60;
pub const SECOND: u64 = 1_000_000_000;

/// A finding, as far as it is compared.
pub type Expected = (Name, Severity, u32);

/// What the model knows of a context, if it knows everything that was reported.
#[derive(Clone, Debug)]
pub struct View {
    /// The process that created it, and the one that used it last.
    pub creator: u32,
    pub pid: u32,
    /// How many completions were reported.
    pub told: usize,
    /// How many completions were reaped at the last look.
    reaped: usize,
    /// How many completions the last look showed that were not reported.
    unseen: usize,
    looked: u64,
    pub adopted: bool,
    /// Its io_setup was lost: if its handle was that of an adopted context whose ring was unmapped, the model takes
    /// it for that one, until the loss is reported.
    pub is_taken_for_another: bool,
    /// How it ended, if its end was reported.
    pub gone: Option<How>,
    /// The return of its io_destroy was reported, too.
    is_over: bool,
    /// A probe lost a completion of it.
    miscounted: bool,
}

/// The numbers of a context that are compared.
pub type Row = (u32, Handle, Option<u64>, u64, u64, Option<u64>);

/// The records of one thread that the source loses.
#[derive(Default)]
struct Loss {
    /// How many of the next records will be lost.
    next: u32,
    /// How many were lost and not reported.
    lost: u64,
}

pub struct Told {
    pub model: Model,
    pub exact: bool,
    pub now: u64,
    pub views: Vec<View>,
    losses: BTreeMap<u32, Loss>,
    /// The next completion that a probe sees is lost.
    pub lose_completion: bool,
    /// All address spaces that each process ever used.
    pub spaces: BTreeMap<u32, Vec<u64>>,
    /// Processes that have exited.
    pub dead: BTreeSet<u32>,
    /// Address spaces of which something was lost, and when that was reported.
    pub lossy: BTreeMap<u64, Option<u64>>,
    /// Contexts whose io_destroy the source missed.
    pub missed: Vec<(u64, u32, Handle)>,
    pub allowed: BTreeSet<Expected>,
    pub required: BTreeSet<Expected>,
    pub found: Vec<Finding>,
    doubtful: Vec<(u32, Handle, u64)>,
    /// All contexts that ended, with their process and time.
    ends: Vec<(u32, Handle, u64)>,
}

impl Told {
    pub fn new(exact: bool) -> Self {
        // Only lost rings are found by looks: the other findings from silence are switched off.
        let thresholds = Thresholds {
            stuck: NEVER,
            unreaped: NEVER,
            slow_submit: NEVER,
            idle: NEVER,
            growth: 9999,
        };
        Self {
            model: Model::new(Settings {
                thresholds,
                exact_completions: exact,
                every_call: true,
                synchronous: true,
                stops: false,
            }),
            exact,
            now: SECOND,
            views: Vec::new(),
            losses: BTreeMap::new(),
            lose_completion: false,
            spaces: BTreeMap::new(),
            dead: BTreeSet::new(),
            lossy: BTreeMap::new(),
            missed: Vec::new(),
            allowed: BTreeSet::new(),
            required: BTreeSet::new(),
            found: Vec::new(),
            doubtful: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// A context becomes known.
    pub fn view(&mut self, kernel: &Kernel, pid: u32, adopted: bool) {
        let context = &kernel.contexts[self.views.len()];
        self.views.push(View {
            creator: pid,
            pid,
            told: context.order.len(),
            reaped: context.reaped,
            unseen: 0,
            looked: self.now,
            adopted,
            is_taken_for_another: false,
            gone: None,
            is_over: false,
            miscounted: false,
        });
    }

    /// The model gets an event.
    pub fn tell(&mut self, pid: u32, tid: u32, body: Body) {
        let is_short = matches!(
            &body,
            Body::Call(Call { args: Args::Submit { nr, .. }, ret, .. }) if *ret > 0 && ret < nr
        );
        self.model.handle_event(&Event { time: self.now, pid, tid, body });
        // Nothing else than calls that are watched may do the rest.
        for fd in (0..16).filter(|_| is_short) {
            let body = Body::Looked(Looked::Ways { fd, ways: Some(Ways::default()) });
            self.model.handle_event(&Event { time: self.now, pid, tid, body });
        }
        self.judge();
    }

    /// A record of a thread: the model gets its events, unless it is lost. Returns whether it was lost.
    pub fn record(&mut self, space: u64, pid: u32, tid: u32, bodies: Vec<Body>) -> bool {
        let loss = self.losses.entry(tid).or_default();
        if loss.next > 0 {
            loss.next -= 1;
            loss.lost += 1;
            self.lossy.entry(space).or_insert(None);
            return false;
        }
        self.tell_loss(space, pid, tid);
        for body in bodies {
            self.tell(pid, tid, body);
        }
        true
    }

    /// The next record of the thread shows that others are missing.
    pub fn tell_loss(&mut self, space: u64, pid: u32, tid: u32) {
        let records = std::mem::take(&mut self.losses.entry(tid).or_default().lost);
        if records > 0 {
            self.tell(pid, tid, Body::Lost { records });
            self.lossy.entry(space).or_default().get_or_insert(self.now);
        }
    }

    pub fn lose(&mut self, tid: u32, records: u32) {
        self.losses.entry(tid).or_default().next = records;
    }

    /// Notes a finding that may be made.
    pub fn allow(&mut self, name: Name, severity: Severity, pid: u32) {
        self.allowed.insert((name, severity, pid));
    }

    pub fn expect(&mut self, name: Name, severity: Severity, pid: u32) {
        self.allow(name, severity, pid);
        self.required.insert((name, severity, pid));
    }

    /// A request completed: a probe reports it at once, or it is seen at the next look.
    pub fn completed(&mut self, kernel: &mut Kernel, ctx: Ctx, request: usize) {
        if !self.exact {
            return;
        }
        let context = &kernel.contexts[ctx];
        let discarded = self.views[ctx].gone.is_some();
        if !discarded && std::mem::take(&mut self.lose_completion) {
            self.views[ctx].miscounted = true;
            self.lossy.entry(context.space).or_insert(None);
            self.views[ctx].told += 1;
            return;
        }
        let event = Some(context.entry(context.order.len() - 1));
        let completion =
            Completion { ctx: context.handle, event, since: None, until: None, discarded };
        let pid = self.views[ctx].creator;
        if !discarded {
            self.hear(kernel, ctx, request, pid);
        }
        self.tell(pid, pid, Body::Completion(completion));
    }

    /// This process reports the completion of a request.
    fn hear(&mut self, kernel: &mut Kernel, ctx: Ctx, request: usize, pid: u32) {
        let it = &mut kernel.contexts[ctx].requests[request];
        it.told = true;
        self.views[ctx].told += 1;
        if it.failed && it.returned {
            self.expect(Name::FailedCompletion, Severity::Warning, pid);
        }
    }

    /// Number of completions of a context that were not reported.
    pub fn pending(&self, kernel: &Kernel, ctx: Ctx) -> usize {
        kernel.contexts[ctx].order.len() - self.views[ctx].told
    }

    /// Where no probe sees completions: those since the last look.
    fn seen(&mut self, kernel: &mut Kernel, ctx: Ctx, pid: u32) -> Vec<Body> {
        let since = Some(self.views[ctx].looked);
        self.views[ctx].unseen = 0;
        let mut bodies = Vec::new();
        for place in self.views[ctx].told..kernel.contexts[ctx].order.len() {
            let context = &kernel.contexts[ctx];
            let (ctx_handle, event) = (context.handle, Some(context.entry(place)));
            let request = context.order[place];
            self.hear(kernel, ctx, request, pid);
            bodies.push(Body::Completion(Completion {
                ctx: ctx_handle,
                event,
                since,
                until: None,
                discarded: false,
            }));
        }
        bodies
    }

    /// A thread looks at the ring in a call.
    pub fn look(&mut self, kernel: &mut Kernel, ctx: Ctx, (pid, tid): (u32, u32)) -> Ring {
        if !self.exact {
            let space = kernel.contexts[ctx].space;
            let bodies = self.seen(kernel, ctx, pid);
            if !bodies.is_empty() {
                self.record(space, pid, tid, bodies);
            }
            self.views[ctx].looked = self.now;
        }
        kernel.contexts[ctx].ring()
    }

    /// The model gets a look at the ring at this moment.
    pub fn looked(&mut self, kernel: &Kernel, ctx: Ctx) {
        self.views[ctx].reaped = kernel.contexts[ctx].reaped;
    }

    /// The same, when so many completions were not reported that the tail seems to be behind: then the model's count
    /// of reaped completions lacks a whole ring.
    fn looked_behind(&mut self, kernel: &Kernel, ctx: Ctx) {
        let context = &kernel.contexts[ctx];
        let reaped = context.reaped.saturating_sub(context.ring().nr as usize);
        let view = &mut self.views[ctx];
        view.reaped = view.reaped.max(reaped);
    }

    /// io_getevents reaped `count` completions, and the ring could not be read.
    pub fn reaped(&mut self, ctx: Ctx, count: usize) {
        self.views[ctx].reaped += count;
    }

    /// io_destroy returned; `reaped`: how many completions were reaped when it began.
    pub fn destroyed(&mut self, ctx: Ctx, reaped: usize) {
        let view = &mut self.views[ctx];
        view.reaped = view.reaped.max(reaped);
        view.is_over = true;
    }

    /// Reports the end of a context, and notes what must be found with it.
    pub fn gone(&mut self, kernel: &Kernel, ctx: Ctx, how: How) -> Body {
        let context = &kernel.contexts[ctx];
        let view = &mut self.views[ctx];
        let left = context.requests.iter().filter(|it| it.returned && !it.told);
        let (mut writes, mut in_flight) = (0, 0);
        for it in left {
            in_flight += 1;
            writes += u32::from(it.what.opcode == 1);
        }
        let is_early = |it: &Request| it.told && !it.returned;
        let sure = view.adopted || !context.requests.iter().any(is_early);
        let (is_lossy, told) = match self.lossy.get(&context.space) {
            Some(told) => (true, told.is_some()),
            None => (false, false),
        };
        let at_most = how != How::Destroy && !self.exact;
        let pid = view.pid;
        view.gone = Some(how);
        view.is_over = how != How::Destroy;
        let miscounted = view.miscounted;
        if writes > 0 && !at_most {
            let severity = if sure { Severity::Error } else { Severity::Warning };
            self.expect(Name::DiscardedRequests, severity, pid);
        }
        let in_flight = (!miscounted && !told && !self.views[ctx].adopted).then_some(in_flight);
        self.ends.push((pid, context.handle, self.now));
        let View { adopted, is_taken_for_another, .. } = self.views[ctx];
        if is_lossy && in_flight.is_none() && !adopted && !is_taken_for_another {
            self.doubtful.push((pid, context.handle, self.now));
        }
        Body::ContextGone(Gone { ctx: context.handle, how, in_flight, at_most: false })
    }

    pub fn process(&mut self, pid: u32, tid: u32, space: Option<u64>, change: Change) {
        self.tell(pid, tid, process(space, change));
    }

    /// Time passes: half a second at a time, as in a session where little happens.
    pub fn wait(&mut self, kernel: &mut Kernel, steps: u32, destroying: &[(u64, Handle)]) {
        for _ in 0..steps {
            self.now += SECOND / 2;
            if self.model.poll_timeout().is_some_and(|due| due <= self.now) {
                self.model.handle_timeout(self.now);
                self.judge();
            }
            while let Some(question) = self.model.next_question() {
                match question {
                    Question::Ring { pid, ctx } => self.answer(kernel, pid, ctx, destroying),
                    Question::Limit => {
                        let limit = Limit { used: 1, limit: 1, holders: Vec::new() };
                        self.tell(0, 0, Body::Looked(Looked::Limit(limit)));
                    }
                    Question::File { .. }
                    | Question::Descriptor { .. }
                    | Question::Iovecs { .. }
                    | Question::Ways { .. }
                    | Question::Below { .. }
                    | Question::Path { .. }
                    | Question::Threads { .. } => (),
                }
            }
        }
    }

    /// Answers a question as `Conclusions::answer` does.
    fn answer(
        &mut self,
        kernel: &mut Kernel,
        pid: u32,
        handle: Handle,
        destroying: &[(u64, Handle)],
    ) {
        let Some(space) = self.spaces.get(&pid).and_then(|it| it.last()).copied() else { return };
        let is_known = |it: &Handle| self.model.knows(pid, *it);
        let mut mapped = kernel
            .contexts
            .iter()
            .filter(|it| it.space == space && it.is_alive && it.is_mapped)
            .map(|it| it.handle);
        let found = match kernel.find(space, handle) {
            _ if self.dead.contains(&pid) => RingFound::Unknown,
            Some(ctx) => {
                let ring = kernel.contexts[ctx].ring();
                // If there are too many, new completions cannot be told from old ones.
                if self.pending(kernel, ctx) < ring.nr as usize / 2 {
                    for body in self.seen(kernel, ctx, pid) {
                        self.tell(pid, pid, body);
                    }
                    self.views[ctx].looked = self.now;
                }
                if self.pending(kernel, ctx) <= ring.nr as usize / 2 {
                    self.looked(kernel, ctx);
                    self.views[ctx].unseen = self.pending(kernel, ctx);
                } else {
                    self.looked_behind(kernel, ctx);
                    self.views[ctx].unseen = 0;
                }
                RingFound::There(ring)
            }
            None if mapped.any(|it| !is_known(&it)) => RingFound::Unknown,
            None => RingFound::Unmapped,
        };
        let destroying = destroying.contains(&(space, handle));
        let looked = Looked::Ring { ctx: handle, found, destroying, awaited: None };
        self.tell(pid, pid, Body::Looked(looked));
    }
}

pub fn process(space: Option<u64>, change: Change) -> Body {
    let space = space.map(SpaceId);
    let name = b"reference".to_vec();
    Body::Process(Process { name: name.clone(), thread_name: name, started: None, space, change })
}
