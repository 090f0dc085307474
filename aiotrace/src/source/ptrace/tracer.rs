//! The thread that traces. All ptrace requests come from it, and it never waits for the output.
//!
//! ```text
//!  attached:  [entry] ──> entered ──> [exit] ──> left            each [stop] at every system call
//!  launched:  [seccomp] ──> entered ──> [exit] ──> left          at AIO calls only
//!  launched, and the program has a filter of its own: [entry] ──> [seccomp] ──> as above; if [exit]
//!             follows [entry], its filter answered: the call was denied
//! ```

mod lives;
mod stops;
mod syscalls;
mod turns;
mod watch;

use std::{
    collections::HashMap,
    os::fd::AsFd as _,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use aiotrace_common::record::{Lost, Thread};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use self::{
    stops::{Crowd, Unstopped},
    turns::Turns,
};
use super::errands::{SeizeReturns, SharesSpace};
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
    seizing::Seizing,
    signals,
    tracee::{State, Tracee},
    untraced::{self, Taken},
};
use crate::{
    clock::timeout,
    errand::{self, BlockedCall, Errand as _, ThreadState},
    proc::{self, Blocked},
    source::{
        Losses,
        backlog::{Feeder, Message},
        bpf::adopt::{self, Found},
        collector::{Asked, End, Reason, Signals, Stop},
    },
};

/// How long records gather.
const GATHER: Duration = Duration::from_millis(5);
/// A look at what may have been missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long we wait for threads to stop that could.
const PATIENCE: Duration = Duration::from_millis(500);
/// And when we let them go. The kernel lets go of those that have not stopped by then.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
/// A process that begins a program is waited for no longer, as others are stopped meanwhile.
const LONGEST_SEIZE: Duration = Duration::from_secs(1);
/// Until they are asked again.
const PAUSE: Duration = Duration::from_micros(200);

/// What was there at the beginning.
pub struct Begun {
    /// Threads inside a call, and their process.
    pub blocked: Vec<(u32, Blocked)>,
    /// Contexts.
    pub found: Vec<Found>,
}

/// Threads that were seized.
#[derive(Default)]
struct Seized {
    /// Those that are to stop.
    tids: Vec<u32>,
    /// Those that have.
    stopped: Vec<(u32, Status)>,
}

/// What is said at the end, and who says it.
pub struct Last {
    feeder: Feeder,
    end: End,
}

impl Last {
    /// Says it, when the reader has taken what was before.
    pub fn say(self) {
        let Self { feeder, mut end } = self;
        feeder.finish(|dropped| {
            end.losses.queue_full = dropped;
            end
        });
    }
}

/// Who is told what comes of the trace.
pub struct Told {
    /// What was there at the beginning.
    pub begun: Sender<Result<Begun, StartError>>,
    /// The last message.
    pub last: Sender<Last>,
    /// The status of a launched program.
    pub ended: Sender<i32>,
}

/// What wakes the thread.
pub struct Wakers {
    /// Also those of tracees that stop.
    pub signals: Signals,
    /// We are asked to end.
    pub stop: Arc<Stop>,
    /// The time has come for something.
    pub alarm: Alarm,
}

