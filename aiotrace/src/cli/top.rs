//! `aiotrace top`: a screen of who does how much, how fast, and what is wrong.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    options::{self, Color, parse_duration},
    target::Target,
};
use crate::{
    clock,
    failure::{Context as _, Failure, Result},
    inventory::{Inventory, machine},
    output::{Format, counting::Counting, json::Json, paths::Paths},
    source::{
        bpf,
        collector::{Pace, Stop, all_signals},
    },
    top::{
        app::App,
        batch::{Batch, Limited},
        choice::{self, Choice, Sort},
        column::Column,
        gather::{Gatherer, Sink, Watched},
        play,
        screen::Screen,
        terminal,
    },
    trace::{self, Opened, Plan, Scope, Session},
};

/// Show who does how much AIO, how fast, who holds fs.aio-nr, and what is wrong, again and again
///
/// On a terminal it is a screen (press ? for the keys), else a table for each interval. Calls are
/// counted in the kernel; single calls are not shown.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// The time from one look to the next (for instance 500ms, 2s). It gets longer, and the screen
    /// says so, where looking takes more than 1 % of a processor
    #[arg(short, long, allow_hyphen_values = true, value_parser = parse_duration, default_value = "1s", value_name = "TIME")]
    delay: Duration,
    /// Write a table for each interval, as if stdout were no terminal
    #[arg(short, long)]
    batch: bool,
    /// With -b: end after N tables
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
    /// Sort by this column: pid, name, ctx, charge, req, mb, infl, unrp, p50, p99, err, f, reap,
    /// eagain, idle, unit; with ,asc the smallest is first
    #[arg(short, long, value_name = "COLUMN[,asc]", value_parser = Sort::parse, default_value = "req")]
    sort: Sort,
    /// Only rows in whose pid, name, context or unit this regular expression is found
    #[arg(short = 'F', long, value_name = "REGEX", value_parser = choice::filter)]
    filter: Option<regex_lite::Regex>,
    /// Only rows that did something in the interval, or have requests in flight
    #[arg(short = 'o', long)]
    active: bool,
    /// These columns, with commas between them
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Column::parse)]
    columns: Vec<Column>,
    /// With -b: text, or json, the `interval` lines of aiotrace-json(5)
    #[arg(long, value_enum, default_value_t = options::Format::Text)]
    format: options::Format,
    /// When to use colours: on a terminal, always or never
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    /// Draw with ASCII characters only
    #[arg(long)]
    ascii: bool,
    #[command(flatten)]
    host_root: options::HostRoot,
    /// Do not use BPF: only contexts are shown, not what is done with them
    #[arg(long, conflicts_with_all = NAMED)]
    proc: bool,
    /// Play a recording, made with `--record FILE`, instead: space stops it, left and right step
    #[arg(value_name = "FILE", conflicts_with_all = ["pids", "cgroup", "unit", "container", "pod", "all", "proc"])]
    file: Option<PathBuf>,
}

/// The options that name targets.
const NAMED: [&str; 5] = ["pids", "cgroup", "unit", "container", "pod"];

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let choice = Choice {
        sort: options.sort,
        filter: options.filter.clone(),
        active: options.active,
        columns: (!options.columns.is_empty()).then(|| options.columns.clone()),
    };
    let is_batch = options.batch || !io::stdout().is_terminal();
    let format = Format::from(options.format);
    if format == Format::Json && !is_batch {
        let failure = Failure::new("--format json writes lines, not a screen");
        return Err(failure.with_hint("add -b, or write to a file or a pipe"));
    }
    if options.iterations.is_some() && !is_batch {
        return Err(Failure::new("-n is for tables, not for a screen").with_hint("add -b"));
    }
    if let Some(file) = &options.file {
        return recording(&options, file, choice, is_batch);
    }
    if format == Format::Json {
        return lines(&options);
    }
    if !is_batch {
        return screen(&options, choice);
    }
    tables(&options, choice)
}

