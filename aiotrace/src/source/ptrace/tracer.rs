//! The thread that traces. All ptrace requests come from it, and it never waits for the output.
//!
//! ```text
//!  attached:  [entry] ──> entered ──> [exit] ──> left            each [stop] at every system call
//!  launched:  [seccomp] ──> entered ──> [exit] ──> left          at AIO calls only
//!  launched, and the program has a filter of its own: [entry] ──> [seccomp] ──> as above; if [exit]
//!             follows [entry], its filter answered: the call was denied
//! ```

use std::{
    collections::HashMap,
    os::fd::AsFd as _,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use aiotrace_common::{
    abi::{Abi, Syscall, from_i386},
    record::{Lost, Thread, flag},
};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};

use super::{
    Options, StartError, Target,
    calls::{Calls, Left},
    faults::{self, Faults, Goes, Reaped},
    processes::{self, Processes},
    records::Records,
    requests::{self, I386, Made, Status, What, option},
    rings::{New, Rings},
    seccomp, signals,
    tracee::{Again, Held, InCall, Pending, State, Tracee},
};
use crate::{
    output::clock::monotonic,
    process::{self, Blocked},
    source::{
        Losses,
        backlog::{Feeder, Message},
        bpf::adopt::{self, Found},
        collector::{Asked, End, Reason, Signals, Stop, timeout},
    },
};

/// How long records gather.
const GATHER: Duration = Duration::from_millis(5);
/// A look at what may have been missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long we wait for threads to stop: one that waits for a disk cannot.
const PATIENCE: Duration = Duration::from_millis(500);
/// And when we let them go. The kernel lets go of those that have not stopped by then.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// What was there at the beginning.
pub struct Begun {
    /// Threads inside a call, and their process.
    pub blocked: Vec<(u32, Blocked)>,
    /// Contexts.
    pub found: Vec<Found>,
}

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
    launched: Option<(u32, Sender<i32>)>,
    /// Some thread is held by a fault.
    holds: bool,
    faults: Option<Faults>,
    /// Handed on last.
    handed_on: Instant,
}

/// Runs the trace.
pub fn run(
    mut options: Options,
    feeder: Feeder,
    signals: Signals,
    stop: Arc<Stop>,
    told: &Sender<Result<Begun, StartError>>,
    ended: Sender<i32>,
) {
    let launched = match options.target {
        Target::Launched { pid, .. } => Some((pid, ended)),
        Target::Running(_) => None,
    };
    let submit_stacks = options.submit_stacks;
    let calls = Calls { records: Records::new(feeder), rings: Rings::default(), submit_stacks };
    let faults = options.rules.take().map(Faults::new);
    let mut tracer = Tracer {
        options,
        calls,
        processes: Processes::default(),
        tracees: HashMap::default(),
        early: HashMap::new(),
        is_over: false,
        is_leaving: false,
        blocked: Vec::new(),
        stretched: Vec::new(),
        launched,
        holds: false,
        faults,
        handed_on: Instant::now(),
    };
    match tracer.begin() {
        Ok(found) => {
            let blocked = std::mem::take(&mut tracer.blocked);
            let _ = told.send(Ok(Begun { blocked, found }));
        }
        Err(error) => {
            tracer.leave();
            let _ = told.send(Err(error));
            return;
        }
    }
    tracer.trace(signals, &stop);
}

impl Tracer {
    /// Whether tracees stop at AIO calls by a filter.
    fn is_filtered(&self) -> bool {
        matches!(self.options.target, Target::Launched { filtered: true, .. })
    }

    fn ptrace_options(&self) -> i32 {
        let base = option::SYSCALL_MARKED | option::THREADS | option::EXEC | option::EXIT;
        // Children inherit the filter, so they must be traced, too.
        let children = self.options.follow || self.is_filtered();
        let base = if children { base | option::CHILDREN } else { base };
        if self.is_filtered() { base | option::SECCOMP | option::DIE_WITH_US } else { base }
    }