/// The state of the thread.
struct Tracer {
    options: Options,
    calls: Calls,
    processes: Processes,
    tracees: HashMap<u32, Tracee, foldhash::fast::RandomState>,
    /// New processes that stopped before their parent told of them, and since when.
    early: HashMap<u32, Instant>,
    /// Nothing is told any more.
    is_over: bool,
    /// We let go of everybody.
    is_leaving: bool,
    /// Threads that were inside a call when we came.
    blocked: Vec<(u32, Blocked)>,
    /// Threads whose timeout we made longer.
    stretched: Vec<u32>,
    /// Writes that returned with a part, perhaps because we stopped their thread.
    cut_short: u64,
    launched: Option<(u32, Sender<i32>)>,
    /// Some thread is held by a fault.
    holds: bool,
    faults: Option<Faults>,
    /// Synchronous calls of some process are watched.
    watches: bool,
    /// Handed on last.
    handed_on: Instant,
    /// Stopped last.
    stopped_last: Option<u32>,
    /// Says the end.
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
    /// Traces nobody yet.
    fn new(mut options: Options, feeder: Feeder, last: Sender<Last>, ended: Sender<i32>) -> Self {
        let launched = match options.target {
            Target::Launched { pid, .. } => Some((pid, ended)),
            Target::Running(_) => None,
        };
        let submit_stacks = options.submit_stacks;
        let calls = Calls { records: Records::new(feeder), rings: Rings::default(), submit_stacks };
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

    /// Whether tracees stop at AIO calls by a filter.
    fn is_filtered(&self) -> bool {
        matches!(self.options.target, Target::Launched { filtered: true, .. })
    }

    /// Children inherit the filter, so then they must be traced, too.
    fn traces_children(&self) -> bool {
        self.options.follow || self.is_filtered()
    }

    fn ptrace_options(&self) -> i32 {
        let base = option::SYSCALL_MARKED | option::THREADS | option::EXEC | option::EXIT;
        let base = if self.traces_children() { base | option::CHILDREN } else { base };
        if self.is_filtered() { base | option::SECCOMP | option::DIE_WITH_US } else { base }
    }

    /// Seizes everybody. What was there is recorded before anybody goes on.
    fn begin(&mut self, stop: &Stop) -> Result<Vec<Found>, StartError> {
        match self.options.target.clone() {
            Target::Launched { pid, filtered } => {
                let refused = |source| StartError::Refused { pid, source };
                requests::seize(pid, self.ptrace_options()).map_err(refused)?;
                let space = self.processes.add(pid, None, !filtered, false);
                let mut tracee = Tracee::new(pid, pid, space, !filtered);
                // It waits for us, in no call of interest.
                tracee.is_fresh = false;
                self.tracees.insert(pid, tracee);
                if !filtered {
                    requests::interrupt(pid).map_err(refused)?;
                }
                Ok(Vec::new())
            }
            Target::Running(pids) => {
                let mut seized = Seized::default();
                let seizing = Seizing::new().map_err(StartError::Timer)?;
                for pid in &pids {
                    self.seize(*pid, &seizing, stop, &mut seized)?;
                }
                let Seized { tids, mut stopped } = seized;
                stopped.extend(self.await_stops(tids, stop));
                let mut found = adopt::from_proc(|pid| pids.contains(&pid));
                for it in &mut found {
                    it.space = self.processes.of(it.pid).map(|it| it.space);
                    if let (Some(space), Some(ring)) = (it.space, &it.ring) {
                        self.calls.rings.adopted(space, it.handle, ring);
                    }
                }
                for (tid, status) in stopped {
                    self.stopped(tid, status);
                }
                Ok(found)
            }
        }
    }

    /// All threads of a process, also those that appear meanwhile.
    fn seize(
        &mut self,
        pid: u32,
        seizing: &Seizing,
        stop: &Stop,
        seized: &mut Seized,
    ) -> Result<(), StartError> {
        let refused = |source| StartError::Refused { pid, source };
        let us = nix::unistd::gettid().as_raw() as u32;
        if (SeizeReturns { pid }).ask().is_none() {
            return Err(StartError::Hangs(pid));
        }
        let others: Vec<u32> = self.processes.pids().collect();
        let shares = |it: &u32| SharesSpace { pid, other: *it }.ask().flatten() == Some(true);
        let shares = others.into_iter().find(shares);
        let space = self.processes.add(pid, shares, true, false);
        let begun = Instant::now();
        loop {
            let (mut any, mut begins_program) = (false, false);
            for tid in proc::threads(pid) {
                if self.tracees.contains_key(&tid) {
                    continue;
                }
                if stop.is_asked() {
                    return Ok(());
                }
                match seizing.seize(tid, self.ptrace_options()) {
                    Ok(()) => {
                        any = true;
                        self.tracees.insert(tid, Tracee::new(pid, tid, space, true));
                        let _ = requests::interrupt(tid);
                        seized.tids.push(tid);
                    }
                    // It begins a program, and that may wait for threads that we trace.
                    Err(Errno::EINTR) if begun.elapsed() < LONGEST_SEIZE => {
                        (any, begins_program) = (true, true);
                        self.take_stopped(seized);
                        break;
                    }
                    Err(Errno::EINTR) => return Err(StartError::Hangs(pid)),
                    Err(Errno::ESRCH) => (),
                    // Born of one that is seized, or the first one, which has ended.
                    Err(Errno::EPERM) if errand::tracer_of(tid) == Some(us) => (),
                    Err(Errno::EPERM) if !errand::is_alive_thread(pid, tid) => (),
                    Err(errno) => return Err(refused(errno)),
                }
            }
            if begins_program {
                // The threads that it had are gone, and one of them goes on by the id of the first.
                let is_gone = |tid: &u32| errand::tracer_of(*tid) != Some(us);
                let of_it = self.tracees.values().filter(|it| it.pid == pid).map(|it| it.tid);
                let gone: Vec<u32> = of_it.filter(is_gone).collect();
                self.tracees.retain(|tid, _| !gone.contains(tid));
                seized.tids.retain(|tid| !gone.contains(tid));
                seized.stopped.retain(|it| !gone.contains(&it.0));
            }
            if !any {
                break;
            }
        }
        if self.tracees.values().any(|it| it.pid == pid) {
            Ok(())
        } else {
            Err(StartError::Gone(pid))
        }
    }

    /// Of those that were seized: who has stopped or ended by now.
    fn take_stopped(&mut self, seized: &mut Seized) {
        while let Ok(Some((tid, status))) = requests::wait() {
            // What it was before does not matter any more.
            seized.tids.retain(|it| *it != tid);
            seized.stopped.retain(|it| it.0 != tid);
            match status.what() {
                // Whoever begins the program waits for these.
                What::Ended | What::Exit => self.stopped(tid, status),
                _ => seized.stopped.push((tid, status)),
            }
        }
    }

    /// The first stop of each of these threads. Those that do not stop in time do so later.
    fn await_stops(&mut self, tids: Vec<u32>, stop: &Stop) -> Vec<(u32, Status)> {
        let mut stopped = Vec::with_capacity(tids.len());
        let patience = self.options.duration.map_or(PATIENCE, |it| it.min(PATIENCE));
        let mut unstopped = Unstopped::new(tids, patience, Instant::now());
        loop {
            let any = unstopped.round(Instant::now(), |tid| match requests::wait_for(tid) {
                Ok(Some(status)) => {
                    stopped.push((tid, status));
                    true
                }
                Ok(None) => false,
                Err(_) => true,
            });
            let is_over = unstopped.is_over(Instant::now(), |tid| self.cannot_stop(*tid));
            if is_over || stop.is_asked() {
                break;
            }
            if !any {
                std::thread::sleep(PAUSE);
            }
        }
        self.let_be(&unstopped.left().collect::<Vec<_>>());
        stopped
    }

    /// It waits for something in the kernel that no signal interrupts, or has ended.
    fn cannot_stop(&self, tid: u32) -> bool {
        let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
        // Of one that nobody answers for it is not known.
        matches!(ThreadState { pid, tid }.ask(), Some(None | Some(b'D' | b'Z' | b'X')))
    }

    /// These threads have not stopped: they may be in a call of interest.
    fn let_be(&mut self, tids: &[u32]) {
        let mut count = 0;
        for tid in tids {
            let Some(pid) = self.tracees.get(tid).map(|it| it.pid) else { continue };
            count += u32::from(errand::is_alive_thread(pid, *tid));
            self.blocked.extend(BlockedCall { pid, tid: *tid }.ask().flatten().map(|it| (pid, it)));
        }
        if count > 0 {
            let text = format!(
                "threads of the target that have not stopped yet (they wait for a disk, for a child of vfork or \
                 for a processor), and are traced from the moment when they do: {count}"
            );
            self.calls.records.say(Message::Note(text));
        }
    }

    fn trace(mut self, wakers: Wakers) {
        let Wakers { mut signals, stop, mut alarm } = wakers;
        errand::all_are_urgent();
        let start = Instant::now();
        let mut told = Losses::default();
        let mut looked = start;
        let reason = 'trace: loop {
            // First: whoever stops after that, sends another one.
            while let Some(asked) = signals.take() {
                if asked == Asked::Report {
                    self.calls.records.hand_on();
                    self.calls.records.say(Message::Report(self.losses()));
                }
            }
            let began = Instant::now();
            // There may be more, and nobody will wake us for them: signals of several are one.
            let mut has_more = true;
            while has_more && began.elapsed() < GATHER {
                match self.next_stop() {
                    Ok(Some((tid, status))) => {
                        self.stopped(tid, status);
                        // A single one wakes us by itself when it stops again.
                        has_more = !self.is_alone() || !self.turns.are_over();
                    }
                    Ok(None) => has_more = false,
                    Err(_) => break 'trace Reason::TargetsGone,
                }
            }
            let now = Instant::now();
            self.release_held(now);
            self.adopt_orphans(now);
            self.unwatch(stop.settled());
            if self.processes.is_over() && self.early.is_empty() {
                break Reason::TargetsGone;
            }
            if let Some(reason) = stop.reason() {
                break reason;
            }
            if looked.elapsed() > LOOK_AGAIN {
                looked = now;
                let losses = self.losses();
                if losses != told && self.calls.records.say(Message::Lost(losses)) {
                    told = losses;
                }
            }
            let mut wait = if has_more { Duration::ZERO } else { LOOK_AGAIN };
            if let Some(duration) = self.options.duration {
                let left = duration.saturating_sub(start.elapsed());
                if left.is_zero() {
                    break Reason::TimeOver;
                }
                wait = wait.min(left);
            }
            if self.calls.records.waits {
                let left = GATHER.saturating_sub(self.handed_on.elapsed());
                if left.is_zero() {
                    self.calls.records.hand_on();
                    self.handed_on = now;
                    if let Some(tid) = self.stopped_last.take() {
                        self.place.follow(tid);
                    }
                }
                // What the reader has no time for now waits as long again.
                wait = wait.min(if left.is_zero() { GATHER } else { left });
            }
            if let Some(due) = self.next_due().into_iter().chain(self.next_orphan()).min() {
                wait = wait.min(due.saturating_duration_since(now));
            }
            let is_set = !wait.is_zero() && alarm.set(now, wait).is_ok();
            let mut fds = [signals.as_fd(), stop.as_fd(), alarm.as_fd()]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let _ = poll(&mut fds, if is_set { PollTimeout::NONE } else { timeout(wait) });
        };
        stop.over();
        let attached = start.elapsed();
        let in_calls: Vec<Thread> = self.tracees.values().filter_map(Tracee::in_call).collect();
        self.is_over = true;
        if let Some(uncounted @ 1..) = self.faults.as_ref().map(Faults::uncounted) {
            let text =
                format!("{uncounted} calls and completions had no fault: too many to be counted");
            self.calls.records.say(Message::Note(text));
        }
        let losses = self.losses();
        let end = End { reason, losses, in_calls, attached, runs: None, counted: None };
        if self.is_filtered() {
            let left = self.processes.pids().count();
            if reason == Reason::TargetsGone && left > 0 {
                let text = format!(
                    "{left} other processes that the program started end with aiotrace (-f traces them, \
                     --no-seccomp lets them live)"
                );
                self.calls.records.say(Message::Note(text));
            }
            self.end(end);
            self.keep(&mut signals);
        } else {
            self.leave();
            self.tell_cut_short();
            self.end(end);
        }
    }

