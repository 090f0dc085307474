//! Random programs: what they call, in which thread, and when the calls return. A program without defects resubmits
//! the rest of short submits, has nothing in flight at the end of a context, and so on. A program with defects makes
//! mistakes now and then, and the findings that must follow are noted.

mod calls;
mod op;
mod program;

use aiotrace_common::abi;
use aiotrace_model::{
    event::{
        Address, Adopted, Args, Body, Call, Change, Entry, ExitStatus, Gone, Handle, How, Iocb,
        Moved, Refused, Ring, Syscall,
    },
    model::{Name, Severity},
};
pub use op::{Op, op};

use crate::{
    reference::{Context, Ctx, EAGAIN, EINVAL, Kernel, POLL, PREAD, Wanted},
    told::{self, Told},
};

const EINPROGRESS: i64 = -115;
const EIO: i64 = -5;

/// What the programs may do, and what the source sees.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub exact: bool,
    pub faults: bool,
    pub losses: bool,
}

struct Process {
    pid: u32,
    space: u64,
    threads: Vec<Thread>,
    /// The process shares the address space of its parent.
    is_guest: bool,
    /// The source has reported its address space.
    is_known: bool,
}

struct Thread {
    tid: u32,
    /// The thread has made an AIO call.
    is_seen: bool,
    call: Option<InCall>,
}

/// A call that has not returned.
enum InCall {
    Submit {
        ctx: Ctx,
        entered: u64,
        wanted: Vec<Wanted>,
        accepted: usize,
        /// Why the next iocb was refused; 0: it was not.
        error: i64,
        call: u64,
        ring: Ring,
        /// The record of the iocbs was not lost.
        known: bool,
    },
    Getevents {
        ctx: Ctx,
        entered: u64,
        most: usize,
        got: usize,
        unread: bool,
    },
    Destroy {
        ctx: Ctx,
        entered: u64,
        ring: Ring,
        /// How many completions were reaped when the call was entered.
        reaped: usize,
    },
}

impl InCall {
    fn ctx(&self) -> Ctx {
        match self {
            Self::Submit { ctx, .. } | Self::Getevents { ctx, .. } | Self::Destroy { ctx, .. } => {
                *ctx
            }
        }
    }
}

/// A request that io_submit did not accept.
struct Rest {
    space: u64,
    pid: u32,
    ctx: Ctx,
    what: Wanted,
    /// Nobody will submit it again.
    is_dropped: bool,
}

pub struct World {
    rules: Rules,
    pub kernel: Kernel,
    pub told: Told,
    processes: Vec<Process>,
    rest: Vec<Rest>,
    /// Address spaces whose files other processes had a copy of, or used.
    forked: std::collections::BTreeSet<u64>,
    destroyed: Vec<(u64, Handle)>,
    numbers: u64,
}

/// A process and one of its threads, by their indices.
type Who = (usize, usize);

fn pick<T: Copy>(list: &[T], which: u8) -> Option<T> {
    (!list.is_empty()).then(|| list[which as usize % list.len()])
}