/// A recording, on the screen or as tables.
fn recording(options: &Options, file: &Path, choice: Choice, is_batch: bool) -> Result<u8> {
    if Format::from(options.format) == Format::Json {
        let failure = Failure::new("--format json is for what is counted, not for a recording");
        return Err(failure.with_hint("`aiotrace report --format json FILE` has all of it"));
    }
    let snapshots = play::read(file, options.delay)?;
    if !is_batch {
        play::play(app(options, choice), snapshots).context("cannot show a screen")?;
        return Ok(0);
    }
    let mut batch = Batch::new(io::stdout().lock(), choice, options.iterations);
    for snapshot in snapshots {
        match batch.take(snapshot) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.context("cannot write the output")?,
        }
    }
    Ok(0)
}

/// The screen.
fn screen(options: &Options, choice: Choice) -> Result<u8> {
    let app = app(options, choice);
    gather(options, |pace| Screen::open(app, pace).context("cannot show a screen"))
}

fn app(options: &Options, choice: Choice) -> App {
    let color = match options.color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    };
    let color = terminal::colors(color);
    App::new(choice, color, options.ascii)
}

/// The `interval` lines.
fn lines(options: &Options) -> Result<u8> {
    let pace = Pace::every(options.delay);
    let settings = trace::Settings::that_counts(pace);
    let iterations = options.iterations;
    let json = Json::new(io::stdout().lock(), Paths::none());
    let output = Limited::new(Box::new(json), iterations);
    let output = Counting::new(Box::new(output));
    let session =
        Session::showing(&settings, plan(options)?, |_, _| Ok(Opened::of(Box::new(output))))?;
    session.trace(|_| Ok(()))?;
    Ok(0)
}

/// A table for each interval.
fn tables(options: &Options, choice: Choice) -> Result<u8> {
    gather(options, |_| Ok(Batch::new(io::stdout().lock(), choice, options.iterations)))
}

/// Gathers snapshots for a sink until it wants no more, or a signal comes.
fn gather<S: Sink + 'static>(
    options: &Options,
    sink: impl FnOnce(Pace) -> Result<S>,
) -> Result<u8> {
    let pace = Pace::every(options.delay);
    let inventory = if options.proc { Inventory::by_proc() } else { best()? };
    let inventory = inventory.with_names(options.host_root.names());
    if !inventory.is_by_bpf() {
        block_signals()?;
        let sink = sink(pace.clone())?;
        return listing(Gatherer::new(sink, inventory, Watched::All, pace.clone()), &pace);
    }
    let settings = trace::Settings::that_counts(pace.clone());
    let plan = plan(options)?;
    let watched = match &plan.scope {
        Scope::Processes(all) => Watched::Processes(all.iter().map(|it| it.pid).collect()),
        Scope::Cgroup(cgroup) => Watched::Cgroup(cgroup.clone()),
        _ => Watched::All,
    };
    // The thread of the screen must leave signals to the thread that heeds them.
    block_signals()?;
    let opens = |_, _: &_| {
        let gatherer = Gatherer::new(sink(pace.clone())?, inventory, watched, pace);
        Ok(Opened::of(Box::new(gatherer)))
    };
    let session = Session::showing(&settings, plan, opens)?;
    session.trace(|_| Ok(()))?;
    Ok(0)
}

fn block_signals() -> Result<()> {
    all_signals().thread_block().context("cannot block signals")
}

/// Without BPF: the list of contexts, again and again.
fn listing<S: Sink>(mut gatherer: Gatherer<S>, pace: &Pace) -> Result<u8> {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd as _;

    let stop = Stop::new().context("cannot wait for signals")?;
    stop.heed_signals(false).context("cannot start a thread")?;
    loop {
        match gatherer.look("/proc, without BPF: no requests, no charges") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            other => other.context("cannot write the output")?,
        }
        let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, clock::timeout(pace.interval()));
        if stop.is_asked() {
            return Ok(0);
        }
    }
}

/// Looks with BPF; or, if that does not work, says why and looks in /proc.
fn best() -> Result<Inventory> {
    Ok(Inventory::by_bpf().unwrap_or_else(|error| {
        let mut stderr = io::stderr().lock();
        let _ = writeln!(stderr, "aiotrace: without BPF, from /proc: {}", bpf::reason(&error));
        let _ = writeln!(stderr, "aiotrace: {}", machine::hint(&error));
        Inventory::by_proc()
    }))
}

fn plan(options: &Options) -> Result<Plan> {
    let scope = options.target.clone().scope_or_all(&mut options.host_root.names())?;
    Ok(Plan { scope, follow: false, launched: false, filtered: false, timeout: None })
}
