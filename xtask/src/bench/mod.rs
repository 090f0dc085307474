//! `cargo xtask bench`: what tracing costs, with aiotrace and with the tools people use, side by side.
//!
//! Each round goes through all rows, so that a machine that is busy for a while affects all of
//! them. Each row is compared with an untraced run just before it, and medians are shown. The
//! command does not fail if something takes long.

mod document;
mod guest;
mod measure;
mod micro;
mod table;
mod targets;
mod tracer;
mod workload;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{
    table::Row,
    tracer::{TRACERS, Tracer},
    workload::Workload,
};
use crate::{
    binaries,
    command::{self, REQUIRE_EBPF, cargo},
    probes::Toolchain,
};

/// Measure what tracing costs, beside strace, perf and bpftrace
#[derive(Debug, Args)]
pub struct Options {
    /// How often each row is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Run only a tenth of the operations
    #[arg(long)]
    quick: bool,
    /// Only rows whose names contain this, for instance pair, or "disk: aiotrace"
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Put the tables into docs/reference/performance.md
    #[arg(long)]
    docs: bool,
    /// Measure in a virtual machine with this kernel instead, in which a nanosecond is an
    /// instruction: a file, or a part of the name of one in AIOTRACE_KERNELS. May be repeated
    #[arg(long, value_name = "FILE|NAME")]
    vm: Vec<String>,
}

/// The binaries that are measured, and where files may be written.
pub struct Machine {
    aiotrace: PathBuf,
    programs: PathBuf,
    floor: PathBuf,
    object: PathBuf,
    /// A directory on a disk, for fio's file and for what most tools write.
    directory: PathBuf,
    is_quick: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if !options.vm.is_empty() {
        return guest::run(&options.vm, options.docs);
    }
    let machine = Machine::build(options.quick)?;
    let is_wanted = |row: &Row| options.only.as_ref().is_none_or(|it| row.name().contains(it));
    let rows = machine.measure(all().into_iter().filter(is_wanted).collect(), options.rounds);
    if rows.is_empty() {
        bail!("no row has {:?} in its name", options.only);
    }
    let mut text = format!("{}\n{}\n{}", about()?, targets::table(&rows), table::tables(&rows));
    if options.only.is_none() {
        text.push_str(&micro::run()?);
    }
    println!("{text}");
    if options.docs {
        document::write(document::Part::Machine, &text)?;
    }
    Ok(())
}

/// Runs one round with aiotrace, the floor and strace. Fails unless each row has a number and
/// aiotrace says what it lost.
pub fn smoke() -> Result<()> {
    let machine = Machine::build(true)?;
    let is_sure = |row: &Row| {
        row.tracer.is_ours()
            || row.tracer.name.starts_with("floor")
            || row.tracer.name.starts_with("strace")
    };
    let is_wanted = |row: &Row| {
        row.workload == Workload::Pair && is_sure(row) || row.name() == "disk: aiotrace, text"
    };
    let rows = machine.measure(all().into_iter().filter(is_wanted).collect(), 1);
    println!("{}{}", targets::table(&rows), table::tables(&rows));
    for row in &rows {
        if row.samples.is_empty() {
            bail!("{}: {}", row.name(), row.problem.as_deref().unwrap_or("no number"));
        }
        if row.tracer.is_ours() && row.lost().is_none() {
            bail!("{}: it does not say what it lost", row.name());
        }
    }
    Ok(())
}

/// All rows: every tool on every workload that it is measured with.
fn all() -> Vec<Row> {
    let of = |workload: Workload| {
        let with_it = TRACERS.iter().filter(move |it| it.on.contains(&workload));
        with_it.map(move |tracer| Row { workload, tracer, samples: Vec::new(), problem: None })
    };
    Workload::ALL.into_iter().flat_map(of).collect()
}

/// The package to install for a tool that is not there, in words.
fn missing(tracer: &Tracer) -> Option<String> {
    let program = match tracer.command.first() {
        Some(program) if program.starts_with('{') => return None,
        // bpftrace is run by unshare.
        Some(&"unshare") => "bpftrace",
        Some(program) => program,
        None => return None,
    };
    let package = if program == "perf" { "linux-perf" } else { program };
    which::which(program).err().map(|_| format!("not installed: apt-get install {package}"))
}

