//! `aiotrace ls`: every AIO context on the machine, and who holds fs.aio-nr. Nothing is traced.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    time::Duration,
};

use aiotrace_common::settings::target;
use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::doctor;
use crate::{
    errand::{Errand as _, Headers, Rings, WaitsInExit},
    event::Ring,
    output::escape::escaped,
    process,
    source::bpf::{list::Lister, load, machine},
};

/// Show every AIO context on the machine, by process, and who holds fs.aio-nr. With BPF (as root) from the
/// kernel's own tables: charges are exact, and contexts whose ring was unmapped are found too. Without, from
/// /proc, with what is unknown named
#[derive(Debug, Args)]
pub struct Options {
    /// Show each context, too
    #[arg(short, long)]
    verbose: bool,
    /// text, or json: one object, specified in docs/json.md
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Again and again, every so many seconds, until Ctrl-C
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
    /// Do not use BPF
    #[arg(long)]
    proc: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Looks until nothing changed meanwhile, at most.
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

/// One look at the machine.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Listing {
    v: u32,
    event: &'static str,
    /// `bpf` or `proc`.
    source: &'static str,
    aio_nr: u64,
    aio_max_nr: u64,
    /// The sum of the charges below; null if they are not known.
    accounted: Option<u64>,
    /// `aio_nr` changed during each look.
    changing: bool,
    /// Contexts that could not be told.
    lost: u32,
    processes: Vec<Holder>,
    /// Processes that are in exit and wait there for requests: their contexts and charges are gone already.
    exiting: Vec<Exiting>,
}

/// A process that is in exit, and waits there for AIO requests in flight.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Exiting {
    pid: u32,
    name: String,
    tid: u32,
}

/// A process with contexts.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Holder {
    pid: u32,
    name: String,
    /// Its cgroup (v2), or null.
    cgroup: Option<String>,
    /// The container, as far as the name of the cgroup tells; or null.
    container: Option<String>,
    /// What its contexts take from fs.aio-nr; null if that is not known.
    charge: Option<u64>,
    /// Completed and not reaped; null if one of the rings could not be read.
    unreaped: Option<u64>,
    /// Requests in flight; null if that is not known.
    in_flight: Option<u64>,
    /// The same, at most.
    in_flight_at_most: Option<u64>,
    contexts: Vec<ContextLine>,
}

/// A context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct ContextLine {
    #[serde(serialize_with = "hex")]
    handle: u64,
    /// What io_setup was asked for.
    charge: Option<u32>,
    /// Entries of its ring, and how many are not reaped; null if it is not mapped, or may not be read.
    ring: Option<u32>,
    unreaped: Option<u32>,
    /// Requests in flight; null where that cannot be read.
    in_flight: Option<u32>,
    /// The same, at most; null without BPF.
    in_flight_at_most: Option<u32>,
}

fn hex<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

impl ContextLine {
    fn new(found: &Found, ring: Option<Ring>) -> Self {
        let Found { handle, charge, in_flight, in_flight_at_most, .. } = *found;
        let (nr, unreaped) = (ring.map(|it| it.nr), ring.map(Ring::unreaped));
        Self { handle, charge, ring: nr, unreaped, in_flight, in_flight_at_most }
    }
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let mut lister = if options.proc { None } else { lister() };
    loop {
        let listing = look(lister.as_mut())?;
        let mut text = match options.format {
            Format::Json => format!("{}\n", serde_json::to_string(&listing)?),
            Format::Text => text(&listing, options.verbose),
        };
        if options.watch.is_some() && options.format == Format::Text {
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            other => other.context("cannot write the output")?,
        }
        let Some(seconds) = options.watch else {
            return Ok(0);
        };
        std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    }
}

/// BPF, or why not.
fn lister() -> Option<Lister> {
    let loaded = machine::settings(target::ALL)
        .and_then(|settings| Lister::load(&machine::with_processors(settings)));
    loaded
        .inspect_err(|error| {
            eprintln!("aiotrace: without BPF, from /proc: {}", load::reason(error));
            eprintln!("aiotrace: {}", doctor::hint(error));
        })
        .ok()
}