    fn tell_cut_short(&mut self) {
        let text = match self.cut_short {
            0 => return,
            1 => "a write(2) or send(2) wrote a part only when its thread was stopped (attach or detach by ptrace), \
                  perhaps because of that; as after a signal, the rest is for the program to write"
                .to_owned(),
            count => format!(
                "{count} calls of write(2) or send(2) wrote a part only when their threads were stopped (attach or \
                 detach by ptrace), perhaps because of that; as after a signal, the rest is for the program to write"
            ),
        };
        self.calls.records.say(Message::Note(text));
    }

    fn losses(&self) -> Losses {
        let mut losses = Losses { queue_full: self.calls.records.dropped(), ..Losses::default() };
        losses.probes[Lost::NoContextSlot as usize] = self.calls.rings.forgotten;
        losses
    }

    /// The last message. Another thread waits until the reader takes it: see [`Self::leave`].
    fn end(&mut self, end: End) {
        if let Some(feeder) = self.calls.records.take() {
            let _ = self.last.send(Last { feeder, end });
        }
    }

    /// Traces on without telling anything: the filter needs somebody who answers.
    fn keep(&mut self, signals: &mut Signals) {
        loop {
            while signals.take().is_some() {}
            loop {
                match self.next_stop() {
                    Ok(Some((tid, status))) => self.stopped(tid, status),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            let now = Instant::now();
            self.release_held(now);
            self.adopt_orphans(now);
            let due = self.next_due().into_iter().chain(self.next_orphan()).min();
            let due = due.map(|it| it.saturating_duration_since(now));
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout(due.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)));
        }
    }