impl World {
    /// Two processes that exist at the attach, the first with a context in use.
    pub fn new(rules: Rules) -> Self {
        let mut world = Self {
            rules,
            kernel: Kernel::default(),
            told: Told::new(rules.exact),
            processes: Vec::new(),
            rest: Vec::new(),
            forked: Default::default(),
            destroyed: Vec::new(),
            numbers: 0,
        };
        for _ in 0..2 {
            let (pid, space) = (world.number() as u32, world.number() + 1_000_000);
            world.process(pid, space, false, false);
            world.told.process(pid, pid, None, Change::Attached);
        }
        let Process { pid, space, .. } = world.processes[0];
        let ctx = world.kernel.setup(space, 6, |_| false).expect("there is room");
        for _ in 0..5 {
            let what = world.wanted(space, PREAD);
            world.kernel.submit_one(ctx, what, 0).expect("there is room");
        }
        for request in [3, 0, 1] {
            world.kernel.complete(ctx, request, 512);
        }
        world.kernel.reap(ctx, 1);
        world.told.view(&world.kernel, pid, true);
        let context = &world.kernel.contexts[ctx];
        let (handle, ring, charge) = (context.handle, Some(context.ring()), Some(context.asked));
        let adopted = Adopted { ctx: handle, ring, charge, in_flight: None };
        world.told.tell(pid, pid, Body::ContextAdopted(adopted));
        world
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn process(&mut self, pid: u32, space: u64, is_guest: bool, is_known: bool) {
        let thread = Thread { tid: pid, is_seen: false, call: None };
        self.processes.push(Process { pid, space, threads: vec![thread], is_guest, is_known });
        self.told.spaces.insert(pid, vec![space]);
    }

    pub fn step(&mut self, op: &Op) {
        self.told.now += 1000;
        self.act(op);
        self.told.compare(&self.kernel);
    }

    fn act(&mut self, op: &Op) -> Option<()> {
        let Rules { faults, losses, exact } = self.rules;
        match *op {
            Op::Setup { thread, asked } => self.setup(self.idle(thread)?, u32::from(asked)),
            Op::Submit { thread, ctx, ref opcodes, twice, bad, waits } => {
                let who = self.idle(thread)?;
                let ctx = self.context(self.space(who), ctx)?;
                let wanted = self.batch(ctx, opcodes, twice, bad);
                self.submit(who, ctx, wanted);
                if !waits {
                    self.finish(who);
                }
            }
            Op::Getevents { thread, ctx, most, waits, unread } => {
                let who = self.idle(thread)?;
                let ctx = self.context(self.space(who), ctx)?;
                self.getevents(who, ctx, usize::from(most % 16), unread && exact && !waits);
                if !waits {
                    self.finish(who);
                }
            }
            Op::Destroy { thread, ctx, waits } => {
                let who = self.idle(thread)?;
                let ctx = self.context(self.space(who), ctx)?;
                if faults || self.is_quiet(ctx) {
                    self.destroy(who, ctx);
                    if !waits {
                        self.finish(who);
                    }
                }
            }
            Op::Cancel { thread, ctx, which } => {
                let who = self.idle(thread)?;
                let ctx = self.context(self.space(who), ctx)?;
                let open: Vec<_> = self.kernel.contexts[ctx].open().collect();
                self.cancel(who, ctx, pick(&open, which)?);
            }
            Op::Progress { thread, most } => self.progress(self.busy(thread)?, most.into()),
            Op::Return { thread } => {
                self.finish(self.busy(thread)?);
            }
            Op::Complete { ctx, which, fails } => {
                let all: Vec<_> = (0..self.kernel.contexts.len())
                    .filter(|it| self.kernel.contexts[*it].in_flight() > 0)
                    .collect();
                let ctx = pick(&all, ctx)?;
                let open: Vec<_> = self.kernel.contexts[ctx].open().collect();
                let request = pick(&open, which)?;
                // A poll that fails may have been cancelled, and then it is no failure.
                let is_poll = self.kernel.contexts[ctx].requests[request].what.opcode == POLL;
                self.complete(ctx, request, fails && faults && !is_poll);
            }
            Op::Reap { ctx, most } => {
                let all: Vec<_> = (0..self.kernel.contexts.len())
                    .filter(|it| self.is_usable(*it) && self.kernel.contexts[*it].unreaped() > 0)
                    .collect();
                self.kernel.reap(pick(&all, ctx)?, most.into());
            }
            Op::Move { thread, ctx } => {
                let who = self.idle(thread)?;
                let ctx = self.context(self.space(who), ctx)?;
                self.remap(who, ctx)?;
            }
            Op::Thread { process } => {
                let tid = self.number() as u32;
                let process = process as usize % self.processes.len().max(1);
                let threads = &mut self.processes.get_mut(process)?.threads;
                threads.push(Thread { tid, is_seen: false, call: None });
            }
            Op::Fork { process, shares } => {
                let process = process as usize % self.processes.len().max(1);
                self.processes.get(process)?;
                if shares {
                    // What is known of a child before its parent is known is not tested here.
                    self.seen((process, 0));
                    self.processes.get(process).filter(|it| it.is_known)?;
                }
                let Process { pid, space, .. } = self.processes[process];
                let child = self.number() as u32;
                self.forked.insert(space);
                let space = if shares { space } else { self.number() + 1_000_000 };
                self.process(child, space, shares, true);
                let change = Change::Fork { child, followed: true };
                self.told.process(pid, pid, Some(space), change);
            }
            Op::Exec { process, clean } => {
                let process = process as usize % self.processes.len().max(1);
                self.leave(process, clean || !faults, None, false)?;
            }
            Op::Exit { process, clean, killed, gone_later } => {
                let process = process as usize % self.processes.len().max(1);
                let status = if killed { ExitStatus::Signal(9) } else { ExitStatus::Code(0) };
                self.leave(process, clean || !faults, Some(status), gone_later)?;
            }
            Op::Wait { steps } => self.wait(steps.into()),
            Op::Unmap { ctx } if faults => {
                let all: Vec<_> = (0..self.kernel.contexts.len())
                    .filter(|it| self.is_usable(*it) && self.kernel.contexts[*it].in_flight() == 0)
                    .filter(|it| self.kernel.contexts[*it].users == 0)
                    .collect();
                let ctx = pick(&all, ctx)?;
                self.kernel.unmap(ctx);
                let leak = (Name::ContextLeak, Severity::Error, self.told.views[ctx].pid);
                self.told.allowed.insert(leak);
            }
            Op::UseAfterDestroy { thread, which } if faults => {
                let who = self.idle(thread)?;
                self.use_after_destroy(who, which)?;
            }
            Op::ReuseInFlight { thread, ctx, which } if faults => {
                let who = self.idle(thread)?;
                let ctx = self.context(self.space(who), ctx)?;
                self.reuse_in_flight(who, ctx, which)?;
            }
            Op::DropRest { process } if faults => {
                let process = process as usize % self.processes.len().max(1);
                let space = self.processes.get(process)?.space;
                for it in self.rest.iter_mut().filter(|it| it.space == space) {
                    it.is_dropped = true;
                }
            }
            Op::Lose { thread, records } if losses => {
                let all: Vec<_> = self.threads(|_| true);
                let (process, thread) = pick(&all, thread)?;
                let tid = self.processes[process].threads[thread].tid;
                self.told.lose(tid, records.into());
            }
            Op::LoseCompletion if losses => self.told.lose_completion = true,
            _ => (),
        }
        Some(())
    }

    /// All calls return, all losses become known, and the trace is over.
    pub fn end(mut self) {
        for who in self.threads(|it| it.call.is_some()) {
            self.finish(who);
        }
        for who in self.threads(|it| it.call.is_some()) {
            self.finish(who);
        }
        self.told.compare(&self.kernel);
        self.wait(100);
        for (ctx, context) in self.kernel.contexts.iter().enumerate() {
            let pid = self.told.views[ctx].pid;
            // Only the process that used the context last is looked at.
            if context.is_alive && !context.is_mapped && !self.told.dead.contains(&pid) {
                self.told.required.insert((Name::ContextLeak, Severity::Error, pid));
            }
        }
        self.told.compare(&self.kernel);
        self.told.finish();
    }

    fn wait(&mut self, steps: u32) {
        let destroying: Vec<_> = self
            .processes
            .iter()
            .flat_map(|it| &it.threads)
            .filter_map(|it| match it.call {
                Some(InCall::Destroy { ctx, .. }) => Some(&self.kernel.contexts[ctx]),
                _ => None,
            })
            .map(|it| (it.space, it.handle))
            .collect();
        self.told.wait(&mut self.kernel, steps, &destroying);
    }

    fn threads(&self, is: impl Fn(&Thread) -> bool) -> Vec<Who> {
        let all = self.processes.iter().enumerate();
        all.flat_map(|(process, it)| {
            let threads = it.threads.iter().enumerate().filter(|it| is(it.1));
            threads.map(move |(thread, _)| (process, thread)).collect::<Vec<_>>()
        })
        .collect()
    }

    fn idle(&self, which: u8) -> Option<Who> {
        pick(&self.threads(|it| it.call.is_none()), which)
    }

    fn busy(&self, which: u8) -> Option<Who> {
        pick(&self.threads(|it| it.call.is_some()), which)
    }

    fn space(&self, (process, _): Who) -> u64 {
        self.processes[process].space
    }

    fn ids(&self, (process, thread): Who) -> (u32, u32) {
        (self.processes[process].pid, self.processes[process].threads[thread].tid)
    }

    fn is_usable(&self, ctx: Ctx) -> bool {
        self.kernel.contexts[ctx].is_alive && self.kernel.contexts[ctx].is_mapped
    }

    /// A context that the process can use.
    fn context(&self, space: u64, which: u8) -> Option<Ctx> {
        let all: Vec<_> = (0..self.kernel.contexts.len())
            .filter(|it| self.kernel.contexts[*it].space == space && self.is_usable(*it))
            .collect();
        pick(&all, which)
    }
}
