//! Runs a plan on the reference, and reports it to the model as a source does.

use std::collections::{BTreeSet, VecDeque};

use aiotrace_common::{abi, synchronous};
use aiotrace_model::{
    event::{
        Address, Args, Body, Call, Change, Changed, Completion, Effect, Entry, Event, ExitStatus,
        Fault as Told, Gone, Handle, How, IoEvent, Iocb, Looked, Refused, Ring, Synchronous,
        Syscall, Ways,
    },
    model::{Finding, Model, Question, Rules, Settings, Thresholds, Verdict, verdict::Cause},
    trace::{FaultRule, Faults},
};

use super::{
    plan::{Deal, End, Iocbs, Log, Made, Plan, Step},
    truth::{Deed, Fault, Job, Short, Truth, Work},
};
use crate::{
    reference::{Ctx, EAGAIN, Kernel, Wanted},
    told::{SECOND, process},
};

const EIO: i64 = -5;
const EINTR: i64 = -4;
/// The bytes that a short completion has moved.
const SHORT: i64 = 512;
const PAGE: i64 = 4096;
const PID: u32 = 7;
const SPACE: u64 = 70;

/// The fault rules, by number from 1.
const RULES: [&str; 5] = [
    "io_submit:error=EAGAIN",
    "io_submit:accept=1",
    "complete:res=EIO",
    "complete:res=512",
    "io_getevents,io_pgetevents:error=EINTR",
];

/// A request that the program still has to do.
struct Todo {
    /// The step at which the program does it.
    due: usize,
    work: Work,
    /// The iocb that it uses, if it must be this one.
    iocb: Option<u64>,
}

pub struct Player<'a> {
    pub plan: &'a Plan,
    kernel: Kernel,
    ctx: Ctx,
    pub model: Model,
    pub now: u64,
    pub truth: Truth,
    /// The verdicts, each with the time when it came.
    pub verdicts: Vec<(u64, Verdict)>,
    pub findings: Vec<Finding>,
    /// How the process ended; `None`: it has not ended.
    pub end: Option<End>,
    /// The context ended with requests in flight or completions in the ring.
    pub left: bool,
    /// At the end, the process had been silent for long.
    pub hangs: bool,
    /// When a record was lost for the first time.
    pub lost_since: Option<u64>,
    /// Lost records that were not reported yet.
    untold: u64,
    records: u64,
    step: usize,
    works: i64,
    todo: VecDeque<Todo>,
    /// Iocbs that are in flight, or are kept for a request that comes again.
    busy: BTreeSet<u64>,
    next_iocb: u64,
    submits: u64,
    completions: u64,
    reaps: u64,
    deals: usize,
    /// How many completions were reported, and judged by the rules.
    told: usize,
    /// How many completions the program has reaped.
    reaped: usize,
    /// Which completions have the result of a fault, in the order of the ring.
    changed: BTreeSet<usize>,
    looked: u64,
    /// The source watches synchronous calls because of something at this time.
    provoked: u64,
}