    /// Seizes everybody. What was there is recorded before anybody goes on.
    fn begin(&mut self) -> Result<Vec<Found>, StartError> {
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
                for pid in &pids {
                    self.seize(*pid)?;
                }
                let stopped = self.await_stops();
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
    fn seize(&mut self, pid: u32) -> Result<(), StartError> {
        let refused = |source| StartError::Refused { pid, source };
        let us = nix::unistd::gettid().as_raw() as u32;
        let others: Vec<u32> = self.processes.pids().collect();
        let shares = others.into_iter().find(|it| processes::share_space(pid, *it) == Some(true));
        let space = self.processes.add(pid, shares, true, false);
        loop {
            let mut any = false;
            for tid in process::threads(pid) {
                if self.tracees.contains_key(&tid) {
                    continue;
                }
                match requests::seize(tid, self.ptrace_options()) {
                    Ok(()) => {
                        any = true;
                        self.tracees.insert(tid, Tracee::new(pid, tid, space, true));
                        let _ = requests::interrupt(tid);
                    }
                    Err(Errno::ESRCH) => (),
                    // Born of one that is seized, or the first one, which has ended.
                    Err(Errno::EPERM) if process::tracer_of(tid) == Some(us) => (),
                    Err(Errno::EPERM) if !process::is_alive_thread(pid, tid) => (),
                    Err(errno) => return Err(refused(errno)),
                }
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

    /// The first stop of each thread. Those that do not stop in time do so later.
    fn await_stops(&mut self) -> Vec<(u32, Status)> {
        let start = Instant::now();
        let mut stopped: Vec<(u32, Status)> = Vec::new();
        let wanted = self.tracees.len();
        while stopped.len() < wanted && start.elapsed() < PATIENCE {
            match requests::wait() {
                Ok(Some(it)) => stopped.push(it),
                Ok(None) => std::thread::sleep(Duration::from_micros(200)),
                Err(_) => break,
            }
        }
        // Still in the kernel, perhaps in a call of interest.
        for (tid, tracee) in &self.tracees {
            if !stopped.iter().any(|it| it.0 == *tid) {
                let blocked = process::blocked_calls(tracee.pid).into_iter();
                self.blocked.extend(blocked.filter(|it| it.tid == *tid).map(|it| (tracee.pid, it)));
            }
        }
        stopped
    }

    fn trace(mut self, mut signals: Signals, stop: &Stop) {
        let start = Instant::now();
        let mut told = Losses::default();
        let mut looked = start;
        let reason = 'trace: loop {
            // First: whoever stops after that, sends another one.
            while let Some(asked) = signals.next() {
                match asked {
                    Asked::End(signal) => break 'trace Reason::Signal(signal),
                    Asked::Report => {
                        self.calls.records.hand_on();
                        self.calls.records.say(Message::Report(self.losses()));
                    }
                    Asked::Nothing => (),
                }
            }
            let mut since = Instant::now();
            loop {
                match requests::wait() {
                    Ok(Some((tid, status))) => self.stopped(tid, status),
                    Ok(None) => break,
                    Err(_) => break 'trace Reason::TargetsGone,
                }
                if since.elapsed() > GATHER {
                    break;
                }
            }
            since = Instant::now();
            self.release_held(since);
            if self.processes.is_over() && self.early.is_empty() {
                break Reason::TargetsGone;
            }
            if stop.is_asked() {
                break Reason::OutputClosed;
            }
            if looked.elapsed() > LOOK_AGAIN {
                looked = since;
                self.adopt_orphans(since);
                let losses = self.losses();
                if losses != told && self.calls.records.say(Message::Lost(losses)) {
                    told = losses;
                }
            }
            let mut wait = LOOK_AGAIN;
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
                    self.handed_on = since;
                } else {
                    wait = wait.min(left);
                }
            }
            if let Some(due) = self.next_due() {
                wait = wait.min(due.saturating_duration_since(since));
            }
            let mut fds =
                [signals.as_fd(), stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let _ = poll(&mut fds, timeout(wait));
        };
        let attached = start.elapsed();
        let in_calls: Vec<Thread> = self.tracees.values().filter_map(Tracee::in_call).collect();
        self.is_over = true;
        let losses = self.losses();
        if self.is_filtered() {
            self.end(reason, losses, in_calls, attached);
            self.keep(&mut signals);
        } else {
            self.leave();
            self.end(reason, losses, in_calls, attached);
        }
    }

    fn losses(&self) -> Losses {
        let mut losses = Losses { queue_full: self.calls.records.dropped(), ..Losses::default() };
        losses.probes[Lost::NoContextSlot as usize] = self.calls.rings.forgotten;
        losses
    }

    fn end(
        &mut self,
        reason: Reason,
        mut losses: Losses,
        in_calls: Vec<Thread>,
        attached: Duration,
    ) {
        if let Some(feeder) = self.calls.records.take() {
            feeder.finish(|dropped| {
                losses.queue_full = dropped;
                End { reason, losses, in_calls, attached }
            });
        }
    }

    /// Traces on without telling anything: the filter needs somebody who answers.
    fn keep(&mut self, signals: &mut Signals) {
        loop {
            while signals.next().is_some() {}
            loop {
                match requests::wait() {
                    Ok(Some((tid, status))) => self.stopped(tid, status),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            let now = Instant::now();
            self.release_held(now);
            self.adopt_orphans(now);
            let due = self.next_due().map(|it| it.saturating_duration_since(now));
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout(due.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)));
        }
    }

    /// Lets go of all tracees.
    fn leave(&mut self) {
        self.is_leaving = true;
        let start = Instant::now();
        for tid in self.tracees.keys().copied().collect::<Vec<_>>() {
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
        while !self.tracees.is_empty() && start.elapsed() < LAST_PATIENCE {
            match requests::wait() {
                Ok(Some((tid, status))) => self.stopped(tid, status),
                Ok(None) => std::thread::sleep(Duration::from_micros(200)),
                Err(_) => break,
            }
        }
    }

    /// A tracee stopped, or ended.
    fn stopped(&mut self, tid: u32, status: Status) {
        let what = status.what();
        if what == What::Ended {
            return self.ended(tid, status);
        }
        if !self.tracees.contains_key(&tid) && !self.is_known(tid) {
            return;
        }
        // An error means that it is dead, which is told by its end.
        let _ = self.look_at(tid, what);
    }

    /// A thread of which we did not know. `false`: a process, and its parent has not told of it yet.
    fn is_known(&mut self, tid: u32) -> bool {
        let pid = processes::family(tid).map_or(tid, |it| it.0);
        if let Some(process) = self.processes.of(pid) {
            let mut tracee = Tracee::new(pid, tid, process.space, process.all_calls);
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

    /// New processes whose parent died before it told of them.
    fn adopt_orphans(&mut self, now: Instant) {
        let is_orphan = |it: &Instant| now.duration_since(*it) >= LOOK_AGAIN;
        let orphans: Vec<u32> =
            self.early.iter().filter(|it| is_orphan(it.1)).map(|it| *it.0).collect();
        for tid in orphans {
            self.early.remove(&tid);
            let all_calls = !self.is_filtered();
            let is_silent = !self.options.follow;
            let space = self.processes.add(tid, None, all_calls, is_silent);
            self.tracees.insert(tid, Tracee::new(tid, tid, space, all_calls));
            self.set_state(tid, State::Stopped(0));
            self.go_on(tid);
        }
    }

    fn look_at(&mut self, tid: u32, what: What) -> Result<(), Errno> {
        let mut state = State::Stopped(0);
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
            What::New(made) => self.created(tid, made)?,
            What::Exec => self.executes(tid)?,
            What::Exit => self.ends(tid)?,
            What::Ended | What::Other => (),
        }
        self.set_state(tid, state);
        self.go_on(tid);
        Ok(())
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

    /// The first stop of a thread that was seized: it may be inside a call.
    fn begin_thread(&mut self, tid: u32, signal: i32) -> Result<(), Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let is_fresh = std::mem::take(&mut tracee.is_fresh);
        let pid = tracee.pid;
        if !is_fresh && !self.is_leaving {
            return Ok(());
        }
        let registers = requests::registers(tid)?;
        let number = registers.orig_rax;
        let is_32_bit = signals::is_32_bit(&registers);
        let arch = if is_32_bit { I386 } else { requests::X86_64 };
        if (number as i64) < 0 {
            return Ok(());
        }
        let undone = signals::undo(pid, tid, signal)?;
        let Some((syscall, abi)) = aio_call(arch, number) else {
            return Ok(());
        };
        let args = super::tracee::meant(syscall, abi, arguments(&registers));
        let ret = if is_32_bit { i64::from(registers.rax as i32) } else { registers.rax as i64 };
        // io_pgetevents starts again by itself.
        let starts_again = ret == signals::RESTART && !signals::interrupts(pid, tid, signal);
        let is_made_again = undone || starts_again;
        if is_made_again {
            self.note_stretched(tid, syscall, abi, args);
        }
        if !is_fresh {
            return Ok(());
        }
        self.blocked.push((pid, Blocked { tid, syscall, args }));
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let call = InCall { args, ..InCall::new(syscall, abi, args, 0) };
        if is_made_again {
            tracee.again = Some(Again { number, first: args[0], ret });
            tracee.call = Some(call);
        } else {
            // It ends now, and we did not see it begin.
            self.left(tid, call, ret, flag::NOT_ENTERED);
        }
        Ok(())
    }

    /// The call waits for its whole timeout once more.
    fn note_stretched(&mut self, tid: u32, syscall: Syscall, abi: Abi, args: [u64; 6]) {
        let waits = matches!(syscall, Syscall::Getevents | Syscall::Pgetevents);
        let timeout = || super::memory::Memory { tid }.timespec(args[4], abi);
        if waits && timeout().is_some() && !self.stretched.contains(&tid) {
            const MOST: usize = 1024;
            if self.stretched.len() < MOST {
                self.stretched.push(tid);
            }
            let text = format!(
                "thread {tid} was waiting in {} with a timeout, which begins again: the call may take \
                 longer than that",
                syscall.name()
            );
            self.calls.records.say(Message::Note(text));
        }
    }

    /// A signal is about to be delivered to a thread that makes a call again: the program expects EINTR.
    fn signalled(&mut self, tid: u32, signal: i32) -> Result<(), Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let Some(again) = tracee.again else { return Ok(()) };
        if !signals::interrupts(tracee.pid, tid, signal) {
            return Ok(());
        }
        let ret = again.ret;
        tracee.again = None;
        if let Some(call) = tracee.call.take() {
            let flags = if call.entered == 0 { flag::NOT_ENTERED } else { 0 };
            self.left(tid, call, ret, flags);
        }
        Ok(())
    }

    /// A system call begins or ends. Gives the state in which a fault holds it.
    fn at_call(&mut self, tid: u32) -> Result<Option<State>, Errno> {
        let info = requests::syscall(tid)?;
        match info.op {
            requests::ENTRY => self.entry(tid, &info),
            requests::SECCOMP => self.allowed(tid, &info),
            requests::EXIT => self.exit(tid, &info),
            _ => Ok(None),
        }
    }

    fn entry(&mut self, tid: u32, info: &requests::Syscall) -> Result<Option<State>, Errno> {
        let filtered = self.is_filtered();
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        let Some((syscall, abi)) = aio_call(info.arch, info.number()) else {
            tracee.again = None;
            return Ok(None);
        };
        if filtered {
            // The filter asks us next, unless another one denies the call.
            if tracee.again.is_none() {
                let mut call = InCall::new(syscall, abi, info.args(), monotonic());
                call.is_unconfirmed = true;
                tracee.call = Some(call);
            }
            return Ok(None);
        }
        self.begin_call(tid, syscall, abi, info)
    }

    /// A filter asks us: the call is allowed by all others.
    fn allowed(&mut self, tid: u32, info: &requests::Syscall) -> Result<Option<State>, Errno> {
        if seccomp::installs_filter(info.arch, info.number(), &info.args()) {
            self.stop_at_all_calls(tid);
            return Ok(None);
        }
        match aio_call(info.arch, info.number()) {
            Some((syscall, abi)) => self.begin_call(tid, syscall, abi, info),
            None => Ok(None),
        }
    }

    /// A filter of the program's own may deny calls, and then ours is not asked.
    fn stop_at_all_calls(&mut self, tid: u32) {
        let Some(pid) = self.tracees.get(&tid).map(|it| it.pid) else { return };
        if let Some(process) = self.processes.of_mut(pid) {
            process.all_calls = true;
        }
        for tracee in self.tracees.values_mut().filter(|it| it.pid == pid) {
            tracee.all_calls = true;
        }
    }

    fn begin_call(
        &mut self,
        tid: u32,
        syscall: Syscall,
        abi: Abi,
        info: &requests::Syscall,
    ) -> Result<Option<State>, Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        let mut call = InCall::new(syscall, abi, info.args(), monotonic());
        if let Some(again) = tracee.again.take()
            && again.number == info.number()
            && again.first == call.args[0]
            && tracee.call.is_some()
        {
            return Ok(None);
        }
        tracee.call = None;
        if self.is_silent(tid) {
            return Ok(None);
        }
        let Some(mut tracee) = self.tracees.remove(&tid) else { return Ok(None) };
        self.tell_thread(&mut tracee, call.entered);
        let place = || {
            let registers = requests::registers(tid).ok()?;
            Some([registers.rip, registers.rsp, registers.rbp])
        };
        let mut new = Vec::new();
        let wants_new = self.faults.as_ref().is_some_and(Faults::are_about_completions);
        self.calls.entered(&mut tracee, &mut call, place, |it| {
            if wants_new {
                new.push(it);
            }
        });
        self.change_completions(&mut tracee, &call, &new, None, call.entered);
        let mut goes = Ok(Goes::On);
        if let Some(faults) = &mut self.faults {
            goes = faults.call(&tracee, &mut call);
        }
        if goes != Ok(Goes::Not) {
            self.calls.destroys(&tracee, &call);
        }
        tracee.call = Some(call);
        self.tracees.insert(tid, tracee);
        Ok(match goes? {
            Goes::Later(time) => Some(held(time, Held::AtEntry)),
            Goes::On | Goes::Not => None,
        })
    }

    /// Faults in completions that are new.
    fn change_completions(
        &mut self,
        tracee: &mut Tracee,
        call: &InCall,
        new: &[New],
        reaped: Option<Reaped>,
        time: u64,
    ) {
        let Some(faults) = &mut self.faults else { return };
        if new.is_empty() && reaped.is_none() {
            return;
        }
        let is_reaper = |it: &&Tracee| {
            it.space == tracee.space
                && it.call.as_ref().is_some_and(|it| {
                    matches!(it.syscall, Syscall::Getevents | Syscall::Pgetevents)
                        && it.args[0] == call.args[0]
                })
        };
        let others: Vec<u32> = match new.is_empty() {
            true => Vec::new(),
            false => self.tracees.values().filter(is_reaper).map(|it| it.tid).collect(),
        };
        let records = &mut self.calls.records;
        faults.completions(tracee, records, call, new, reaped, &others, time);
    }

    /// Nothing is told of it.
    fn is_silent(&self, tid: u32) -> bool {
        let pid = self.tracees.get(&tid).map_or(0, |it| it.pid);
        self.is_over || self.processes.of(pid).is_none_or(|it| it.is_silent)
    }

    fn tell_thread(&mut self, tracee: &mut Tracee, time: u64) {
        if !tracee.is_told {
            tracee.is_told = true;
            self.processes.tell_thread(&mut self.calls.records, tracee, time);
        }
    }

    fn exit(&mut self, tid: u32, info: &requests::Syscall) -> Result<Option<State>, Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        let (pid, mut ret) = (tracee.pid, info.ret());
        if tracee.call.is_none() {
            if self.is_leaving {
                signals::undo(pid, tid, 0)?;
            }
            return Ok(None);
        }
        let pending = tracee.call.as_mut().and_then(|it| it.verdict.take());
        if let Some(pending) = pending
            && let Some(state) = carry_out(tid, pending, &mut ret)?
            && !self.is_leaving
        {
            return Ok(Some(state));
        }
        let undone = signals::undo(pid, tid, 0)?;
        let starts_again = ret == signals::RESTART && !signals::interrupts(pid, tid, 0);
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(None) };
        if undone || starts_again {
            let Some(call) = &tracee.call else { return Ok(None) };
            let (syscall, abi, args) = (call.syscall, call.abi, call.args);
            let number = requests::registers(tid)?.orig_rax;
            tracee.again = Some(Again { number, first: args[0], ret });
            self.note_stretched(tid, syscall, abi, args);
            return Ok(None);
        }
        let Some(mut call) = tracee.call.take() else { return Ok(None) };
        let is_told = tracee.is_told;
        if self.is_leaving {
            return Ok(None);
        }
        let filtered = self.is_filtered();
        let mut flags = 0;
        if call.is_unconfirmed {
            // Its iocbs were not read yet.
            call.unread = Some(0);
        }
        if call.is_unconfirmed || !filtered && may_be_denied(pid, tid, &call, ret) {
            call.entered = 0;
            let known = if is_told { flag::KNOWN_THREAD } else { 0 };
            flags = flag::NOT_ENTERED | flag::SECCOMP | known;
        } else if call.entered == 0 {
            flags = flag::NOT_ENTERED;
        }
        self.left(tid, call, ret, flags);
        Ok(None)
    }

