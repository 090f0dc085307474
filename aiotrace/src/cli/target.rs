//! The options that say what is traced: processes by id or name, a cgroup, a unit, a container, a pod, or everything.

use std::path::{Path, PathBuf};

use clap::Args;

use super::complete;
use crate::{
    errand::{OpenError, Opened, open},
    failure::{Failure, Result},
    inventory::Inventory,
    names::{self, Names},
    proc,
    trace::{Cgroup, Scope, find_unit, whole_unit},
    words::escape::escaped,
};

/// What is traced.
#[derive(Clone, Debug, Args)]
#[group(multiple = false)]
pub struct Target {
    /// Trace these processes: ids or names, with commas or blanks between them
    ///
    /// A name means all processes of exactly this name, as `ps -e` shows it. The id of a thread stands for its process.
    #[arg(short, long = "pid", value_name = "PID|NAME", value_parser = parse_processes, num_args = 1..,
          add = complete::process())]
    pids: Vec<Wanted>,
    /// Trace every process in this cgroup (v2) or below it
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::DirPath)]
    cgroup: Option<PathBuf>,
    /// Trace every process of this systemd unit
    #[arg(long, value_name = "NAME", add = complete::unit())]
    unit: Option<String>,
    /// Trace every process of this container: its name, its id, or the beginning of that
    #[arg(long, value_name = "ID|NAME", add = complete::container())]
    container: Option<String>,
    /// Trace every process of this pod of Kubernetes
    #[arg(long, value_name = "NAMESPACE/POD", value_parser = names::Wanted::pod, add = complete::pod())]
    pod: Option<names::Wanted>,
    /// Trace every process
    #[arg(short, long)]
    all: bool,
}

/// Processes, as `pidof` and other tools write them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted(Vec<Process>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Process {
    Id(u32),
    Named(String),
}

fn parse_processes(text: &str) -> Result<Wanted, String> {
    let words = text.split([',', ' ', '\t', '\n']).filter(|it| !it.is_empty());
    let one = |word: &str| match word.parse() {
        Ok(id) => Ok(Process::Id(id)),
        Err(_) if word.starts_with('-') || word.bytes().all(|it| it.is_ascii_digit()) => {
            Err(format!("{word:?} is no process id, and no name of a process"))
        }
        Err(_) => Ok(Process::Named(word.to_owned())),
    };
    let wanted = words.map(one).collect::<Result<Vec<_>, _>>()?;
    if wanted.is_empty() {
        Err("no process id (does the program run?)".into())
    } else {
        Ok(Wanted(wanted))
    }
}

impl Target {
    /// What these options stand for.
    ///
    /// # Errors
    /// If there is no such process, cgroup, unit, container or pod, or if nothing is named.
    pub fn scope(self, names: &mut Names) -> Result<Scope> {
        let is_place = self.cgroup.is_some() || self.unit.is_some();
        let is_named = is_place || self.container.is_some() || self.pod.is_some();
        if !self.all && self.pids.is_empty() && !is_named {
            return Err(which());
        }
        self.scope_or_all(names)
    }

    /// What these options stand for: if nothing is named, everything.
    ///
    /// # Errors
    /// If there is no such process, cgroup, unit, container or pod.
    pub fn scope_or_all(self, names: &mut Names) -> Result<Scope> {
        let Self { pids, cgroup, unit, container, pod, all: _ } = self;
        if let Some(wanted) = container.map(names::Wanted::Container).or(pod) {
            return contained(names.find(&wanted)?);
        }
        Ok(match (cgroup, unit) {
            (Some(path), _) => Scope::Cgroup(Cgroup::find(&path)?),
            (None, Some(name)) => match find_unit(&name)? {
                Some(path) => Scope::Cgroup(Cgroup::find(&path)?),
                // With v1, systemd's own hierarchy has the unit.
                None => contained(names.find(&names::Wanted::Unit(whole_unit(&name)))?)?,
            },
            (None, None) if pids.is_empty() => Scope::All,
            (None, None) => {
                Scope::Processes(open_all(pids.into_iter().flat_map(|it| it.0).collect())?)
            }
        })
    }
}

/// The processes of a container or a pod: by its cgroup, so that those that come later are traced, too.
fn contained(found: names::Found) -> Result<Scope> {
    let names::Found { cgroup, pids, text } = found;
    if let Some(cgroup) = cgroup.and_then(|it| Cgroup::find(Path::new(&it)).ok()) {
        return Ok(Scope::Cgroup(cgroup));
    }
    let opened: Vec<Opened> = pids.into_iter().filter_map(|it| open(it).ok()).collect();
    if opened.is_empty() {
        return Err(Failure::new(format!("the processes of {text} have ended")));
    }
    let ids: Vec<String> = opened.iter().map(|it| it.pid.to_string()).collect();
    eprintln!(
        "aiotrace: {text} has no cgroup of v2 here: tracing its processes of now ({}; -f: their children, too)",
        ids.join(", ")
    );
    Ok(Scope::Processes(opened))
}

