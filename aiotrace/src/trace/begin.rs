//! The beginning of a trace: chooses the source (`--source`), prepares it before anything runs, and
//! begins.

use std::{borrow::Cow, collections::HashSet, fs::File, sync::Arc};

use aiotrace_common::{
    names::Feature,
    record::{KnownStack, STACK_PAGES, StackKey},
    settings::{self, ABSENT, target},
};
use nix::sys::signal::{SigSet, Signal};

use super::{
    conclusions::Sees,
    faults::{Chosen, Judging},
    session::{Plan, Scope},
    settings::{Settings, SourceKind},
};
use crate::{
    clock,
    errand::{
        self, BlockedCalls, Errand as _, HasSeccompFilter, Opened, ReadTimespec, Started,
        WaitsInExit,
    },
    event::{self, Args, Body, Change, Event, Unfinished, Why},
    failure::{Failure, Result, bail},
    fault::Judge,
    inventory::machine::hint as machine_hint,
    proc,
    source::{
        bpf::{self, Decoder, ProbeSet, Probes, adopt::Finder, arguments, drain, load, machine},
        collector::{Collector, Deaths, Stop, Until, all_signals},
        ptrace::{self, refusal},
    },
    stacks::{Known, OpenFiles, Processes},
    trace,
};

/// A source that is ready to begin.
pub enum Source {
    /// Probes that are loaded.
    Bpf {
        /// The loaded probes.
        probes: Box<Probes>,
        /// Finds contexts that exist already; `None` for a launched program, which has none.
        finder: Option<Finder>,
    },
    /// The options of the thread that will trace.
    Ptrace(ptrace::Options),
}

/// What the source needs when the trace begins.
pub struct Way {
    /// Tells the source to end.
    pub stop: Arc<Stop>,
    /// The file in which records wait that cannot be handled at once.
    pub spill: Option<File>,
    /// When the trace begins: CLOCK_MONOTONIC, in nanoseconds.
    pub start: u64,
    /// The open files from which functions and unwind tables are read.
    pub files: OpenFiles,
}

/// A trace that has begun.
pub struct Begun {
    /// Yields the records.
    pub collector: Collector,
    /// Makes events of the records.
    pub decoder: Decoder,
    /// The events of what existed when the trace began.
    pub initial: Vec<Event>,
    /// What sees the calls.
    pub probes: trace::Probes,
    /// What the source cannot see, in words.
    pub lacks: Vec<Cow<'static, str>>,
    /// What the source sees, as the model needs to know it.
    pub sees: Sees,
    /// Has the status of a launched program, if ptrace waits for it.
    pub status: Option<ptrace::Status>,
}

impl Source {
    /// Loads the probes, or checks whether ptrace can do what is wanted.
    ///
    /// # Errors
    /// If something that is wanted cannot be had.
    pub fn prepare(plan: &mut Plan, wanted: &Settings, faults: Option<&Chosen>) -> Result<Self> {
        let by_ptrace = match (wanted.source, faults.map(|it| it.judge)) {
            (SourceKind::Ptrace, _)
            | (SourceKind::Auto, Some(Judging::Ptrace | Judging::PtraceFor(_))) => true,
            (SourceKind::Bpf, Some(Judging::Ptrace)) => {
                bail!("--mechanism ptrace needs --source ptrace, or none");
            }
            (SourceKind::Bpf, Some(Judging::PtraceFor(index))) => {
                let rule = faults.and_then(|it| it.rules.get(index)).map_or("", |it| &it.text);
                let text = format!(
                    "--source bpf cannot make rule {}, {rule}, on this machine: only ptrace can",
                    index + 1
                );
                return Err(Failure::new(text).with_hint("`aiotrace doctor` tells why"));
            }
            (_, Some(Judging::Probes) | None) => false,
        };
        if by_ptrace {
            for_ptrace(plan)?;
            return Self::ptrace(plan, wanted, faults);
        }
        let probes = load(plan, wanted, faults).map_err(with_hint)?;
        let finder = (!plan.launched).then(Finder::new);
        Ok(Self::Bpf { probes: Box::new(probes), finder })
    }