    /// Tells the end of a call.
    fn left(&mut self, tid: u32, call: InCall, ret: i64, flags: u16) {
        if self.is_silent(tid) {
            return;
        }
        let Some(mut tracee) = self.tracees.remove(&tid) else { return };
        let time = monotonic();
        self.tell_thread(&mut tracee, time);
        let mut new = Vec::new();
        let wants_new = self.faults.as_ref().is_some_and(Faults::are_about_completions);
        let ring = self.calls.look(&mut tracee, &call, time, |it| {
            if wants_new {
                new.push(it);
            }
        });
        if wants_new {
            let reaped = Reaped::by(&call, ret);
            self.change_completions(&mut tracee, &call, &new, reaped, time);
        }
        self.calls.left(&mut tracee, &call, &Left { time, ret, flags }, ring);
        self.tracees.insert(tid, tracee);
    }

    /// A thread created another one, or a process.
    fn created(&mut self, tid: u32, made: Made) -> Result<(), Errno> {
        let child = requests::event_message(tid)? as u32;
        let Some(tracee) = self.tracees.get(&tid) else { return Ok(()) };
        let (pid, space) = (tracee.pid, tracee.space);
        if self.tracees.contains_key(&child) {
            return Ok(());
        }
        let was_early = self.early.remove(&child).is_some();
        let of_child = processes::family(child).map_or(child, |it| it.0);
        let (all_calls, silent) =
            self.processes.of(pid).map_or((true, true), |it| (it.all_calls, it.is_silent));
        let mut new = Tracee::new(of_child, child, space, all_calls);
        new.is_fresh = false;
        if of_child != pid {
            let shares = match processes::share_space(pid, child) {
                Some(true) => true,
                Some(false) => false,
                None => made == Made::Vfork,
            };
            let silent = silent || !self.options.follow;
            new.space = self.processes.add(child, shares.then_some(pid), all_calls, silent);
            if !self.is_silent(tid) {
                let ids = [pid, tid, child];
                self.processes.tell_fork(&mut self.calls.records, ids, monotonic());
            }
        }
        if was_early {
            new.state = State::Stopped(0);
        }
        self.tracees.insert(child, new);
        if was_early {
            self.go_on(child);
        }
        Ok(())
    }