fn open_all(wanted: Vec<Process>) -> Result<Vec<Opened>> {
    let mut opened: Vec<Opened> = Vec::new();
    let mut add = |process: Opened| {
        if opened.iter().all(|it| it.pid != process.pid) {
            opened.push(process);
        }
    };
    for it in wanted {
        match it {
            Process::Id(id) => {
                let process = open(id).map_err(explain)?;
                if process.pid != id {
                    eprintln!(
                        "aiotrace: {id} is a thread of process {}: tracing the process",
                        process.pid
                    );
                }
                add(process);
            }
            Process::Named(name) => named(&name)?.into_iter().for_each(&mut add),
        }
    }
    Ok(opened)
}

/// The kernel keeps this much of a name.
const LONGEST_NAME: usize = 15;

/// All processes of this name; says which.
fn named(name: &str) -> Result<Vec<Opened>> {
    let kept = name.as_bytes().get(..LONGEST_NAME).unwrap_or(name.as_bytes());
    let mut pids = proc::all();
    pids.retain(|pid| *pid != std::process::id() && proc::name(*pid).is_some_and(|it| it == kept));
    pids.sort_unstable();
    // One that ended in this moment is no longer meant.
    let opened: Vec<Opened> = pids.into_iter().filter_map(|it| open(it).ok()).collect();
    if opened.is_empty() {
        let failure = Failure::new(format!("no process has the name {}", escaped(name.as_bytes())));
        return Err(failure.with_hint("`ps -e` shows the names, `aiotrace ls` who uses AIO"));
    }
    let ids: Vec<String> = opened.iter().map(|it| it.pid.to_string()).collect();
    eprintln!("aiotrace: {} is {}", escaped(name.as_bytes()), ids.join(", "));
    Ok(opened)
}

fn explain(error: OpenError) -> Failure {
    let hint = match &error {
        OpenError::Gone(_) => {
            "it may have ended, or have another id here if it is in a container; \
                               `pidof NAME` or `ps -e` show what runs"
        }
        OpenError::Other { .. } => "run as root",
    };
    Failure::from(error).with_hint(hint)
}

/// At most so many processes are proposed.
const PROPOSED: usize = 10;

/// Nothing was named: says who could be meant.
fn which() -> Failure {
    let by_bpf = Inventory::by_bpf().ok().and_then(|mut it| it.look().ok());
    let listing = by_bpf.or_else(|| Inventory::by_proc().look().ok());
    let processes = listing.map(|it| it.processes).unwrap_or_default();
    let Some(first) = processes.first() else {
        return Failure::new("which process? None is seen that has an AIO context now").with_hint(
            "name one with -p PID or -p NAME, --unit, --container, --pod or --cgroup; `-a` traces every \
             process, `aiotrace run -- CMD` a new one",
        );
    };
    let mut text = "which process? These use AIO now:".to_owned();
    for it in processes.iter().take(PROPOSED) {
        let contexts = it.contexts.len();
        let plural = if contexts == 1 { "" } else { "s" };
        text.push_str(&format!("\n  {:>7} {:<15} {contexts} context{plural}", it.pid, it.name));
    }
    if processes.len() > PROPOSED {
        text.push_str(&format!("\n  and {} more: `aiotrace ls`", processes.len() - PROPOSED));
    }
    let hint = format!("for instance: aiotrace attach -q --duration 12s -p {}", first.pid);
    Failure::new(text).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u32]) -> Result<Wanted, String> {
        Ok(Wanted(ids.iter().map(|it| Process::Id(*it)).collect()))
    }

    #[test]
    fn processes_come_as_pidof_writes_them() {
        assert_eq!(parse_processes("12,13"), ids(&[12, 13]));
        assert_eq!(parse_processes("12 13\n"), ids(&[12, 13]));
        assert!(parse_processes("").unwrap_err().contains("does the program run?"));
        let both = Wanted(vec![Process::Id(12), Process::Named("fio".to_owned())]);
        assert_eq!(parse_processes("12,fio"), Ok(both));
        for bad in ["-1", "99999999999"] {
            assert!(parse_processes(bad).unwrap_err().contains("is no process id"), "{bad}");
        }
    }

    #[test]
    fn a_long_name_is_compared_as_the_kernel_keeps_it() {
        let error = named("aiotrace-there-is-none-of-this-name").unwrap_err();
        assert!(error.text().contains("no process has the name aiotrace-there"), "{error:?}");
    }
}