    /// Lets go of all tracees. Those that are in a call are not interrupted: the kernel lets go of them when this
    /// thread ends, and they do not notice. (Whoever comes out of its call before that is stopped where it ends, and
    /// goes on from there.) So nothing may be waited for after this.
    fn leave(&mut self) {
        self.is_leaving = true;
        while let Some((tid, status)) = self.turns.next() {
            self.stopped(tid, status);
        }
        let start = Instant::now();
        // Of a fault something may be left to do where the call ends.
        let is_in_call = |it: &&Tracee| {
            let has_fault = it.call.as_ref().is_some_and(|it| it.verdict.is_some());
            it.state == State::Running && it.at_entry && !has_fault
        };
        let others = self.tracees.values().filter(|it| !is_in_call(it));
        let tids: Vec<u32> = others.map(|it| it.tid).collect();
        for tid in tids.iter().copied() {
            let Some(tracee) = self.tracees.get(&tid) else { continue };
            match tracee.state {
                State::Running | State::GroupStopped => {
                    let _ = requests::interrupt(tid);
                }
                State::Stopped(_) | State::Held(..) => self.go_on(tid),
            }
        }
        for tid in std::mem::take(&mut self.early).into_keys() {
            let _ = requests::detach(tid, 0);
        }
        let mut unstopped = Unstopped::new(tids, LAST_PATIENCE, start);
        loop {
            let any = unstopped.round(Instant::now(), |tid| {
                if let Ok(Some(status)) = requests::wait_for(tid) {
                    self.stopped(tid, status);
                }
                !self.is_known(tid)
            });
            if unstopped.is_over(Instant::now(), |tid| self.cannot_stop(*tid)) {
                break;
            }
            // Those that are new.
            if !any {
                match requests::wait() {
                    Ok(Some((tid, status))) => self.stopped(tid, status),
                    Ok(None) => std::thread::sleep(PAUSE),
                    Err(_) => break,
                }
            }
        }
    }

