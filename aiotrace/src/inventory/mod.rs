//! What there is on this machine, found out without a trace: every AIO context and who holds
//! fs.aio-nr (`aiotrace ls`), and what the machine allows ([`doctor`]).

pub mod capacity;
mod capacity_table;
pub mod doctor;
pub mod machine;
mod table;

use std::collections::BTreeMap;

use aiotrace_common::settings::target;

use crate::{
    errand::{Errand as _, Headers, Rings, WaitsInExit},
    event::Ring,
    failure::{Context as _, Failure, Result},
    names::{Container, Names},
    output::json::{
        ExitingProcess, Hex, ListedContext, ListedProcess, ListingLine, PodObject, VERSION,
    },
    proc,
    source::bpf::{self, list::Lister},
    words::escape::escaped,
};

/// How often to look at most, until a look during which nothing changed.
const ATTEMPTS: usize = 10;

/// A context that was found.
#[derive(Clone, Copy, Debug)]
struct Found {
    pid: u32,
    handle: u64,
    charge: Option<u32>,
    in_flight: Option<u32>,
    in_flight_at_most: Option<u32>,
}

fn listed(found: &Found, ring: Option<Ring>) -> ListedContext {
    let Found { handle, charge, in_flight, in_flight_at_most, .. } = *found;
    let (nr, unreaped) = (ring.map(|it| it.nr), ring.map(Ring::unreaped));
    let handle = Hex(handle);
    ListedContext { handle, charge, ring: nr, unreaped, in_flight, in_flight_at_most }
}

/// Looks at the machine: with BPF if it has a lister, or in /proc.
pub struct Inventory {
    lister: Option<Lister>,
    /// Whether the rings are read, which the kernel allows only to who may trace the process.
    reads_rings: bool,
    names: Names,
}

impl Inventory {
    /// Looks with BPF, in the kernel's own tables.
    ///
    /// # Errors
    /// If BPF cannot be used.
    pub fn by_bpf() -> Result<Self, bpf::Error> {
        let settings = bpf::machine::with_processors(bpf::machine::settings(target::ALL)?);
        Ok(Self {
            lister: Some(Lister::load(&settings)?),
            reads_rings: true,
            names: Names::default(),
        })
    }

    /// Looks in /proc, where not everything is known.
    pub fn by_proc() -> Self {
        Self { lister: None, reads_rings: true, names: Names::default() }
    }

    /// Takes the names of containers and pods from `names`.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Reads no ring: what is unreaped is not known then.
    #[must_use]
    pub fn without_rings(self) -> Self {
        Self { reads_rings: false, ..self }
    }

    /// Looks at the machine, several times if contexts come and go meanwhile.
    ///
    /// # Errors
    /// If the kernel does not say how much is in use, or the lister fails.
    pub fn look(&mut self) -> Result<ListingLine> {
        let listing = self.look_often(ATTEMPTS)?;
        Ok(ListingLine { exiting: exiting(), ..listing })
    }