    fn ptrace(plan: &Plan, wanted: &Settings, faults: Option<&Chosen>) -> Result<Self> {
        load::check_architecture().map_err(with_hint)?;
        let Scope::Processes(processes) = &plan.scope else {
            let failure = Failure::new("ptrace traces processes, not the whole machine");
            return Err(failure.with_hint("name them with -p, or use --source bpf"));
        };
        let pids: Vec<u32> = processes.iter().map(|it| it.pid).collect();
        if pids.contains(&std::process::id()) {
            bail!("aiotrace cannot trace itself");
        }
        let target = match pids[..] {
            [pid] if plan.launched => ptrace::Target::Launched { pid, filtered: plan.filtered },
            _ => ptrace::Target::Running(pids),
        };
        let rules = faults.map(|it| ptrace::Rules {
            judge: Judge::new(it.rules.clone(), it.seed, clock::monotonic()),
            dry_run: it.dry_run,
        });
        let (follow, duration) = (plan.follow, wanted.duration);
        let all_stacks = wanted.stacks;
        let (files, unwound) = Default::default();
        let options =
            ptrace::Options { target, follow, duration, all_stacks, files, unwound, rules };
        Ok(Self::Ptrace(options))
    }

    /// Whether the launched program must install the filter.
    pub fn is_filtered(&self) -> bool {
        match self {
            Self::Bpf { .. } => false,
            Self::Ptrace(options) => {
                matches!(options.target, ptrace::Target::Launched { filtered: true, .. })
            }
        }
    }

    /// The signals that the collecting thread takes.
    pub fn signals(&self) -> SigSet {
        match self {
            Self::Bpf { .. } => all_signals(),
            Self::Ptrace(_) => all_signals() | SigSet::from(Signal::SIGCHLD),
        }
    }

    /// Begins the trace.
    ///
    /// # Errors
    /// If the kernel refuses something.
    pub fn begin(self, plan: Plan, wanted: &Settings, way: Way) -> Result<Begun> {
        match self {
            Self::Bpf { probes, finder } => begin_bpf(*probes, finder, plan, wanted, way),
            Self::Ptrace(options) => begin_ptrace(options, plan, way),
        }
    }
}

fn begin_bpf(
    mut probes: Probes,
    mut finder: Option<Finder>,
    plan: Plan,
    wanted: &Settings,
    Way { stop, spill, start, files }: Way,
) -> Result<Begun> {
    let set = probes.set().clone();
    let known = probes.known_stacks();
    let mut decoder = Decoder::new(&set)
        .in_part(wanted.counting().is_some())
        .with_stacks(Processes::new(known).with_files(files));
    let mut initial = Vec::new();
    let mut targets = Vec::new();
    let mut pids = Vec::new();
    let is_all = matches!(plan.scope, Scope::All);
    let deaths = match plan.scope {
        Scope::Processes(processes) => {
            for process in processes {
                probes.add_target(process.pid).map_err(with_hint)?;
                if !plan.launched {
                    initial.push(attached(&process, start));
                }
                targets.push((process.pid, process.pidfd));
            }
            Deaths::All
        }
        Scope::Cgroup(cgroup) => {
            pids = cgroup.processes();
            Deaths::Nobody
        }
        Scope::All => {
            pids = proc::all();
            Deaths::Nobody
        }
    };
    pids.extend(targets.iter().map(|(pid, _)| *pid));
    let filtered =
        || !is_all && pids.iter().any(|pid| HasSeccompFilter { pid: *pid }.ask() == Some(true));
    let until = Until {
        duration: wanted.duration,
        targets,
        deaths,
        counting: wanted.counting(),
        unseen_exits: wanted.denied || filtered(),
    };
    let before_arming = |probes: &mut Probes| {
        // Ask /proc before the probes are armed: a thread that is inside a call now entered it
        // before the trace, so its entry will never be seen.
        let mut tids = Vec::new();
        let wanted: HashSet<u32> = pids.iter().copied().collect();
        for pid in &pids {
            let blocked = BlockedCalls { pid: *pid }.ask();
            for blocked in blocked.unwrap_or_default() {
                decoder.blocked_at_attach(blocked.tid, blocked.syscall);
                initial.push(already_blocked(*pid, &blocked, clock::monotonic()));
                tids.push(blocked.tid);
            }
        }
        if let Some(finder) = &mut finder {
            for found in finder.adopt(probes, |pid| wanted.contains(&pid))? {
                initial.push(decoder.adopt(&found, clock::monotonic()));
            }
        }
        initial.extend(pids.iter().filter_map(|pid| waiting_in_exit(*pid)));
        name_all(&mut initial);
        Ok(tids)
    };
    let collector =
        drain::start(probes, until, stop, spill, before_arming).map_err(|error| match error {
            drain::StartError::Probes(error) => with_hint(error),
            other => other.into(),
        })?;
    Ok(Begun {
        collector,
        decoder,
        initial,
        probes: set.probes(),
        lacks: set.lacks().into_iter().map(Cow::from).collect(),
        sees: Sees {
            exact_completions: set.has(Feature::Completions),
            every_call: wanted.counting().is_none(),
            synchronous: set.watches_synchronous(),
            stops: false,
        },
        status: None,
    })
}