    /// Whose turn it is.
    ///
    /// # Errors
    /// There is no tracee.
    fn next_stop(&mut self) -> Result<Option<(u32, Status)>, Errno> {
        let now = Instant::now();
        if self.turns.want_more(now) {
            let asked = self.take_stops();
            self.turns.have_asked(now, Instant::now());
            // Whoever is left to be looked at has ended.
            if self.turns.are_over() {
                asked?;
            }
        }
        Ok(self.turns.next())
    }

    /// Takes the stops that there are from the kernel.
    fn take_stops(&mut self) -> Result<(), Errno> {
        while let Some((tid, status)) = requests::wait()? {
            self.takes_turn(tid, status);
            if self.is_alone() {
                break;
            }
            self.ask_each();
        }
        Ok(())
    }

    fn is_alone(&self) -> bool {
        self.tracees.len() + self.early.len() == 1
    }

    /// One of many threads stopped: others may have, too.
    fn ask_each(&mut self) {
        if !self.crowd.is_to_be_asked(self.tracees.len()) {
            return;
        }
        let runs = |it: &&Tracee| it.state == State::Running;
        let tids: Vec<u32> = self.tracees.values().filter(runs).map(|it| it.tid).collect();
        let mut stopped = 0;
        for tid in &tids {
            if let Ok(Some(status)) = requests::wait_for(*tid) {
                stopped += 1;
                self.takes_turn(*tid, status);
            }
        }
        self.crowd.had(stopped, tids.len());
    }

