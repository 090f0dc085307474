//! Completions in a play: the kernel writes them, the source sees them, rules change them, and the program reaps them.

use aiotrace_model::{
    event::{Address, Args, Body, Changed, Completion, Effect, Fault as Told, IoEvent, Syscall},
    model::verdict::Cause,
};

use super::{
    plan::Made,
    play::{PAGE, Player, call},
    truth::{Deed, Fault, Job},
};
const EIO: i64 = -5;
const EINTR: i64 = -4;
/// The bytes that a short completion has moved.
const SHORT: i64 = 512;

impl Player<'_> {
    pub fn complete_one(&mut self, which: u8) {
        let open: Vec<usize> = self.kernel.contexts[self.ctx].open().collect();
        if !open.is_empty() {
            self.tick();
            self.complete(open[usize::from(which) % open.len()]);
        }
    }

    pub fn complete(&mut self, request: usize) {
        let what = self.kernel.contexts[self.ctx].requests[request].what;
        let work = self.truth.works[self.accepted[request]];
        let size = self.truth.sizes.get(&work.file).map_or(i64::MAX, |it| *it as i64);
        let most = if what.opcode == 8 { PAGE } else { what.nbytes as i64 };
        let res = if what.opcode == 0 { most.min((size - work.offset).max(0)) } else { most };
        let event = self.kernel.complete(self.ctx, request, res);
        if self.plan.exact {
            self.completed(self.told, res);
            let (ctx, event) = (self.handle(), Some(event));
            self.tell(Body::Completion(Completion::exact(ctx, event)));
            self.told += 1;
        }
    }

    /// The source reports a completion.
    pub fn completed(&mut self, place: usize, res: i64) {
        let job = self.job_of(place);
        self.truth.happens(self.now, job, Deed::Completed(res));
    }

    /// The fault that the next completion gets, if it gets one.
    pub fn judge(&mut self) -> Option<(u32, i64)> {
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
    pub fn look_at_ring(&mut self, reaped: &[usize]) {
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
    pub fn change(&mut self, place: usize) {
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

    pub fn job_of(&self, place: usize) -> Job {
        self.accepted[self.kernel.contexts[self.ctx].order[place]]
    }

    /// Reaps completions, and deals with those that failed.
    pub fn reap(&mut self, most: usize, from_ring: bool) {
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
            self.look_at_ring(&taken);
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
    pub fn receive(&mut self, first: usize) {
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
    pub fn drain(&mut self) {
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
}