    /// Looks once, for somebody who will look again soon: contexts may come and go meanwhile, and
    /// nobody asks for processes that wait in exit.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn glance(&mut self) -> Result<ListingLine> {
        self.look_often(1)
    }

    /// Whether it reads the rings.
    pub fn reads_rings(&self) -> bool {
        self.reads_rings
    }

    /// Whether it looks with BPF.
    pub fn is_by_bpf(&self) -> bool {
        self.lister.is_some()
    }

    fn look_often(&mut self, attempts: usize) -> Result<ListingLine> {
        let mut listing = None;
        for _ in 0..attempts {
            let before = limit("aio-nr")?;
            let (contexts, lost, unknown) = match &mut self.lister {
                Some(lister) => {
                    let (contexts, lost) =
                        lister.list().map_err(|error| Failure::new(bpf::reason(&error)))?;
                    let contexts = contexts.into_iter().map(|it| Found {
                        pid: it.pid,
                        handle: it.handle,
                        charge: Some(it.charge),
                        in_flight: it.in_flight(),
                        in_flight_at_most: it.in_flight_at_most(),
                    });
                    (contexts.collect::<Vec<_>>(), lost, 0)
                }
                None => {
                    let (contexts, unknown) = from_proc();
                    (contexts, 0, unknown)
                }
            };
            let changing = limit("aio-nr")? != before;
            let source = if self.lister.is_some() { "bpf" } else { "proc" };
            let limits = (before, limit("aio-max-nr")?);
            let rest = (changing, lost, unknown);
            let found = self.made(source, limits, rest, &contexts);
            // The end of one context does not change what was read of another: only the sum may be
            // wrong.
            let is_done = !changing && found.accounted.is_none_or(|sum| sum == before);
            listing = Some(found);
            if is_done {
                break;
            }
        }
        listing.context("nothing was looked at")
    }

    /// What is told of the contexts that were found.
    fn made(
        &mut self,
        source: &'static str,
        (aio_nr, aio_max_nr): (u64, u64),
        (changing, lost, unknown): (bool, u32, u32),
        contexts: &[Found],
    ) -> ListingLine {
        let mut by_process: BTreeMap<u32, Vec<&Found>> = BTreeMap::new();
        for found in contexts {
            by_process.entry(found.pid).or_default().push(found);
        }
        let whose = self.names.whose(&by_process.keys().copied().collect::<Vec<u32>>());
        let mut processes: Vec<ListedProcess> = by_process
            .into_iter()
            .zip(whose)
            .map(|((pid, found), who)| {
                let text = |it: &Option<String>| it.as_ref().map(|it| escaped(it.as_bytes()));
                let handles = found.iter().map(|it| it.handle).collect();
                let headers = Headers { pid, handles, all_pages: false };
                let rings = if self.reads_rings { headers.ask() } else { None };
                let mut rings = rings.into_iter().flatten();
                let line = |it| listed(it, rings.next().flatten().map(Ring::from));
                let mut contexts: Vec<ListedContext> = found.into_iter().map(line).collect();
                contexts.sort_by_key(|it| (std::cmp::Reverse(it.charge), it.handle.0));
                ListedProcess {
                    pid,
                    name: escaped(&proc::name(pid).unwrap_or_default()),
                    unit: text(&who.unit),
                    container: text(&who.container.as_ref().map(Container::short)),
                    container_name: text(&who.container.as_ref().and_then(|it| it.name.clone())),
                    pod: who.pod.as_ref().map(PodObject::of),
                    who: text(&who.text()),
                    cgroup: proc::cgroup(pid).map(|it| escaped(&it)),
                    charge: contexts.iter().map(|it| it.charge.map(u64::from)).sum(),
                    unreaped: contexts.iter().map(|it| it.unreaped.map(u64::from)).sum(),
                    in_flight: contexts.iter().map(|it| it.in_flight.map(u64::from)).sum(),
                    in_flight_at_most: contexts
                        .iter()
                        .map(|it| it.in_flight_at_most.map(u64::from))
                        .sum(),
                    contexts,
                }
            })
            .collect();
        processes.sort_by_key(|it| (std::cmp::Reverse(it.charge), it.pid));
        let accounted = processes.iter().map(|it| it.charge).sum::<Option<u64>>();
        ListingLine {
            v: VERSION,
            event: "ls".into(),
            source: source.into(),
            aio_nr,
            aio_max_nr,
            accounted: accounted.filter(|_| source == "bpf"),
            changing,
            lost,
            unknown,
            processes,
            exiting: Vec::new(),
        }
    }
}

fn limit(name: &str) -> Result<u64> {
    let number = proc::system::sysctl_number(&format!("fs/{name}"));
    number.with_context(|| format!("cannot read /proc/sys/fs/{name} (a kernel without AIO?)"))
}

/// The rings that processes have mapped, and how many processes could not be looked at. Whether a
/// ring's context belongs to the process, and what its charge is, is not known.
fn from_proc() -> (Vec<Found>, u32) {
    let (mut contexts, mut unknown) = (Vec::new(), 0);
    for pid in proc::all() {
        match (Rings { pid }).ask().flatten() {
            Some(rings) => contexts.extend(rings.into_iter().map(|(handle, _)| Found {
                pid,
                handle,
                charge: None,
                in_flight: None,
                in_flight_at_most: None,
            })),
            None => unknown += u32::from(proc::is_alive(pid)),
        }
    }
    (contexts, unknown)
}

fn exiting() -> Vec<ExitingProcess> {
    let of = |pid: u32| {
        let tid = WaitsInExit { pid }.ask()??;
        Some(ExitingProcess { pid, name: escaped(&proc::name(pid)?), tid })
    };
    proc::all().into_iter().filter_map(of).collect()
}