fn look(mut lister: Option<&mut Lister>) -> Result<Listing> {
    let mut listing = None;
    for _ in 0..ATTEMPTS {
        let before = limit("aio-nr")?;
        let (contexts, lost) = match &mut lister {
            Some(lister) => {
                let (contexts, lost) = lister.list()?;
                let contexts = contexts.into_iter().map(|it| Found {
                    pid: it.pid,
                    handle: it.handle,
                    charge: Some(it.charge),
                    in_flight: it.in_flight(),
                    in_flight_at_most: it.in_flight_at_most(),
                });
                (contexts.collect::<Vec<_>>(), lost)
            }
            None => (from_proc(), 0),
        };
        let changing = limit("aio-nr")? != before;
        let source = if lister.is_some() { "bpf" } else { "proc" };
        let found = made(source, before, limit("aio-max-nr")?, changing, lost, &contexts);
        // What is a context's own is not changed by another's end; only the sum is.
        let is_done = !changing && found.accounted.is_none_or(|sum| sum == before);
        listing = Some(found);
        if is_done {
            break;
        }
    }
    listing.context("nothing was looked at")
}

fn limit(name: &str) -> Result<u64> {
    let path = format!("/proc/sys/fs/{name}");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path} (a kernel without AIO?)"))?;
    text.trim().parse().with_context(|| format!("{path} holds no number"))
}

/// The rings that processes have mapped. Whether the context is theirs, and what it takes, is not known.
fn from_proc() -> Vec<Found> {
    let rings = |pid: u32| {
        let found = move |(handle, _)| Found {
            pid,
            handle,
            charge: None,
            in_flight: None,
            in_flight_at_most: None,
        };
        Rings { pid }.ask().unwrap_or_default().into_iter().map(found)
    };
    process::all().into_iter().flat_map(rings).collect()
}