    /// A tracee stopped, or ended: it is looked at when it is the turn of its process.
    fn takes_turn(&mut self, tid: u32, status: Status) {
        // The end of one that nobody has told of is nothing to wait for.
        if self.is_known(tid) || (status.what() != What::Ended && self.becomes_known(tid)) {
            let pid = self.tracees.get(&tid).map_or(tid, |it| it.pid);
            self.turns.add(pid, tid, status);
        } else if status.what() == What::Ended {
            self.ended(tid, status);
        }
    }

    /// A tracee stopped, or ended.
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
        // An error means that it is dead, which is told by its end.
        let _ = self.look_at(tid, what);
    }

    fn is_known(&self, tid: u32) -> bool {
        self.tracees.contains_key(&tid)
    }

    /// A thread of which we did not know. `false`: a process, and its parent has not told of it yet.
    fn becomes_known(&mut self, tid: u32) -> bool {
        let of = self.processes.pids().find(|it| proc::has_thread(*it, tid));
        let pid = of.unwrap_or(tid);
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
            What::Exit => self.ends(tid)?,
            What::Ended | What::Other => (),
        }
        self.set_state(tid, state);
        self.go_on(tid);
        Ok(())
    }

    /// The child is made, or was not: whoever lacks the flag for that has it again. See [`super::untraced`].
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

    /// Lets a stopped tracee go on, or go.
    fn go_on(&mut self, tid: u32) {
        let filtered = self.is_filtered();
        let Some(tracee) = self.tracees.get_mut(&tid) else { return };
        let state = tracee.state;
        // clone(2) may make a process that nobody asked for.
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

    /// Makes a thread ready to be let go where a call begins. `false`: it goes on to where the call ends, which is at
    /// once, and is let go there.
    fn put_off(&mut self, tid: u32) -> bool {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return true };
        // Dead: that is told next.
        let is_ready = signals::put_off(tracee.pid, tid).unwrap_or(true);
        if !is_ready {
            (tracee.at_entry, tracee.state) = (false, State::Running);
            let _ = requests::interrupt(tid);
            let _ = requests::resume(tid, Until::Syscall, 0);
        }
        is_ready
    }

    /// Nothing is told of it.
    fn is_silent(&self, tid: u32) -> bool {
        let pid = self.tracees.get(&tid).map_or(0, |it| it.pid);
        self.is_over || self.processes.of(pid).is_none_or(|it| it.is_silent)
    }
}