impl<'a> Player<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let thresholds = Thresholds {
            stuck: 1000 * SECOND,
            unreaped: 1000 * SECOND,
            slow_submit: 1000 * SECOND,
            idle: 1000 * SECOND,
            growth: 9999,
        };
        let mut model = Model::new(Settings {
            thresholds,
            exact_completions: plan.exact,
            every_call: true,
            synchronous: plan.watches,
        });
        let rule = |text: &str| FaultRule { text: text.to_owned(), mechanism: "oracle".into() };
        let rules = RULES.map(rule).into();
        model.set_rules(Rules::of(Some(&Faults { seed: 1, dry_run: false, rules })));
        let mut kernel = Kernel::default();
        let ctx = kernel.setup(SPACE, 8, |_| false).expect("there is room");
        let mut player = Self {
            plan,
            kernel,
            ctx,
            model,
            now: SECOND,
            truth: Truth::default(),
            verdicts: Vec::new(),
            findings: Vec::new(),
            end: None,
            left: false,
            hangs: false,
            lost_since: None,
            untold: 0,
            records: 0,
            step: 0,
            works: 0,
            todo: VecDeque::new(),
            busy: BTreeSet::new(),
            next_iocb: 0,
            submits: 0,
            completions: 0,
            reaps: 0,
            deals: 0,
            told: 0,
            reaped: 0,
            changed: BTreeSet::new(),
            looked: 0,
            provoked: 0,
        };
        player.tell(process(Some(SPACE), Change::Attached));
        player.tell(process(Some(SPACE), Change::Seen));
        let args = Args::Setup { nr_events: 8, ctxp: Address(8), stored: Some(player.handle()) };
        let entered = player.tick();
        player.tick();
        player.tell(call(entered, args, 0, (None, None), None));
        player
    }

    /// Runs the whole plan.
    pub fn play(&mut self) {
        for (step, what) in self.plan.steps.iter().enumerate() {
            self.step = step;
            self.again();
            if self.is_over() {
                break;
            }
            match what {
                Step::Submit { opcodes, inline, bad, again } => {
                    let batch = self.batch(opcodes, *bad, *again);
                    self.submit(batch, *inline);
                    if matches!(self.plan.iocbs, Iocbs::Stack) {
                        self.drain();
                    }
                }
                Step::Complete(which) => self.complete_one(*which),
                Step::Reap { most, from_ring } => self.reap((*most).into(), *from_ring),
                Step::Wait(seconds) => self.wait(u64::from(*seconds)),
                Step::Log(how) => self.log(*how),
            }
            if self.is_over() {
                break;
            }
        }
        self.finish();
    }

    fn is_over(&self) -> bool {
        self.end.is_some() || self.hangs
    }

    fn handle(&self) -> Handle {
        self.kernel.contexts[self.ctx].handle
    }

    fn ring(&self) -> Ring {
        self.kernel.contexts[self.ctx].ring()
    }

    fn tick(&mut self) -> u64 {
        self.now += 1000;
        self.now
    }

    fn tell(&mut self, body: Body) {
        self.model.handle_event(&Event { time: self.now, pid: PID, tid: PID, body });
        self.listen();
    }

    fn listen(&mut self) {
        let new = std::iter::from_fn(|| self.model.next_verdict());
        self.verdicts.extend(new.map(|it| (self.now, it)));
        self.findings.extend(std::iter::from_fn(|| self.model.next_finding()));
        // Only what decides whether a request is lost gets an answer.
        while let Some(question) = self.model.next_question() {
            if let Question::Ways { pid, fd } = question
                && self.plan.looks
            {
                let body = Body::Looked(Looked::Ways { fd, ways: Some(Ways::default()) });
                self.model.handle_event(&Event { time: self.now, pid, tid: pid, body });
            }
        }
    }

    /// Writes a record of the thread, unless it is lost. Returns whether it was written.
    fn record(&mut self, bodies: Vec<Body>) -> bool {
        self.records += 1;
        if self.plan.losses.iter().any(|it| u64::from(*it) + 1 == self.records) {
            self.untold += 1;
            self.lost_since.get_or_insert(self.now);
            return false;
        }
        self.tell_loss();
        bodies.into_iter().for_each(|it| self.tell(it));
        true
    }

    fn tell_loss(&mut self) {
        let records = std::mem::take(&mut self.untold);
        if records > 0 {
            self.tell(Body::Lost { records });
        }
    }

    /// Time passes, half a second at a time.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += SECOND / 2;
            if self.model.poll_timeout().is_some_and(|due| due <= self.now) {
                self.model.handle_timeout(self.now);
                self.listen();
            }
        }
    }

    /// A record of a log, and its header.
    fn log(&mut self, how: Log) {
        let header = Work { opcode: 1, fd: 3, offset: 0, nbytes: PAGE as u64 };
        let sync = Work { opcode: 2, fd: 3, offset: 0, nbytes: 0 };
        let record = Work { fd: 3, ..self.new_work(1) };
        let calls = match how {
            Log::HeaderFirst => vec![vec![header], vec![record]],
            Log::RecordFirst => vec![vec![record], vec![header]],
            Log::Together => vec![vec![record, header]],
            Log::Synced => vec![vec![record], vec![sync], vec![header], vec![sync]],
        };
        for works in calls {
            let iocbs: Vec<u64> = works.iter().map_while(|_| self.iocb()).collect();
            let batch = works.into_iter().zip(iocbs).map(|(work, iocb)| (work, iocb, false));
            self.submit(batch.collect(), false);
            self.drain();
        }
    }

    /// New works, with iocbs.
    fn batch(&mut self, opcodes: &[u16], bad: bool, again: Option<u8>) -> Vec<(Work, u64, bool)> {
        let mut works: Vec<Work> = Vec::new();
        for (index, opcode) in opcodes.iter().enumerate() {
            let earlier = again.filter(|_| index == 0 && !self.truth.works.is_empty());
            let work = match earlier {
                Some(which) => self.truth.works[usize::from(which) % self.truth.works.len()],
                None => self.new_work(*opcode),
            };
            // If two equal works were in flight at the same time, nobody could tell them apart.
            let is_there = works.contains(&work)
                || self.todo.iter().any(|it| it.work == work)
                || self.is_open(work);
            if !is_there {
                works.push(work);
            }
        }
        let count = works.len();
        let iocbs: Vec<u64> = (0..count).map_while(|_| self.iocb()).collect();
        let is_bad = |index: usize| bad && index + 1 == count;
        let with = works.into_iter().zip(iocbs).enumerate();
        with.map(|(index, (work, iocb))| (work, iocb, is_bad(index))).collect()
    }

    /// Whether the work was submitted and the program has not got its completion.
    fn is_open(&self, work: Work) -> bool {
        let context = &self.kernel.contexts[self.ctx];
        let open = context.open().chain(context.order[self.reaped..].iter().copied());
        let is_it = |it: &Wanted| {
            (it.opcode, it.fd, it.offset, it.nbytes)
                == (work.opcode, work.fd, work.offset, work.nbytes)
        };
        open.into_iter().any(|it| is_it(&context.requests[it].what))
    }

    fn new_work(&mut self, opcode: u16) -> Work {
        self.works += 1;
        let fd = 3 + (self.works % 2) as u32;
        match opcode {
            2 | 3 => Work { opcode, fd, offset: 0, nbytes: 0 },
            8 => Work { opcode, fd, offset: self.works * PAGE, nbytes: 2 },
            _ => Work { opcode, fd, offset: self.works * PAGE, nbytes: PAGE as u64 },
        }
    }

    /// A free iocb; a pool may have none.
    fn iocb(&mut self) -> Option<u64> {
        let most = match self.plan.iocbs {
            Iocbs::Own => u64::MAX,
            Iocbs::Pool(most) => u64::from(most),
            // A batch has as many iocbs as it needs.
            Iocbs::Stack => 64,
        };
        let first = if most == u64::MAX { self.next_iocb } else { 0 };
        let address = |index: u64| 0x1000 + index * 64;
        let free = (first..most).find(|it| !self.busy.contains(&address(*it)))?;
        self.next_iocb = free + 1;
        self.busy.insert(address(free));
        Some(address(free))
    }

    /// Submits requests again whose time has come.
    fn again(&mut self) {
        while let Some(place) = self.todo.iter().position(|it| it.due <= self.step) {
            let Some(todo) = self.todo.remove(place) else { break };
            let Some(iocb) = todo.iocb.or_else(|| self.iocb()) else {
                // No iocb is free, so the request waits.
                self.todo.push_back(Todo { due: self.step + 1, ..todo });
                continue;
            };
            self.submit(vec![(todo.work, iocb, false)], false);
            if matches!(self.plan.iocbs, Iocbs::Stack) {
                self.drain();
            }
            if self.is_over() {
                break;
            }
        }
    }

    /// An io_submit.
    fn submit(&mut self, batch: Vec<(Work, u64, bool)>, inline: bool) {
        if batch.is_empty() {
            return;
        }
        let entered = self.tick();
        self.look(&[]);
        let before = self.ring();
        let are_told = self.record(Vec::new());
        let number = self.submits;
        self.submits += 1;
        let made = self.plan.submits.iter().find(|it| u64::from(it.0) == number).map(|it| it.1);
        let has_room = self.kernel.contexts[self.ctx].room() > 0;
        let made =
            made.filter(|it| *it == Made::Error || batch.len() > 1 && has_room && !batch[0].2);
        let most = match made {
            Some(Made::Error) => 0,
            Some(Made::Short) => 1,
            None => batch.len(),
        };
        let (mut accepted, mut error) = (0, 0);
        let first = self.kernel.contexts[self.ctx].requests.len();
        for (work, address, is_bad) in &batch[..most] {
            let Work { opcode, fd, offset, nbytes } = *work;
            let what = Wanted { address: *address, opcode, fd, offset, nbytes, is_bad: *is_bad };
            match self.kernel.submit_one(self.ctx, what, number) {
                Ok(()) => accepted += 1,
                Err(errno) => {
                    error = errno;
                    break;
                }
            }
        }
        let jobs: Vec<Job> = batch.iter().map(|it| self.truth.job(it.0)).collect();
        self.tick();
        // The program submits these again because of what it knew when it made the call.
        for job in &jobs[..accepted] {
            self.truth.happens(entered, *job, Deed::Accepted);
        }
        if inline {
            (first..first + accepted).for_each(|it| self.complete(it));
        }
        self.look(&[]);
        let time = self.tick();
        let (ret, rule) = match made {
            Some(Made::Error) => (EAGAIN, Some(1)),
            Some(Made::Short) => (accepted as i64, Some(2)),
            None if accepted == 0 => (error, None),
            None => (accepted as i64, None),
        };
        let iocbs: Vec<_> = batch.iter().map(|it| are_told.then(|| iocb(it.0, it.1))).collect();
        let (ctx, nr) = (self.handle(), batch.len() as i64);
        let mut bodies = Vec::new();
        if self.plan.exact && error != 0 {
            let (index, iocb) = (accepted as u64, Some(Address(batch[accepted].1)));
            bodies.push(Body::Refused(Refused { ctx, index, iocb, ret: error }));
        }
        let args = Args::Submit { ctx, nr, iocbpp: Address(16), iocbs, truncated: 0 };
        let (ring, fault) =
            (Some(self.ring()), rule.map(|rule| Told { rule, effect: Effect::Done }));
        self.truth.last = time;
        let rest: Vec<(Job, u64)> =
            jobs[accepted..].iter().zip(&batch[accepted..]).map(|(job, it)| (*job, it.1)).collect();
        let fault_number = fault.map(|_| self.truth.faults.len());
        for (job, _) in &rest {
            self.truth.happens(entered, *job, Deed::Refused(fault_number));
        }
        if !rest.is_empty() {
            self.provoked = time;
        }
        bodies.push(call(entered, args, ret, (ring, Some(before)), fault));
        let is_told = self.record(bodies);
        if fault.is_some() {
            let (cause, jobs) = (Cause::Call(Syscall::Submit), rest.clone());
            self.truth.faults.push(Fault::new(time, (cause, ret), jobs, is_told));
        } else if !rest.is_empty() && accepted > 0 && is_told {
            let jobs = rest.iter().map(|it| it.0).collect();
            self.truth.shorts.push(Short { time, jobs });
        }
        if !rest.is_empty() {
            let rest = rest.into_iter().map(|(job, iocb)| (self.truth.works[job], iocb)).collect();
            self.deal(rest);
        }
    }

    /// What the program does about requests that were refused or failed.
    fn deal(&mut self, rest: Vec<(Work, u64)>) {
        let deal = self.plan.deals[self.deals % self.plan.deals.len()];
        self.deals += 1;
        // The program does not try for ever.
        let deal = if self.deals > 30 { Deal::Drop } else { deal };
        let keeps = matches!(deal, Deal::AtOnce | Deal::OneByOne);
        if !keeps {
            self.busy.retain(|busy| rest.iter().all(|it| it.1 != *busy));
        }
        match deal {
            Deal::AtOnce => {
                let batch = rest.into_iter().map(|(work, iocb)| (work, iocb, false)).collect();
                self.submit(batch, false);
            }
            Deal::OneByOne => {
                for (work, iocb) in rest {
                    if self.is_over() {
                        break;
                    }
                    self.submit(vec![(work, iocb, false)], false);
                }
            }
            Deal::Elsewhere { after } => {
                let due = self.step + usize::from(after);
                self.todo.extend(rest.into_iter().map(|it| Todo { due, work: it.0, iocb: None }));
            }
            Deal::Drop => (),
            Deal::Synchronously { pieces } => {
                for (work, _) in rest {
                    self.synchronously(work, pieces.into(), pieces.into(), true);
                }
            }
            Deal::Halfway => {
                for (work, _) in rest {
                    self.synchronously(work, 2, 1, true);
                }
            }
            Deal::Somewhere => {
                for (work, _) in rest {
                    self.synchronously(work, 1, 1, false);
                }
            }
            Deal::Map => {
                for (work, _) in rest {
                    self.unseen(work, synchronous::Call::Mmap, work.fd, 1);
                }
            }
            Deal::OtherMemory => {
                for (work, _) in rest {
                    self.with_other_memory(work);
                }
            }
            Deal::Exit { status, after } => {
                self.wait(u64::from(after) / 1000);
                self.now += u64::from(after) % 1000 * 1_000_000;
                self.leave(End::Exit(status));
            }
            Deal::Abort => self.leave(End::Signal(6)),
            Deal::Hang => self.hangs = true,
        }
    }

    /// Does a work in a way that nobody sees, after this call.
    fn unseen(&mut self, work: Work, call: synchronous::Call, fd: u32, count: u64) {
        let entered = Some(self.tick());
        self.tick();
        // A mapping is not enough for a sync.
        let is_sync = matches!(work.opcode, 2 | 3);
        let call = if is_sync { synchronous::Call::Msync } else { call };
        let told =
            Synchronous { call, entered, fd, offset: None, memory: None, count, ret: 0x7000_0000 };
        self.tell_synchronous(told);
        let job = self.truth.job(work);
        self.truth.happens(self.now, job, Deed::Perhaps);
    }

    /// Moves other data at the place of a work; nobody sees that it is no fallback.
    fn with_other_memory(&mut self, work: Work) {
        use synchronous::Call;
        if matches!(work.opcode, 2 | 3) {
            return;
        }
        let job = self.truth.job(work);
        let is_write = self.truth.is_write(job);
        let call = if is_write { Call::Pwrite } else { Call::Pread };
        let (length, entered) = (PAGE, Some(self.tick()));
        self.tick();
        let (offset, memory) = (Some(work.offset), Some(Address(0x77)));
        let (count, ret) = (length as u64, length);
        let told = Synchronous { call, entered, fd: work.fd, offset, memory, count, ret };
        self.tell_synchronous(told);
        self.truth.happens(self.now, job, Deed::Perhaps);
    }

    fn tell_synchronous(&mut self, told: Synchronous) {
        let is_watched = match self.model.settled_up_to() {
            None => true,
            Some(time) => time < self.provoked,
        };
        if self.plan.watches && is_watched {
            self.record(vec![Body::Synchronous(told)]);
        }
    }

    /// Does a work, or the first of its pieces, with synchronous calls; `is_seen`: at an offset that the source
    /// knows.
    fn synchronously(&mut self, work: Work, pieces: i64, most: i64, is_seen: bool) {
        use synchronous::Call;
        let job = self.truth.job(work);
        let (syncs, length) = match work.opcode {
            2 => (Some(Call::Fsync), 0),
            3 => (Some(Call::Fdatasync), 0),
            // Two vectors make a page together.
            8 => (None, PAGE),
            _ => (None, work.nbytes as i64),
        };
        let is_write = self.truth.is_write(job);
        let pieces = if syncs.is_some() { 1 } else { pieces };
        for piece in 0..most.min(pieces) {
            let from = length * piece / pieces;
            let size = length * (piece + 1) / pieces - from;
            let call = match (syncs, is_write, is_seen) {
                (Some(call), ..) => call,
                (_, true, true) if work.opcode == 8 => Call::Pwritev,
                (_, true, true) => Call::Pwrite,
                (_, false, true) => Call::Pread,
                (_, true, false) => Call::Write,
                (_, false, false) => Call::Read,
            };
            let entered = Some(self.tick());
            self.tick();
            let offset = (syncs.is_none() && is_seen).then_some(work.offset + from);
            // A piece is one of the two vectors.
            let count = match call.is_vectored() {
                true if pieces == 1 => 2,
                true => 1,
                false => size as u64,
            };
            let memory = syncs.is_none().then(|| Address(memory(work) + from as u64));
            let fd = work.fd;
            let told = Synchronous { call, entered, fd, offset, memory, count, ret: size };
            self.tell_synchronous(told);
        }
        let deed = match (most >= pieces, is_seen || syncs.is_some()) {
            (true, true) => Deed::Done,
            (true, false) => Deed::Perhaps,
            (false, _) => return,
        };
        self.truth.happens(self.now, job, deed);
        if syncs.is_some() {
            self.truth.synced(self.now, work);
        }
    }

    fn complete_one(&mut self, which: u8) {
        let open: Vec<usize> = self.kernel.contexts[self.ctx].open().collect();
        if !open.is_empty() {
            self.tick();
            self.complete(open[usize::from(which) % open.len()]);
        }
    }

    fn complete(&mut self, request: usize) {
        let what = self.kernel.contexts[self.ctx].requests[request].what;
        let res = if what.opcode == 8 { PAGE } else { what.nbytes as i64 };
        let event = self.kernel.complete(self.ctx, request, res);
        if self.plan.exact {
            self.completed(self.told, res);
            let (ctx, event) = (self.handle(), Some(event));
            self.tell(Body::Completion(Completion::exact(ctx, event)));
            self.told += 1;
        }
    }

    /// The source reports a completion.
    fn completed(&mut self, place: usize, res: i64) {
        let job = self.job_of(place);
        self.truth.happens(self.now, job, Deed::Completed(res));
    }

    /// The fault that the next completion gets, if it gets one.
    fn judge(&mut self) -> Option<(u32, i64)> {
        let number = self.completions;
        self.completions += 1;
        let made = self.plan.completions.iter().find(|it| u64::from(it.0) == number)?;
        Some(match made.1 {
            Made::Error => (3, EIO),
            Made::Short => (4, SHORT),
        })
    }

    /// Where completions are seen only in the ring: reports those that are new, which rules may change. `reaped`:
    /// this call has copied these into the program's memory.
    fn look(&mut self, reaped: &[usize]) {
        if self.plan.exact {
            return;
        }
        let (ctx, since) = (self.handle(), Some(self.looked));
        self.looked = self.now;
        let new = self.told..self.kernel.contexts[self.ctx].order.len();
        self.told = new.end;
        let bodies: Vec<Body> = new
            .clone()
            .map(|it| {
                let event = Some(self.kernel.contexts[self.ctx].entry(it));
                Body::Completion(Completion { ctx, event, since, until: None, discarded: false })
            })
            .collect();
        if !bodies.is_empty() {
            self.record(bodies);
        }
        for place in new.clone() {
            self.completed(place, self.kernel.contexts[self.ctx].entry(place).res);
        }
        for place in new {
            // A completion that the program took out of the ring cannot be changed any more.
            if place >= self.reaped || reaped.contains(&place) {
                self.change(place);
            }
        }
    }

    /// Changes a completion, if a rule says so.
    fn change(&mut self, place: usize) {
        let event = self.kernel.contexts[self.ctx].entry(place);
        let Some((rule, res)) = self.judge() else { return };
        if event.res <= res {
            return;
        }
        self.changed.insert(place);
        self.kernel.change(self.ctx, place, res);
        let time = self.tick();
        let job = self.job_of(place);
        self.truth.happens(time, job, Deed::Changed(self.truth.faults.len()));
        self.provoked = time;
        let fault = Told { rule, effect: Effect::Done };
        let changed = Changed { ctx: self.handle(), event, res, fault };
        let is_told = self.record(vec![Body::Changed(changed)]);
        let (cause, jobs) = (Cause::Completion, vec![(job, event.obj)]);
        self.truth.faults.push(Fault::new(time, (cause, res), jobs, is_told));
    }

    fn job_of(&mut self, place: usize) -> Job {
        let context = &self.kernel.contexts[self.ctx];
        let Wanted { opcode, fd, offset, nbytes, .. } = context.requests[context.order[place]].what;
        self.truth.job(Work { opcode, fd, offset, nbytes })
    }

    /// Reaps completions, and deals with those that failed.
    fn reap(&mut self, most: usize, from_ring: bool) {
        let first = self.reaped;
        if from_ring {
            let count = self.kernel.reap(self.ctx, most).len();
            self.reaped += count;
            return self.receive(first);
        }
        let number = self.reaps;
        self.reaps += 1;
        let entered = self.tick();
        for fault in &mut self.truth.faults {
            fault.calls_after += 1;
            fault.next_call.get_or_insert(entered);
        }
        let fails = self.plan.getevents.iter().any(|it| u64::from(*it) == number);
        if !fails {
            self.reaped += self.kernel.reap(self.ctx, most).len();
        }
        let taken: Vec<usize> = (first..self.reaped).collect();
        self.tick();
        if self.plan.exact {
            taken.iter().for_each(|it| self.change(*it));
        } else {
            self.look(&taken);
        }
        let time = self.tick();
        self.truth.last = time;
        let list: Vec<Option<IoEvent>> =
            taken.iter().map(|it| Some(self.kernel.contexts[self.ctx].entry(*it))).collect();
        let indices = (0u32..).zip(&taken);
        let changed =
            indices.filter(|it| self.changed.contains(it.1)).map(|it| it.0).collect::<Vec<_>>();
        let ret = if fails { EINTR } else { list.len() as i64 };
        let args = Args::Getevents {
            syscall: Syscall::Getevents,
            ctx: self.handle(),
            min_nr: 0,
            nr: most as i64,
            events: Address(32),
            timeout: Address(0),
            timeout_value: None,
            sigset: Address(0),
            sigset_value: None,
            list,
            truncated: 0,
            changed,
        };
        let fault = fails.then_some(Told { rule: 5, effect: Effect::Done });
        let is_told = self.record(vec![call(entered, args, ret, (Some(self.ring()), None), fault)]);
        if fails {
            let (cause, jobs) = (Cause::Call(Syscall::Getevents), Vec::new());
            self.truth.faults.push(Fault::new(time, (cause, ret), jobs, is_told));
        }
        self.receive(first);
    }

    /// The program looks at the completions that it has reaped.
    fn receive(&mut self, first: usize) {
        let mut failed = Vec::new();
        for place in first..self.reaped {
            let event = self.kernel.contexts[self.ctx].entry(place);
            let job = self.job_of(place);
            self.busy.remove(&event.obj);
            if self.changed.contains(&place) {
                self.busy.insert(event.obj);
                self.truth.is_given(event.obj, self.now);
                failed.push((self.truth.works[job], event.obj));
            }
        }
        for it in failed {
            if self.is_over() {
                break;
            }
            self.deal(vec![it]);
        }
    }

    /// Waits until nothing is in flight and everything is reaped.
    fn drain(&mut self) {
        for _ in 0..200 {
            if self.is_over() {
                return;
            }
            let open: Vec<usize> = self.kernel.contexts[self.ctx].open().collect();
            let unreaped = self.kernel.contexts[self.ctx].unreaped();
            if open.is_empty() && unreaped == 0 {
                return;
            }
            self.tick();
            open.into_iter().for_each(|it| self.complete(it));
            self.reap(64, false);
        }
        panic!("it never ends");
    }

    /// The end of the program, or of the trace.
    fn finish(&mut self) {
        if self.hangs {
            self.wait(12);
        } else if self.end.is_none() {
            if self.plan.destroys {
                self.drain();
            }
            if !self.is_over() && self.plan.destroys {
                self.destroy();
            }
            if self.hangs {
                self.wait(12);
            } else if self.end.is_none() {
                match self.plan.end {
                    End::Stays => self.wait(1),
                    end => self.leave(end),
                }
            }
        }
        self.tell_loss();
        self.tick();
        self.model.finish(self.now);
        self.listen();
    }

    fn destroy(&mut self) {
        let entered = self.tick();
        self.look(&[]);
        let (ctx, ring) = (self.handle(), self.ring());
        self.leaves();
        self.kernel.kill(self.ctx);
        let gone = self.gone(How::Destroy);
        self.truth.last = self.tick();
        self.record(vec![gone, call(entered, Args::Destroy { ctx }, 0, (Some(ring), None), None)]);
    }

    /// The context ends: whether something is left in it.
    fn leaves(&mut self) {
        let context = &self.kernel.contexts[self.ctx];
        self.left = context.open().next().is_some() || context.unreaped() > 0;
    }

    fn gone(&self, how: How) -> Body {
        let in_flight = self.kernel.contexts[self.ctx].requests.len() - self.told;
        let in_flight = self.lost_since.is_none().then_some(in_flight as u64);
        Body::ContextGone(Gone { ctx: self.handle(), how, in_flight, at_most: false })
    }

    fn leave(&mut self, end: End) {
        self.tick();
        self.tell_loss();
        if self.kernel.contexts[self.ctx].is_alive {
            self.leaves();
            self.kernel.kill(self.ctx);
            let gone = self.gone(if end == End::Exec { How::Exec } else { How::Exit });
            self.tell(gone);
        }
        let exit = |status| process(Some(SPACE), Change::Exit { status });
        self.tell(match end {
            End::Exit(code) => exit(ExitStatus::Code(code.into())),
            End::Signal(number) => exit(ExitStatus::Signal(number.into())),
            End::Exec => process(Some(SPACE + 1), Change::Exec { path: b"other".to_vec() }),
            End::Stays => return,
        });
        self.end = Some(end);
    }
}

/// Where the data of a work is.
fn memory(work: Work) -> u64 {
    0x100_0000 + work.offset as u64
}

fn iocb(work: Work, address: u64) -> Iocb {
    let Work { opcode, fd: fildes, offset, nbytes } = work;
    let buf = memory(work);
    let value = abi::Iocb { opcode, fildes, offset, nbytes, buf, ..Default::default() };
    Iocb { address: Some(Address(address)), value: Some(value), read_late: false }
}

fn call(
    entered: u64,
    args: Args,
    ret: i64,
    (ring, ring_before): (Option<Ring>, Option<Ring>),
    fault: Option<Told>,
) -> Body {
    Body::Call(Call {
        entered: Some(entered),
        entry: Entry::Seen,
        ret,
        args,
        ring,
        ring_before,
        compat: false,
        stack: None,
        fault,
    })
}