fn begin_ptrace(
    mut options: ptrace::Options,
    plan: Plan,
    Way { stop, spill, start, files }: Way,
) -> Result<Begun> {
    let filtered = matches!(options.target, ptrace::Target::Launched { filtered: true, .. });
    options.files = files.clone();
    let unwound = options.unwound.clone();
    let started =
        ptrace::start(options, stop, spill).map_err(|error| refused(error, plan.launched))?;
    let ptrace::Started { mut collector, blocked, found, status } = started;
    if filtered {
        // The program needs a tracer that answers its filter until it ends.
        collector.leave_running();
    }
    let processes = Processes::new(Untold).with_files(files);
    let mut decoder =
        Decoder::new(&ProbeSet::default()).with_stacks(ptrace::Reader { unwound, processes });
    let mut initial = Vec::new();
    let Scope::Processes(processes) = plan.scope else { bail!("ptrace traces processes") };
    if !plan.launched {
        eprintln!(
            "aiotrace: every system call of the target stops it while it is traced, as under strace \
             (--source bpf does not stop it)"
        );
        initial.extend(processes.iter().map(|it| attached(it, start)));
    }
    for (pid, blocked) in &blocked {
        decoder.blocked_at_attach(blocked.tid, blocked.syscall);
        initial.push(already_blocked(*pid, blocked, start));
    }
    for found in &found {
        initial.push(decoder.adopt(found, start));
    }
    initial.extend(processes.iter().filter_map(|it| waiting_in_exit(it.pid)));
    Ok(Begun {
        collector,
        decoder,
        initial,
        probes: trace::Probes::Ptrace,
        lacks: ptrace::LACKS.into_iter().map(Cow::from).collect(),
        sees: Sees { exact_completions: false, every_call: true, synchronous: true, stops: true },
        status: Some(status),
    })
}

/// ptrace knows no cgroups: it gets the processes that are in it now.
fn for_ptrace(plan: &mut Plan) -> Result<()> {
    let Scope::Cgroup(cgroup) = &plan.scope else { return Ok(()) };
    let pids = cgroup.processes();
    // ptrace stops whom it traces: these may not be stopped.
    if pids.contains(&1) || pids.contains(&std::process::id()) {
        let failure = Failure::new("ptrace traces no cgroup with process 1 or aiotrace in it");
        return Err(failure.with_hint("name them with -p, or use --source bpf"));
    }
    // One that ended in this moment is no longer meant.
    let opened: Vec<Opened> = pids.into_iter().filter_map(|it| errand::open(it).ok()).collect();
    if opened.is_empty() {
        let failure = Failure::new("no process is in the cgroup, or none can be looked at");
        return Err(failure.with_hint("ptrace traces the processes that are in it now"));
    }
    let text = match opened.len() {
        1 => "the process that is in the cgroup now".to_owned(),
        count => format!("the {count} processes that are in the cgroup now"),
    };
    eprintln!(
        "aiotrace: ptrace traces {text}, not those that come later (-f: their children, too)"
    );
    plan.scope = Scope::Processes(opened);
    Ok(())
}

/// The ptrace source copies every stack, so there are no probes to tell which stacks are known.
struct Untold;

impl Known for Untold {
    fn tell(&mut self, _: &StackKey, _: &KnownStack) {}
    fn withdraw(&mut self, _: &StackKey) {}
}

