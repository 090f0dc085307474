//! Puts it together: chooses the tier, starts the server, and lets the trace run until somebody ends it.

use std::{net::SocketAddr, os::fd::AsFd as _, sync::Arc, time::Duration};

use aiotrace_common::settings::target;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    count::Feed,
    exposition::Exposition,
    http::{self, Server, Tasks},
    label::Labels,
    look::{Machine, Version, Wanted, locked},
    state::{Source, State},
    textfile::Textfile,
};
use crate::{
    failure::{Context as _, Result},
    inventory::{Inventory, machine},
    source::{
        bpf::{self, Probes},
        collector::{Pace, Stop, all_signals},
    },
    trace::{self, Opened, Plan, Scope, Session},
};

/// What is to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// Counts where trampolines can be had, which cost nothing on any other call; else the list.
    #[default]
    Best,
    /// Only the list of contexts: nothing is attached.
    List,
    /// Counts, by whatever probes can be had.
    Count,
}

/// What is told, to whom.
#[derive(Debug)]
pub struct Settings {
    /// What is to be told.
    pub tier: Tier,
    /// Where the server listens.
    pub listen: Option<SocketAddr>,
    /// The file that is written.
    pub textfile: Option<Textfile>,
    /// How often the counters are read, and the file is written.
    pub interval: Duration,
    /// Whether rings are read, to tell what is unreaped.
    pub reads_rings: bool,
    /// How many label sets of processes have series.
    pub most_series: usize,
    /// Whether each of these has histograms.
    pub histograms: bool,
    /// How processes are labelled.
    pub labels: Labels,
    /// What is told of aiotrace.
    pub version: Version,
}

impl Settings {
    fn machine(&self, scope: &Scope) -> Machine {
        let mut state = State::new(self.labels.clone(), self.most_series, self.histograms);
        let mut inventory = match Inventory::by_bpf() {
            Ok(it) => it,
            Err(error) => {
                eprintln!("aiotrace: without BPF, from /proc: {}", bpf::reason(&error));
                eprintln!("aiotrace: {}", machine::hint(&error));
                let why = format!("charges: {}", bpf::reason(&error));
                state.source = Source { probes: None, lacks: vec![why] };
                Inventory::by_proc()
            }
        };
        if !self.reads_rings {
            inventory = inventory.without_rings();
            state.source.lacks.push("unreaped completions: --no-unreaped".into());
        }
        Machine::new(inventory, wanted(scope), state, self.version)
    }
}

/// Which processes of the list are told.
fn wanted(scope: &Scope) -> Wanted {
    match scope {
        Scope::All => Box::new(|_| true),
        Scope::Processes(all) => {
            let pids: Vec<u32> = all.iter().map(|it| it.pid).collect();
            Box::new(move |pid| pids.contains(&pid))
        }
        Scope::Cgroup(cgroup) => {
            let cgroup = cgroup.clone();
            Box::new(move |pid| cgroup.processes().contains(&pid))
        }
    }
}

/// The metrics of one look, in the text format.
///
/// # Errors
/// If the machine cannot be looked at.
pub fn once(settings: &Settings, scope: &Scope) -> Result<String> {
    // A process that has ended when it is read has no age, so node_exporter's own metrics stay its own.
    settings.machine(scope).scrape(Exposition::Text, None)
}

/// Serves until a signal comes, or the processes that were named have ended.
///
/// # Errors
/// If the address is taken, or what was asked for cannot be had.
pub fn serve(settings: Settings, scope: Scope) -> Result<()> {
    // All threads leave signals to the one that heeds them.
    all_signals().thread_block().context("cannot block signals")?;
    let listener = settings.listen.map(http::listen).transpose()?;
    let machine = Arc::new(settings.machine(&scope));
    let probes = match settings.tier {
        Tier::List => None,
        Tier::Count => Some(bpf::Wanted::Auto),
        Tier::Best => match trampolines() {
            Ok(()) => Some(bpf::Wanted::Trampoline),
            Err(error) => {
                let why = bpf::reason(&error);
                eprintln!("aiotrace: only the list of contexts, nothing is counted: {why}");
                locked(&machine.state).source.lacks.push(format!("counters: {why}"));
                None
            }
        },
    };
    if settings.tier == Tier::List {
        locked(&machine.state).source.lacks.push("counters: --list-only".into());
    }
    let address = listener.as_ref().and_then(|it| it.local_addr().ok());
    let (textfile, interval) = (settings.textfile, settings.interval);
    let server = Server::start(Arc::clone(&machine), Tasks { listener, textfile, interval })?;
    let ready = server.ready();
    let begun = Box::new(move || {
        ready();
        if let Some(address) = address {
            eprintln!("aiotrace: serving http://{address}/metrics");
        }
    });
    let result = match probes {
        Some(probes) => count(machine, scope, probes, interval, begun),
        None => list(begun),
    };
    server.end();
    result
}

/// Whether trampolines can be attached.
fn trampolines() -> Result<(), bpf::Error> {
    let settings = bpf::machine::settings(target::LISTED)?;
    let mut probes = Probes::load(&settings, bpf::Wanted::Trampoline, None)?;
    probes.attach()?;
    probes.detach();
    Ok(())
}

fn count(
    machine: Arc<Machine>,
    scope: Scope,
    probes: bpf::Wanted,
    interval: Duration,
    begun: Box<dyn FnOnce()>,
) -> Result<()> {
    let settings = trace::Settings {
        probes,
        forgets: true,
        ..trace::Settings::that_counts(Pace::every(interval))
    };
    let plan = Plan { scope, follow: false, launched: false, filtered: false, timeout: None };
    let opens = |_, _: &_| Ok(Opened::of(Box::new(Feed::new(machine, begun))));
    Session::showing(&settings, plan, opens)?.trace(|_| Ok(()))?;
    Ok(())
}

/// Waits for a signal: only scrapes look.
fn list(begun: Box<dyn FnOnce()>) -> Result<()> {
    crate::privileges::drop_after_attach();
    let stop = Stop::new().context("cannot wait for signals")?;
    stop.heed_signals(false).context("cannot start a thread")?;
    begun();
    while !stop.is_asked() {
        let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
    }
    Ok(())
}