    /// It runs a new program: its other threads are gone, and its address space is another.
    fn executes(&mut self, tid: u32) -> Result<(), Errno> {
        let former = requests::event_message(tid)? as u32;
        let Some(pid) = self.tracees.get(&tid).or(self.tracees.get(&former)).map(|it| it.pid)
        else {
            return Ok(());
        };
        let (space, left) = self.processes.leave_space(pid);
        self.processes.rename(pid);
        let is_silent = self.is_silent(tid);
        self.tracees.retain(|_, it| it.pid != pid);
        let all_calls = self.processes.of(pid).is_none_or(|it| it.all_calls);
        let mut tracee = Tracee::new(pid, tid, space, all_calls);
        tracee.is_fresh = false;
        self.tracees.insert(tid, tracee);
        if let Some(left) = left {
            self.calls.rings.left(left);
        }
        if !is_silent {
            self.processes.tell_exec(&mut self.calls.records, pid, former, monotonic());
        }
        Ok(())
    }

    /// It is about to end. If it was killed inside a call, the call ends, too.
    fn ends(&mut self, tid: u32) -> Result<(), Errno> {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return Ok(()) };
        let pid = tracee.pid;
        if pid == tid {
            self.processes.rename(pid);
        }
        let Some(call) = self.tracees.get_mut(&tid).and_then(|it| it.call.take()) else {
            return Ok(());
        };
        let registers = requests::registers(tid)?;
        let ret = match registers.rax as i64 {
            ret if ret == -i64::from(libc::ENOSYS) => -i64::from(libc::EINTR),
            ret => ret,
        };
        let flags = if call.entered == 0 { flag::NOT_ENTERED } else { 0 };
        if !self.is_leaving {
            self.left(tid, call, ret, flags);
        }
        Ok(())
    }

    /// A thread is gone; with the last one of a process, the process.
    fn ended(&mut self, tid: u32, status: Status) {
        self.early.remove(&tid);
        let is_silent = self.is_silent(tid);
        let Some(mut tracee) = self.tracees.remove(&tid) else { return };
        let (pid, time) = (tracee.pid, monotonic());
        if tracee.is_told && !is_silent {
            self.calls.gone(&mut tracee, time);
        }
        // The first thread is told of last; unless it was gone before we came.
        let is_last = tid == pid || !self.tracees.values().any(|it| it.pid == pid);
        let leader_lives = tid != pid && process::is_alive_thread(pid, pid);
        if !is_last || leader_lives {
            return;
        }
        if let Some(faults) = &mut self.faults {
            faults.process_ended(pid);
        }
        if let Some((process, space)) = self.processes.remove(pid) {
            if let Some(space) = space {
                self.calls.rings.left(space);
            }
            if !is_silent {
                process.tell_exit(&mut self.calls.records, pid, status.0 as u32, time);
            }
        }
        if let Some((launched, ended)) = &self.launched
            && *launched == pid
        {
            let _ = ended.send(status.0);
        }
    }

    /// When the next fault lets a thread go on.
    fn next_due(&self) -> Option<Instant> {
        if !self.holds {
            return None;
        }
        let due = |it: &Tracee| match it.state {
            State::Held(until, _) => Some(until),
            _ => None,
        };
        self.tracees.values().filter_map(due).min()
    }

    fn release_held(&mut self, now: Instant) {
        if !self.holds {
            return;
        }
        let due = |it: &&Tracee| matches!(it.state, State::Held(until, _) if until <= now);
        let due: Vec<u32> = self.tracees.values().filter(due).map(|it| it.tid).collect();
        for tid in due {
            if let Some(State::Held(_, held)) = self.tracees.get(&tid).map(|it| it.state) {
                self.finish_held(tid, held);
                self.set_state(tid, State::Stopped(0));
                self.go_on(tid);
            }
        }
        self.holds = self.next_due().is_some();
    }

    fn finish_held(&mut self, tid: u32, held: Held) {
        if let Held::AtExit(ret) = held
            && let Some(call) = self.tracees.get_mut(&tid).and_then(|it| it.call.take())
        {
            self.left(tid, call, ret, 0);
        }
    }
}