fn made(
    source: &'static str,
    aio_nr: u64,
    aio_max_nr: u64,
    changing: bool,
    lost: u32,
    contexts: &[Found],
) -> Listing {
    let mut by_process: BTreeMap<u32, Vec<&Found>> = BTreeMap::new();
    for found in contexts {
        by_process.entry(found.pid).or_default().push(found);
    }
    let mut processes: Vec<Holder> = by_process
        .into_iter()
        .map(|(pid, found)| {
            let handles = found.iter().map(|it| it.handle).collect();
            let rings = Headers { pid, handles, all_pages: false }.ask();
            let mut rings = rings.into_iter().flatten();
            let line = |it| ContextLine::new(it, rings.next().flatten().map(Ring::from));
            let mut contexts: Vec<ContextLine> = found.into_iter().map(line).collect();
            contexts.sort_by_key(|it| (std::cmp::Reverse(it.charge), it.handle));
            Holder {
                pid,
                name: escaped(&process::name(pid).unwrap_or_default()),
                container: process::cgroup(pid)
                    .and_then(|it| container(&String::from_utf8_lossy(&it))),
                cgroup: process::cgroup(pid).map(|it| escaped(&it)),
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
    Listing {
        v: 1,
        event: "ls",
        source,
        aio_nr,
        aio_max_nr,
        accounted: accounted.filter(|_| source == "bpf"),
        changing,
        lost,
        processes,
        exiting: exiting(),
    }
}

fn exiting() -> Vec<Exiting> {
    let of = |pid: u32| {
        let tid = WaitsInExit { pid }.ask()??;
        Some(Exiting { pid, name: escaped(&process::name(pid)?), tid })
    };
    process::all().into_iter().filter_map(of).collect()
}

/// `docker:0123456789ab` for a cgroup as container engines name them: `docker-ID.scope`, `/docker/ID`,
/// `libpod-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `lxc.payload.NAME`.
fn container(cgroup: &str) -> Option<String> {
    let is_id = |it: &str| it.len() == 64 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut before = "";
    for part in cgroup.split('/') {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        if let Some(name) = name.strip_prefix("lxc.payload.") {
            return Some(format!("lxc:{}", escaped(name.as_bytes())));
        }
        let (engine, id) = name.rsplit_once('-').unwrap_or((before, name));
        if is_id(id) {
            let engine = if engine.is_empty() { "container" } else { engine };
            return Some(format!("{}:{}", escaped(engine.as_bytes()), &id[..12]));
        }
        before = part;
    }
    None
}

/// The line people need, then a table.
fn text(listing: &Listing, verbose: bool) -> String {
    let mut out = String::new();
    let percent = |part: u64, whole: u64| {
        if whole == 0 {
            "-".to_owned()
        } else {
            let percent = part as f64 * 100.0 / whole as f64;
            let digits = if part > 0 && percent < 1.0 { 2 } else { 0 };
            format!("{percent:.digits$} %")
        }
    };
    let _ = write!(
        out,
        "fs.aio-nr {} of {} ({})",
        thousands(listing.aio_nr),
        thousands(listing.aio_max_nr),
        percent(listing.aio_nr, listing.aio_max_nr)
    );
    let holders: Vec<String> = listing.processes.iter().take(3).map(summary).collect();
    if !holders.is_empty() {
        let rest = if listing.processes.len() > holders.len() { ", ..." } else { "" };
        let _ = write!(out, ": {}{rest}", holders.join(", "));
    }
    out.push('\n');
    let in_namespace = process::pid_namespace().is_some();
    let _ = writeln!(out, "{}", accounting(listing, in_namespace));
    for it in &listing.exiting {
        let _ = writeln!(
            out,
            "{}:{} is in exit and waits there for AIO requests in flight (thread {}, exit_aio): its contexts are gone \
             from the list already",
            it.name, it.pid, it.tid
        );
    }
    if listing.processes.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "\n{:>8} {:<16} {:>8} {:>10} {:>9} {:>9}  CONTAINER OR CGROUP",
        "PID", "NAME", "CONTEXTS", "CHARGE", "UNREAPED", "IN FLIGHT"
    );
    for process in &listing.processes {
        let charge = process.charge.map_or("?".to_owned(), thousands);
        // What may be in flight at most answers no question: for an idle context it is half of its ring.
        let in_flight = process.in_flight.map_or("?".to_owned(), thousands);
        let unreaped = process.unreaped.map_or("?".to_owned(), thousands);
        let _ = writeln!(
            out,
            "{:>8} {:<16} {:>8} {charge:>10} {unreaped:>9} {in_flight:>9}  {}",
            process.pid,
            process.name,
            process.contexts.len(),
            process.container.as_ref().or(process.cgroup.as_ref()).map_or("-", |it| it),
        );
        for context in process.contexts.iter().filter(|_| verbose) {
            let _ = writeln!(out, "{}", detail(context));
        }
    }
    let is_unknown = listing.processes.iter().any(|it| it.in_flight.is_none());
    if is_unknown && listing.source == "bpf" {
        let why = "IN FLIGHT ?: this kernel does not show what each processor keeps (CONFIG_KALLSYMS_ALL); -v has the most \
                   there can be";
        let _ = writeln!(out, "\n{why}");
    }
    out
}

/// `mariadbd 12 x 2,048`, or the sum if they are not all alike.
fn summary(process: &Holder) -> String {
    let name = &process.name;
    let count = process.contexts.len();
    let charges: Vec<Option<u32>> = process.contexts.iter().map(|it| it.charge).collect();
    match (charges.first(), process.charge) {
        (Some(Some(each)), _) if charges.iter().all(|it| *it == Some(*each)) => {
            format!("{name} {} x {}", thousands(count as u64), thousands(u64::from(*each)))
        }
        (_, Some(sum)) => format!("{name} {}", thousands(sum)),
        _ => format!("{name} {} contexts", thousands(count as u64)),
    }
}

fn accounting(listing: &Listing, in_namespace: bool) -> String {
    let Some(sum) = listing.accounted else {
        return "charges unknown without BPF; contexts whose ring was unmapped are not found, and a \
                forked child may show its parent's"
            .to_owned();
    };
    if listing.lost > 0 {
        return format!(
            "accounted {}; {} contexts could not be told",
            thousands(sum),
            listing.lost
        );
    }
    match listing.aio_nr.checked_sub(sum) {
        Some(0) => "accounted 100 %".to_owned(),
        Some(_) | None if listing.changing => {
            format!("accounted {} (fs.aio-nr changes while we look)", thousands(sum))
        }
        Some(rest) if in_namespace => {
            format!(
                "accounted {}, unaccounted {}: other pid namespaces",
                thousands(sum),
                thousands(rest)
            )
        }
        Some(rest) => {
            format!(
                "accounted {}, unaccounted {}: contexts that are ending",
                thousands(sum),
                thousands(rest)
            )
        }
        None => format!("accounted {}: contexts that are beginning", thousands(sum)),
    }
}

fn detail(context: &ContextLine) -> String {
    let charge = context.charge.map_or("?".to_owned(), |it| thousands(u64::from(it)));
    let ring = match (context.ring, context.unreaped) {
        (Some(ring), Some(unreaped)) => {
            let ring = thousands(u64::from(ring));
            let most = context.in_flight_at_most.map(u64::from);
            let in_flight = in_flight(context.in_flight.map(u64::from), most);
            format!("ring of {ring}, {unreaped} unreaped, {in_flight} in flight")
        }
        _ => "ring unmapped or not readable".to_owned(),
    };
    format!("{:>10} {:#x}  {charge}  {ring}", "", context.handle)
}

/// `5`, `<=20`, or `?`.
fn in_flight(exactly: Option<u64>, at_most: Option<u64>) -> String {
    match (exactly, at_most) {
        (Some(count), _) => thousands(count),
        (None, Some(most)) => format!("<={}", thousands(most)),
        (None, None) => "?".to_owned(),
    }
}

fn thousands(number: u64) -> String {
    crate::words::number::thousands(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(handle: u64, charge: Option<u32>) -> ContextLine {
        let found =
            Found { pid: 17, handle, charge, in_flight: Some(5), in_flight_at_most: Some(20) };
        ContextLine::new(&found, Some(Ring { head: 1, tail: 3, nr: 127 }))
    }

    fn listing(charges: &[u32], aio_nr: u64) -> Listing {
        let contexts: Vec<_> =
            charges.iter().zip(1..).map(|(it, at)| context(at * 4096, Some(*it))).collect();
        let charge = charges.iter().map(|it| u64::from(*it)).sum();
        let holder = Holder {
            pid: 17,
            name: "mariadbd".into(),
            cgroup: Some("/db".into()),
            charge: Some(charge),
            unreaped: 4,
            in_flight: Some(10),
            in_flight_at_most: Some(40),
            container: None,
            contexts,
        };
        Listing {
            v: 1,
            event: "ls",
            source: "bpf",
            aio_nr,
            aio_max_nr: 65_536,
            accounted: Some(charge),
            changing: false,
            lost: 0,
            processes: vec![holder],
            exiting: Vec::new(),
        }
    }

    #[test]
    fn the_first_line_names_who_holds_most() {
        let shown = text(&listing(&[2048, 2048], 4096), false);
        assert!(
            shown.starts_with("fs.aio-nr 4,096 of 65,536 (6 %): mariadbd 2 x 2,048\n"),
            "{shown}"
        );
        assert!(shown.contains("accounted 100 %"), "{shown}");
        let mixed = text(&listing(&[2048, 8], 2056), true);
        assert!(mixed.contains(": mariadbd 2,056\n"), "{mixed}");
        assert!(mixed.contains("0x1000  2,048  ring of 127, 2 unreaped, 5 in flight"), "{mixed}");
    }

    #[test]
    fn what_is_in_flight_is_known_exactly_or_at_most() {
        assert_eq!(in_flight(Some(1024), Some(2000)), "1,024");
        assert_eq!(in_flight(None, Some(60)), "<=60");
        assert_eq!(in_flight(None, None), "?");
    }

    #[test]
    fn a_container_is_told_by_the_name_of_its_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        let named = |cgroup: &str| container(&cgroup.replace("ID", &id));
        let docker = Some("docker:0123456789ab".to_owned());
        assert_eq!(named("/system.slice/docker-ID.scope"), docker);
        assert_eq!(named("/docker/ID"), docker);
        let containerd = Some("cri-containerd:0123456789ab".to_owned());
        assert_eq!(named("/kubepods.slice/x/cri-containerd-ID.scope/init"), containerd);
        assert_eq!(named("/machine.slice/libpod-ID.scope").unwrap(), "libpod:0123456789ab");
        assert_eq!(named("/lxc.payload.web/system.slice").unwrap(), "lxc:web");
        assert_eq!(named("/user.slice/user-0.slice"), None);
    }

    #[test]
    fn in_a_container_the_rest_is_elsewhere() {
        let text = accounting(&listing(&[8], 10), true);
        assert_eq!(text, "accounted 8, unaccounted 2: other pid namespaces");
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(text(&listing(&[8], 10), false).contains("accounted 8, unaccounted 2: "));
        let lost = Listing { lost: 3, ..listing(&[8], 10) };
        assert!(text(&lost, false).contains("3 contexts could not be told"));
        let proc = Listing { accounted: None, ..listing(&[8], 10) };
        assert!(text(&proc, false).contains("charges unknown without BPF"));
        let changing = Listing { changing: true, ..listing(&[8], 10) };
        assert!(text(&changing, false).contains("changes while we look"));
    }
}
