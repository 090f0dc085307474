//! Runs a plan on the reference, and reports it to the model as a source does.

use std::collections::{BTreeSet, VecDeque};

use aiotrace_model::{
    event::{
        Address, Args, Body, Call, Change, Effect, Entry, Fault as Told, Handle, Refused, Ring,
        Syscall,
    },
    model::{Finding, Model, Rules, Settings, Thresholds, Verdict, verdict::Cause},
    trace::{FaultRule, Faults},
};

use super::{
    fate::Does,
    looks::Ears,
    plan::{End, Iocbs, Made, Plan, Step},
    truth::{Deed, Fault, Job, Short, Truth, Work},
    works::iocb,
    world::World,
};
use crate::{
    reference::{Ctx, EAGAIN, Kernel, Wanted},
    told::{SECOND, process},
};

pub const PAGE: i64 = 4096;
pub const PID: u32 = 7;
pub const SPACE: u64 = 70;
/// The other traced process.
pub const OTHER: u32 = 8;
const OTHER_SPACE: u64 = 80;

/// The fault rules, by number from 1.
const RULES: [&str; 5] = [
    "io_submit:error=EAGAIN",
    "io_submit:accept=1",
    "complete:res=EIO",
    "complete:res=512",
    "io_getevents,io_pgetevents:error=EINTR",
];

/// A request that the program still has to do.
pub struct Todo {
    /// The step at which the program does it.
    pub due: usize,
    pub work: Work,
    /// The iocb that it uses, if it must be this one.
    pub iocb: Option<u64>,
}

pub struct Player<'a> {
    pub plan: &'a Plan,
    pub kernel: Kernel,
    pub ctx: Ctx,
    pub world: World,
    pub ears: Ears,
    pub model: Model,
    pub now: u64,
    pub truth: Truth,
    /// The verdicts, each with the time when it came.
    pub verdicts: Vec<(u64, Verdict)>,
    pub findings: Vec<Finding>,
    /// How the process ended; `None`: it has not ended.
    pub end: Option<End>,
    /// When the first of the requests was submitted with which the context ended, in flight or in the ring; `None`: there
    /// were none.
    pub left: Option<u64>,
    /// At the end, the process had been silent for long.
    pub hangs: bool,
    /// When a record was lost for the first time.
    pub lost_since: Option<u64>,
    /// Lost records that were not reported yet.
    pub untold: u64,
    pub records: u64,
    pub step: usize,
    pub works: i64,
    pub todo: VecDeque<Todo>,
    /// Iocbs that are in flight, or are kept for a request that comes again.
    pub busy: BTreeSet<u64>,
    pub next_iocb: u64,
    pub submits: u64,
    pub completions: u64,
    pub reaps: u64,
    pub deals: usize,
    /// How many completions were reported, and judged by the rules.
    pub told: usize,
    /// How many completions the program has reaped.
    pub reaped: usize,
    /// Which completions have the result of a fault, in the order of the ring.
    pub changed: BTreeSet<usize>,
    pub looked: u64,
    /// The source watches synchronous calls because of something at this time.
    pub provoked: u64,
    /// The other descriptor that was used last.
    pub used: u32,
    /// The works of the requests that were accepted.
    pub accepted: Vec<Job>,
    /// When they were submitted.
    pub began: Vec<u64>,
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
            stops: false,
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
            world: World::new(plan.around),
            ears: Ears::default(),
            model,
            now: SECOND,
            truth: Truth::default(),
            verdicts: Vec::new(),
            findings: Vec::new(),
            end: None,
            left: None,
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
            used: 5,
            accepted: Vec::new(),
            began: Vec::new(),
        };
        player.tell(process(Some(SPACE), Change::Attached));
        player.tell(process(Some(SPACE), Change::Seen));
        if plan.around.other {
            player.tell_of(OTHER, OTHER, process(Some(OTHER_SPACE), Change::Seen));
        }
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
                Step::Meanwhile(what) => self.meanwhile(*what, None),
            }
            if self.is_over() {
                break;
            }
        }
        self.finish();
    }

    pub fn is_over(&self) -> bool {
        self.end.is_some() || self.hangs
    }

    pub fn handle(&self) -> Handle {
        self.kernel.contexts[self.ctx].handle
    }

    pub fn ring(&self) -> Ring {
        self.kernel.contexts[self.ctx].ring()
    }

    pub fn tick(&mut self) -> u64 {
        self.now += 1000;
        self.now
    }

    /// Writes a record of the thread, unless it is lost. Returns whether it was written.
    pub fn record(&mut self, bodies: Vec<Body>) -> bool {
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

    pub fn tell_loss(&mut self) {
        let records = std::mem::take(&mut self.untold);
        if records > 0 {
            self.tell(Body::Lost { records });
        }
    }

    /// Time passes, half a second at a time.
    pub fn wait(&mut self, seconds: u64) {
        self.hush();
        for _ in 0..seconds * 2 {
            self.now += SECOND / 2;
            if self.model.poll_timeout().is_some_and(|due| due <= self.now) {
                self.model.handle_timeout(self.now);
                self.is_late();
            }
        }
    }

    /// Submits requests again whose time has come.
    pub fn again(&mut self) {
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
    pub fn submit(&mut self, batch: Vec<(Work, u64, bool)>, inline: bool) {
        if batch.is_empty() {
            return;
        }
        let entered = self.tick();
        self.look_at_ring(&[]);
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
            let Work { opcode, fd, offset, nbytes, .. } = *work;
            let what = Wanted { address: *address, opcode, fd, offset, nbytes, is_bad: *is_bad };
            match self.kernel.submit_one(self.ctx, what, number) {
                Ok(()) => accepted += 1,
                Err(errno) => {
                    error = errno;
                    break;
                }
            }
        }
        // What it reads is there before what it writes.
        batch[..accepted].iter().for_each(|it| self.reads(it.0));
        let resolve = |(work, iocb, is_bad)| (self.world.resolve(work), iocb, is_bad);
        let batch: Vec<_> = batch.into_iter().map(resolve).collect();
        let jobs: Vec<Job> = batch.iter().map(|it| self.truth.job(it.0)).collect();
        self.accepted.extend(&jobs[..accepted]);
        self.began.resize(self.accepted.len(), entered);
        self.tick();
        // The program submits these again because of what it knew when it made the call.
        for job in &jobs[..accepted] {
            self.truth.happens(entered, *job, Deed::Accepted);
        }
        if inline {
            (first..first + accepted).for_each(|it| self.complete(it));
        }
        self.look_at_ring(&[]);
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

    /// A work is done: if it reads, its memory has other data.
    pub fn reads(&mut self, work: Work) {
        if work.does() == Does::Read {
            self.world.refill(work.offset);
        }
    }
}

pub fn call(
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