fn held(nanoseconds: u64, held: Held) -> State {
    // Longer is as good as for ever.
    const LONGEST: u64 = 1_000_000_000_000_000;
    State::Held(Instant::now() + Duration::from_nanos(nanoseconds.min(LONGEST)), held)
}

/// Does what is left of a fault when the call ends. Gives the state in which it is held then.
fn carry_out(tid: u32, pending: Pending, ret: &mut i64) -> Result<Option<State>, Errno> {
    match pending {
        Pending::Return(value) => {
            // A filter of the program's own, asked after us, may have had another answer.
            if *ret != value {
                let mut registers = requests::registers(tid)?;
                registers.rax = value as u64;
                requests::set_registers(tid, &registers)?;
                *ret = value;
            }
            Ok(None)
        }
        Pending::GiveBack(nr) => {
            let mut registers = requests::registers(tid)?;
            *faults::second_argument(&mut registers) = nr;
            requests::set_registers(tid, &registers)?;
            Ok(None)
        }
        Pending::Late(time) => Ok(Some(held(time, Held::AtExit(*ret)))),
    }
}

/// The AIO call with this number.
fn aio_call(arch: u32, number: u64) -> Option<(Syscall, Abi)> {
    match arch {
        requests::X86_64 => Syscall::from_x86_64(number).map(|it| (it, Abi::X86_64)),
        I386 => from_i386(number),
        _ => None,
    }
}

/// The registers that hold arguments.
fn arguments(it: &libc::user_regs_struct) -> [u64; 6] {
    if signals::is_32_bit(it) {
        [it.rbx, it.rcx, it.rdx, it.rsi, it.rdi, it.rbp]
    } else {
        [it.rdi, it.rsi, it.rdx, it.r10, it.r8, it.r9]
    }
}

/// Whether a filter answered instead of the kernel's AIO, where we cannot see that: it is asked after us.
fn may_be_denied(pid: u32, tid: u32, call: &InCall, ret: i64) -> bool {
    let is_usual = match i32::try_from(-ret) {
        Ok(libc::ENOSYS | libc::EPERM) => true,
        // Files and security modules refuse requests so.
        Ok(libc::EACCES) => call.syscall != Syscall::Submit,
        _ => false,
    };
    is_usual && call.fault == 0 && process::has_thread_filter(pid, tid)
}