impl Machine {
    /// Builds aiotrace, the workloads and the floor.
    fn build(is_quick: bool) -> Result<Self> {
        if !command::is_root() {
            bail!("aiotrace loads programs into the kernel: {}", command::as_root("bench"));
        }
        let target = binaries::target_directory()?;
        // A short run shows that it works, and takes what is built.
        let built = target.join(if is_quick { "debug" } else { "release" });
        let mut build = cargo(&["build"]);
        if is_quick {
            build.args(binaries::TESTED);
        } else {
            build.args(["--release", "-p", "aiotrace", "-p", "aio-programs"]);
        }
        let (key, value) = REQUIRE_EBPF;
        command::run(build.args(["--bins", "--example", "floor"]).env(key, value))?;
        let directory = target.join("bench");
        fs::create_dir_all(&directory)?;
        Ok(Self {
            aiotrace: built.join("aiotrace"),
            programs: built.join("aio-programs"),
            floor: built.join("examples/floor"),
            object: build_floor()?,
            directory,
            is_quick,
        })
    }

    /// Measures all rows, `rounds` times.
    fn measure(&self, mut rows: Vec<Row>, rounds: usize) -> Vec<Row> {
        for row in &mut rows {
            row.problem = missing(row.tracer);
        }
        let is_used = |workload: &Workload| rows.iter().any(|it| it.workload == *workload);
        let used: Vec<Workload> = Workload::ALL.into_iter().filter(is_used).collect();
        for workload in &used {
            if let Err(error) = workload.prepare(self) {
                eprintln!("xtask: {}: {error:#}", workload.name());
            }
        }
        for round in 1..=rounds {
            for row in rows.iter_mut().filter(|it| it.problem.is_none()) {
                match measure::sample(row.workload, row.tracer, self) {
                    Ok(sample) => {
                        eprintln!(
                            "round {round}: {}: {:.0}, untraced {:.0}",
                            row.name(),
                            sample.traced,
                            sample.untraced
                        );
                        row.samples.push(sample);
                    }
                    Err(error) => {
                        eprintln!("round {round}: {}: {error:#}", row.name());
                        row.problem = Some(format!("failed: {error:#}"));
                    }
                }
            }
        }
        for workload in used {
            workload.clean(self);
        }
        rows
    }
}

/// Builds the BPF object of the floor, as aiotrace/build.rs builds the probes.
fn build_floor() -> Result<PathBuf> {
    let directory = binaries::target_directory()?.join("floor");
    let mut build = Toolchain::find().unwrap_or(Toolchain::Own).cargo("build");
    build
        .args(["-p", "aiotrace-ebpf", "--bin", "aiotrace-ebpf-floor", "--features", "floor"])
        .args(["--release", "--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(&directory)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf");
    if let Ok(linker) = which::which("bpf-linker") {
        build.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
    }
    command::run(&mut build)?;
    Ok(directory.join("bpfel-unknown-none/release/aiotrace-ebpf-floor"))
}

/// The machine, and the versions of the kernel and of all tools.
fn about() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .context("/proc/cpuinfo names no processor")?
        .1;
    let count = processors.lines().filter(|it| it.starts_with("processor")).count();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let version = |program: &str, argument: &str| {
        let said = command::output(Command::new(program).arg(argument)).unwrap_or_default();
        let line = said.lines().next().unwrap_or_default();
        let version = line
            .split([' ', '-'])
            .find(|it| it.trim_start_matches('v').starts_with(|it: char| it.is_ascii_digit()));
        format!("{program} {}", version.unwrap_or("not installed"))
    };
    let tools = [
        version("strace", "--version"),
        version("perf", "--version"),
        version("bpftrace", "--version"),
        version("fio", "--version"),
    ];
    Ok(format!(
        "{model}, {count} processors; Linux {}; aiotrace {}; {}.\n",
        release.trim(),
        env!("CARGO_PKG_VERSION"),
        tools.join("; ")
    ))
}