fn refused(error: ptrace::StartError, is_launched: bool) -> Failure {
    let hint = match &error {
        ptrace::StartError::Refused { pid, source } => {
            Some(refusal::hint(&refusal::Facts::of(*pid, *source, is_launched)))
        }
        _ => None,
    };
    let failure = Failure::from(error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

fn load(plan: &Plan, wanted: &Settings, faults: Option<&Chosen>) -> Result<Probes, bpf::Error> {
    load::check_architecture()?;
    let (target, cgroup) = match &plan.scope {
        Scope::Processes(_) => (target::LISTED, None),
        Scope::Cgroup(cgroup) => (target::CGROUP, Some(cgroup)),
        Scope::All => (target::ALL, None),
    };
    let machine = machine::settings(target)?;
    let only_pid = match &plan.scope {
        Scope::Processes(processes) if !plan.follow && machine.pid_namespace == 0 => {
            if let [process] = &processes[..] { process.pid } else { 0 }
        }
        _ => 0,
    };
    let settings = settings::Settings {
        cgroup_id: cgroup.map_or(0, |it| it.id),
        cgroup_level: cgroup.map_or(0, |it| it.level),
        follow: u32::from(plan.follow),
        only_pid,
        counting: u32::from(wanted.counting().is_some()),
        sample: wanted.sample(),
        only_errors: u32::from(wanted.only.is_some_and(|it| it.errors)),
        only_ops: wanted.only.map_or(0, |it| it.ops),
        only_fd: wanted.only.and_then(|it| it.fd).unwrap_or(ABSENT),
        count_requests: u32::from(wanted.counting().is_some_and(|it| it.requests)),
        slow_submit: wanted.judged.thresholds.slow_submit,
        submit_stack_pages: if wanted.stacks { STACK_PAGES as u32 } else { 0 },
        ..machine
    };
    tracing::debug!(?settings);
    Probes::load(&settings, wanted.probes, faults.map(Chosen::for_probes))
}

/// Makes a failure that says what the user can do about the error.
fn with_hint(error: bpf::Error) -> Failure {
    let hint = match &error {
        bpf::Error::NotBuilt => {
            "install bpf-linker and the Rust source (in a checkout, `cargo xtask setup` does), and \
             build again; or use --source ptrace"
                .to_owned()
        }
        bpf::Error::Architecture(_) => "there is no way around it yet".to_owned(),
        error => machine_hint(error),
    };
    Failure::new(bpf::reason(&error)).with_hint(hint)
}

fn attached(process: &Opened, time: u64) -> Event {
    let started = process.started;
    changed((process.pid, process.pid), time, process.name.clone(), started, Change::Attached)
}

fn changed(
    (pid, tid): (u32, u32),
    time: u64,
    name: Vec<u8>,
    started: Option<u64>,
    change: Change,
) -> Event {
    let thread_name = name.clone();
    let process = event::Process { name, thread_name, started, space: None, change };
    Event { time, pid, tid, body: Body::Process(process) }
}

/// An event that says that a process is in exit and waits there for requests, if that is so.
pub(super) fn waiting_in_exit(pid: u32) -> Option<Event> {
    let tid = WaitsInExit { pid }.ask()??;
    let name = proc::name(pid)?;
    Some(changed((pid, tid), clock::monotonic(), name, None, Change::ExitWaits))
}

/// Puts an event with the name of its process before the first event of each process, even of
/// processes that were not named with -p.
fn name_all(events: &mut Vec<Event>) {
    let is_attached = |it: &Event| match &it.body {
        Body::Process(it) => it.change == Change::Attached,
        _ => false,
    };
    let mut named: HashSet<u32> =
        events.iter().filter(|it| is_attached(it)).map(|it| it.pid).collect();
    let mut all = Vec::with_capacity(events.len());
    for event in events.drain(..) {
        if named.insert(event.pid)
            && let Some(name) = proc::name(event.pid)
        {
            let (pid, started) = (event.pid, Started { pid: event.pid }.ask().flatten());
            all.push(changed((pid, pid), event.time, name, started, Change::Attached));
        }
        all.push(event);
    }
    *events = all;
}

fn already_blocked(pid: u32, blocked: &proc::Blocked, time: u64) -> Event {
    let mut args = arguments(blocked.syscall, &blocked.args);
    if let Args::Getevents { timeout, timeout_value, .. } = &mut args {
        *timeout_value = ReadTimespec { pid, at: timeout.0 }.ask().flatten();
    }
    let unfinished = Unfinished { entered: None, args, why: Why::BlockedAtAttach };
    Event { time, pid, tid: blocked.tid, body: Body::Unfinished(unfinished) }
}
