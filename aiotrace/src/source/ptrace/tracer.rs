//! The tracer thread. All ptrace requests come from it, and it never waits for the output.
//!
//! ```text
//!  attached:  [entry] ──> entered ──> [exit] ──> left            each [stop] at every system call
//!  launched:  [seccomp] ──> entered ──> [exit] ──> left          at AIO calls only
//!  launched, and the program has a filter of its own: [entry] ──> [seccomp] ──> as above; if [exit]
//!             follows [entry], its filter answered: the call was denied
//! ```

mod begin;
mod end;
mod held;
mod lives;
mod stops;
mod syscalls;
mod trace;
mod turns;
mod wait;
mod watch;

use std::{
    collections::HashMap,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use nix::errno::Errno;

use self::{
    held::{LOOKED_WITHIN, held},
    stops::Crowd,
    turns::Turns,
};
use super::{
    Options, StartError, Target,
    alarm::Alarm,
    calls::Calls,
    faults::Faults,
    memory,
    place::Place,
    processes::Processes,
    records::Records,
    requests::{self, Status, Until, What, option},
    rings::Rings,
    signals,
    sites::Sites,
    tracee::{Held, State, Tracee},
    untraced::{self, Taken},
};
use crate::{
    fault::Rule,
    proc::{self, Blocked},
    source::{
        backlog::Feeder,
        bpf::adopt::Found,
        collector::{End, Signals, Stop},
    },
    stacks::Waits,
};

/// How often the tracer looks for what it may have missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long the tracer waits before it asks threads again that have not stopped.
const PAUSE: Duration = Duration::from_micros(200);

/// What existed when the trace began.
pub struct Begun {
    /// Threads that were inside a call, each with its process.
    pub blocked: Vec<(u32, Blocked)>,
    /// Contexts that existed.
    pub found: Vec<Found>,
}

/// The last message, and the feeder that sends it.
pub struct Last {
    feeder: Feeder,
    end: End,
}

impl Last {
    /// Sends the message when the reader has taken everything before it.
    pub fn say(self) {
        let Self { feeder, mut end } = self;
        feeder.finish(|dropped| {
            end.losses.queue_full = dropped;
            end
        });
    }
}

/// Where the tracer sends its results.
pub struct Told {
    /// Gets what existed when the trace began.
    pub begun: Sender<Result<Begun, StartError>>,
    /// The last message.
    pub last: Sender<Last>,
    /// Gets the status of a launched program.
    pub ended: Sender<i32>,
}

/// What wakes the tracer.
pub struct Wakers {
    /// Signals, among them SIGCHLD when a tracee stops.
    pub signals: Signals,
    /// Somebody asks us to end.
    pub stop: Arc<Stop>,
    /// The time has come for something that is due.
    pub alarm: Alarm,
}

/// The state of the tracer.
struct Tracer {
    options: Options,
    calls: Calls,
    processes: Processes,
    tracees: HashMap<u32, Tracee, foldhash::fast::RandomState>,
    /// New processes that stopped before their parents' stops announced them, and since when they wait.
    early: HashMap<u32, Instant>,
    /// The trace is over, and nothing is recorded any more.
    is_over: bool,
    /// The tracees are being let go.
    is_leaving: bool,
    /// Threads that were inside a call when we attached.
    blocked: Vec<(u32, Blocked)>,
    /// Threads that wait longer than their timeout, because we made them repeat the call.
    stretched: Vec<u32>,
    /// Writes that wrote only a part, perhaps because we stopped their thread.
    cut_short: u64,
    launched: Option<(u32, Sender<i32>)>,
    /// Some thread is held, by a fault or for a look.
    holds: bool,
    /// Up to when all is looked up that there was reason to.
    looked: u64,
    faults: Option<Faults>,
    /// Synchronous calls of some process are watched.
    watches: bool,
    /// When records were handed on last.
    handed_on: Instant,
    /// The thread that stopped last.
    stopped_last: Option<u32>,
    /// Takes the last message.
    last: Sender<Last>,
    place: Place,
    crowd: Crowd,
    turns: Turns,
}

/// Runs the trace.
pub fn run(options: Options, feeder: Feeder, wakers: Wakers, told: Told) {
    let Told { begun, last, ended } = told;
    let mut tracer = Tracer::new(options, feeder, last, ended);
    match tracer.begin(&wakers.stop) {
        Ok(found) => {
            let blocked = std::mem::take(&mut tracer.blocked);
            let _ = begun.send(Ok(Begun { blocked, found }));
        }
        Err(error) => {
            tracer.leave();
            let _ = begun.send(Err(error));
            return;
        }
    }
    tracer.trace(wakers);
}

impl Tracer {
    /// A tracer that has no tracees yet.
    fn new(mut options: Options, feeder: Feeder, last: Sender<Last>, ended: Sender<i32>) -> Self {
        let launched = match options.target {
            Target::Launched { pid, .. } => Some((pid, ended)),
            Target::Running(_) => None,
        };
        let needs_sites = |it: &super::Rules| it.judge.rules().iter().any(Rule::needs_place);
        let needs_sites = options.rules.as_ref().is_some_and(needs_sites);
        let (files, unwound) = (options.files.clone(), options.unwound.clone());
        // While names are read for one process, others may be held in stops.
        let waits = match &options.target {
            Target::Running(pids) if pids.len() > 1 => Waits::AT_A_STOP,
            Target::Running(_) | Target::Launched { .. } => Waits::TO_SHOW,
        };
        let sites = (needs_sites || options.all_stacks).then(|| Sites::new(files, unwound, waits));
        let calls = Calls {
            records: Records::new(feeder),
            rings: Rings::default(),
            all_stacks: options.all_stacks,
            sites,
            needs_sites,
            has_rules: options.rules.is_some(),
        };
        let faults = options.rules.take().map(Faults::new);
        Self {
            options,
            calls,
            processes: Processes::default(),
            tracees: HashMap::default(),
            early: HashMap::new(),
            is_over: false,
            is_leaving: false,
            blocked: Vec::new(),
            stretched: Vec::new(),
            cut_short: 0,
            launched,
            holds: false,
            looked: 0,
            faults,
            watches: false,
            handed_on: Instant::now(),
            stopped_last: None,
            last,
            place: Place::new(),
            crowd: Crowd::default(),
            turns: Turns::new(Instant::now()),
        }
    }

    /// Whether a filter makes the tracees stop at AIO calls.
    fn is_filtered(&self) -> bool {
        matches!(self.options.target, Target::Launched { filtered: true, .. })
    }

    /// Whether children are traced: they inherit the filter, so with one they must be.
    fn traces_children(&self) -> bool {
        self.options.follow || self.is_filtered()
    }

    fn ptrace_options(&self) -> i32 {
        let base = option::SYSCALL_MARKED | option::THREADS | option::EXEC | option::EXIT;
        let base = if self.traces_children() { base | option::CHILDREN } else { base };
        if self.is_filtered() { base | option::SECCOMP | option::DIE_WITH_US } else { base }
    }

    /// Handles the stop of a tracee, or its end.
    fn stopped(&mut self, tid: u32, status: Status) {
        let what = status.what();
        if what == What::Ended {
            return self.ended(tid, status);
        }
        if !self.is_known(tid) && !self.becomes_known(tid) {
            return;
        }
        self.stopped_last = Some(tid);
        memory::forget();
        // An error means that the tracee is dead, and then its end comes next.
        let _ = self.look_at(tid, what);
    }

    fn is_known(&self, tid: u32) -> bool {
        self.tracees.contains_key(&tid)
    }

    /// Adds a thread that was unknown. `false`: it is a process, and its parent's stop has not announced it yet.
    fn becomes_known(&mut self, tid: u32) -> bool {
        // The first thread of a process is the process. Of another thread it has to be found out whose it is.
        let is_process = proc::pidfd_open(tid).is_ok();
        let of = || self.processes.pids().find(|it| proc::has_thread(*it, tid));
        let pid = if is_process { tid } else { of().unwrap_or(tid) };
        if let Some(process) = self.processes.of(pid) {
            let mut tracee = Tracee::new(pid, tid, process.space, process.all_calls);
            tracee.watched = process.watched.is_some();
            tracee.is_fresh = false;
            self.tracees.insert(tid, tracee);
            return true;
        }
        if self.is_leaving {
            let _ = requests::detach(tid, 0);
        } else {
            self.early.insert(tid, Instant::now());
        }
        false
    }

    fn look_at(&mut self, tid: u32, what: What) -> Result<(), Errno> {
        let mut state = State::Stopped(0);
        let taken = self.give_back(tid)?;
        if let Some(tracee) = self.tracees.get_mut(&tid) {
            tracee.at_entry = false;
        }
        match what {
            What::Signal(signal) => {
                self.begin_thread(tid, signal)?;
                self.signalled(tid, signal)?;
                state = State::Stopped(signal);
            }
            What::Trap => self.begin_thread(tid, 0)?,
            What::GroupStop => {
                self.begin_thread(tid, 0)?;
                state = State::GroupStopped;
            }
            What::Syscall | What::Seccomp => {
                if let Some(held) = self.at_call(tid)? {
                    state = held;
                }
            }
            What::New(made) => self.created(tid, made, taken)?,
            What::Exec => self.executes(tid)?,
            What::Exit => {
                self.ends(tid)?;
                // The memory and the descriptors are there as long as the first thread is.
                let pid = self.tracees.get(&tid).map(|it| it.pid);
                if pid == Some(tid) && self.is_to_be_looked_at(tid) {
                    state = held(LOOKED_WITHIN, Held::ForLook);
                }
            }
            What::Ended | What::Other => (),
        }
        self.set_state(tid, state);
        self.go_on(tid);
        Ok(())
    }

    /// The call of clone(2) is over: gives the flag back that was taken from this thread. See [`super::untraced`].
    fn give_back(&mut self, tid: u32) -> Result<Option<Taken>, Errno> {
        let taken = self.tracees.get_mut(&tid).and_then(|it| it.taken.take());
        let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
        taken.map(|it| untraced::give_back(pid, tid, it)).transpose()?;
        Ok(taken)
    }

    fn set_state(&mut self, tid: u32, state: State) {
        self.holds |= matches!(state, State::Held(..));
        if let Some(tracee) = self.tracees.get_mut(&tid) {
            tracee.state = state;
        }
    }

    /// Lets a stopped tracee go on, or detaches from it.
    fn go_on(&mut self, tid: u32) {
        let filtered = self.is_filtered();
        let Some(tracee) = self.tracees.get_mut(&tid) else { return };
        let state = tracee.state;
        // clone(2) may make a process although only threads are to be traced.
        let is_unwanted = || self.processes.of(tracee.pid).is_some_and(|it| it.is_silent);
        if self.is_leaving || (!filtered && is_unwanted()) {
            if let State::Held(_, held) = state {
                self.finish_held(tid, held);
            }
            if self.tracees.get(&tid).is_some_and(|it| it.at_entry) && !self.put_off(tid) {
                return;
            }
            let signal = if let State::Stopped(signal) = state { signal } else { 0 };
            let _ = requests::detach(tid, signal);
            let pid = self.tracees.remove(&tid).map_or(0, |it| it.pid);
            if !self.tracees.values().any(|it| it.pid == pid) {
                self.processes.remove(pid);
            }
            return;
        }
        match state {
            State::Stopped(signal) => {
                tracee.state = State::Running;
                let _ = requests::resume(tid, tracee.until(), signal);
            }
            State::GroupStopped => {
                let _ = requests::listen(tid);
            }
            State::Running | State::Held(..) => (),
        }
    }

    /// Prepares a thread that is stopped where a call begins for being let go. `false`: it goes on to the end of the
    /// call, which comes at once, and is let go there.
    fn put_off(&mut self, tid: u32) -> bool {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return true };
        // An error means that the thread is dead, and then its end comes next.
        let is_ready = signals::put_off(tracee.pid, tid).unwrap_or(true);
        if !is_ready {
            (tracee.at_entry, tracee.state) = (false, State::Running);
            let _ = requests::interrupt(tid);
            let _ = requests::resume(tid, Until::Syscall, 0);
        }
        is_ready
    }

    /// Whether nothing is recorded of this thread.
    fn is_silent(&self, tid: u32) -> bool {
        let pid = self.tracees.get(&tid).map_or(0, |it| it.pid);
        self.is_over || self.processes.of(pid).is_none_or(|it| it.is_silent)
    }
}
