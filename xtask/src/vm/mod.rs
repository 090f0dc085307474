//! `cargo xtask vm`: the kernel tests on other kernels, in QEMU.
//!
//! The guest's init (xtask/init) runs the very test binary that runs on this machine, once with the probe
//! set that is best there, and once with each of the others. Which kernels there are, and what each can
//! do, is a table that the tests and this command share: aiotrace/tests/kernel/kernels.rs.

mod boot;
mod initramfs;
mod results;
#[path = "../../../aiotrace/tests/kernel/kernels.rs"]
#[expect(dead_code, reason = "the tests read the rest")]
mod table;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use self::{
    boot::{Clock, Console, Qemu},
    initramfs::write as write_initramfs,
    results::Run,
    table::{KERNELS, Kernel, SHARES},
};
use crate::{cost, kernels, release};

/// Run the kernel tests on other kernels, in virtual machines
#[derive(Debug, Default, Args)]
pub struct Options {
    /// A kernel: a file, or a part of the name of one in AIOTRACE_KERNELS. May be repeated; without
    /// it, all in AIOTRACE_KERNELS, or Debian's, fetched with apt
    #[arg(long, value_name = "FILE|NAME")]
    kernel: Vec<String>,
    /// Kernels of this architecture
    #[arg(long, value_enum, default_value_t)]
    arch: Architecture,
    /// A probe set: auto, the best; trampoline, kprobe or syscall; or ptrace. May be repeated; without it,
    /// all tests run with auto, and those about events with the others too
    #[arg(long, value_enum, value_name = "SET")]
    probes: Vec<Set>,
    /// Run each test in every guest, and the other probe sets in each: without it, tests for which the kernel
    /// makes no difference run in one guest only
    #[arg(long)]
    everywhere: bool,
    /// Put what the kernels gave into the table of docs/kernels.md
    #[arg(long)]
    docs: bool,
    /// Count instructions instead, on a processor that is emulated to the instruction, and compare them with
    /// aiotrace/tests/kernel/cost.txt
    #[arg(long)]
    cost: bool,
    /// With --cost: write that table anew
    #[arg(long, requires = "cost")]
    write: bool,
    /// Run only the tests whose names contain this
    #[arg(last = true)]
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Architecture {
    #[default]
    #[value(name = "x86_64")]
    X86,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Set {
    Auto,
    Trampoline,
    Kprobe,
    Syscall,
    Ptrace,
}

impl Options {
    /// To compare what the probes cost with the table.
    pub fn of_cost() -> Self {
        Self { cost: true, ..Self::default() }
    }
}

impl Set {
    const BY_BPF: [Self; 3] = [Self::Trampoline, Self::Kprobe, Self::Syscall];

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Trampoline => "trampoline",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
            Self::Ptrace => "ptrace",
        }
    }
}

/// The tests that speak of events, and not of the command line: what each source must do alike.
pub const ABOUT_EVENTS: &str = "events::,calls::,findings::";
/// And of what is concluded from them.
const ABOUT_CONCLUSIONS: &str = "events::,calls::,findings::,rings::,cases::,reports::";

/// A virtual machine, and what it runs.
struct Guest {
    kernel: &'static Kernel,
    file: PathBuf,
    /// Probe sets, and which tests.
    runs: Vec<(Set, String)>,
    clock: Clock,
    /// Whether it runs the tests that one guest is enough for.
    runs_everything: bool,
}

impl Guest {
    fn name(&self) -> String {
        match self.clock {
            Clock::Real => self.kernel.name.to_owned(),
            Clock::Instructions => format!("{},instructions", self.kernel.name),
        }
    }

    /// What its kernel's command line says.
    fn parameters(&self) -> String {
        let runs = self.runs.iter().map(|(set, filters)| format!("{}/{filters}", set.name()));
        let runs = runs.collect::<Vec<_>>().join(";");
        let cost = if self.clock == Clock::Instructions { "yes" } else { "" };
        let Kernel { name, parameters, .. } = self.kernel;
        let everywhere = if self.runs_everything { "yes" } else { "" };
        format!(
            "{parameters} aiotrace_guest={name} aiotrace_cost={cost} aiotrace_everywhere={everywhere} \
             aiotrace_run={runs}"
        )
    }
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let passed = check(options)?;
    println!("{passed} tests passed in the guests");
    Ok(())
}

/// How many tests passed in all guests; an error if one did not, or none ran.
pub fn check(options: &Options) -> Result<u64> {
    let guests = guests(options)?;
    let directory = release::target_directory()?.join("vm");
    let consoles = build_and_boot(&guests, &directory)?;
    let (mut passed, mut failed, mut rows, mut costs) = (0, Vec::new(), Vec::new(), Vec::new());
    let mut broke = false;
    for (guest, (console, seconds)) in guests.iter().zip(consoles) {
        let name = guest.name();
        println!("{name}: {seconds:.0} s");
        let console = match console {
            Ok(console) => console,
            Err(error) => {
                failed.push(format!("{name}: {error:#}"));
                broke = true;
                // Failures of runs that had ended before that are told, too.
                let log = fs::read(directory.join(format!("{name}.log"))).unwrap_or_default();
                let text = String::from_utf8_lossy(&log).into_owned();
                let ended = guest.runs.iter().map(|(set, _)| Run::of(set.name(), &text));
                let ended = ended.filter(Run::has_ended);
                failed.extend(
                    ended.filter_map(|it| it.wrong(true)).map(|it| format!("{name}: {it}")),
                );
                continue;
            }
        };
        rows.extend(kernels::row(&name, &console.text));
        costs.push((guest.kernel.name, console.text.clone()));
        for (set, _) in &guest.runs {
            let run = Run::of(set.name(), &console.text);
            println!("  {}", run.summary());
            passed += run.passed;
            let may_be_empty = options.filter.is_some();
            failed.extend(run.wrong(may_be_empty).map(|it| format!("{name}: {it}")));
        }
    }
    // That the numbers are others is why the table is written.
    if options.write && !broke {
        return cost::write(&costs).map(|()| passed);
    }
    if !failed.is_empty() {
        let logs = directory.display();
        bail!("the consoles of the guests are in {logs}\n{}", failed.join("\n"));
    }
    if passed == 0 {
        let filter = options.filter.as_deref().unwrap_or_default();
        bail!("no test passed: is there one whose name contains {filter:?}, and can it run there?");
    }
    if options.filter.is_none()
        && !options.cost
        && options.kernel.is_empty()
        && options.probes.is_empty()
    {
        kernels::document(&rows, options.docs)?;
    } else if options.docs {
        bail!(
            "--docs writes the whole table: it goes without --kernel, --probes, --cost and a filter"
        );
    }
    Ok(passed)
}

/// The consoles of guests that measured what the probes cost, by kernel; whether that is as the table says
/// does not matter.
pub fn cost(kernel: &[String]) -> Result<Vec<(String, String)>> {
    let options = Options { kernel: kernel.to_vec(), ..Options::of_cost() };
    let guests = guests(&options)?;
    let consoles = build_and_boot(&guests, &release::target_directory()?.join("vm"))?;
    let named = guests.iter().zip(consoles);
    named.map(|(guest, it)| Ok((guest.kernel.name.to_owned(), it.0?.text))).collect()
}

/// The guests that were asked for.
fn guests(options: &Options) -> Result<Vec<Guest>> {
    let Architecture::X86 = options.arch;
    let mut guests = Vec::new();
    // The name of a guest means that guest; other text means each guest whose kernel's file name contains it.
    let is_asked_for = |guest: &Kernel, file: &Path| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let of_it = |asked: &String| match KERNELS.iter().find(|it| it.name == asked) {
            Some(named) => named.name == guest.name,
            None => asked.contains('/') || file.contains(asked.as_str()),
        };
        options.kernel.is_empty() || options.kernel.iter().any(of_it)
    };
    let file_of = |it: &String| it.split(',').next().unwrap_or_default().to_owned();
    let mut files = kernels::find(&options.kernel.iter().map(file_of).collect::<Vec<_>>())?;
    files.sort();
    files.dedup();
    for file in files {
        let known: Vec<&'static Kernel> =
            KERNELS.iter().filter(|it| is_file_of(&file, it)).collect();
        if known.is_empty() {
            bail!(
                "nothing is known of {}: add a row for it to aiotrace/tests/kernel/kernels.rs, so that \
                 the tests know what to expect",
                file.display()
            );
        }
        for kernel in known.into_iter().filter(|it| is_asked_for(it, &file)) {
            let (runs, clock) = if options.cost {
                if !cost::KERNELS.contains(&kernel.name) {
                    continue;
                }
                (vec![(Set::Auto, "cost::".to_owned())], Clock::Instructions)
            } else {
                (runs(options, kernel), Clock::Real)
            };
            // What is asked for by name is run.
            let runs_everything = options.everywhere || options.filter.is_some();
            guests.push(Guest { kernel, file: file.clone(), runs, clock, runs_everything });
        }
    }
    if guests.is_empty() {
        bail!("instructions are counted with the kernels {} only", cost::KERNELS.join(", "));
    }
    let has_share = |share| guests.iter().any(|it| it.kernel.share == Some(share));
    if options.kernel.is_empty() && !options.everywhere && !(0..SHARES).all(has_share) {
        println!(
            "Not all kernels of aiotrace/tests/kernel/kernels.rs are here: some tests for which one guest is \
             enough run in none (--everywhere runs them in each)."
        );
    }
    Ok(guests)
}

/// `vmlinuz-NAME`, or the same kernel under the name of Debian's package.
fn is_file_of(file: &Path, kernel: &Kernel) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_start_matches("vmlinuz-");
    let own = kernel.name.split(',').next().unwrap_or_default();
    let is_debians = name.starts_with(kernel.release) && name.contains("-cloud-amd64");
    name == own || (is_debians && own.ends_with("-debian"))
}

/// What a guest with this kernel runs.
fn runs(options: &Options, kernel: &Kernel) -> Vec<(Set, String)> {
    let filter = options.filter.clone();
    if !options.probes.is_empty() {
        let of = |set: Set| {
            let all = if set == Set::Auto { "" } else { ABOUT_EVENTS };
            (set, filter.clone().unwrap_or_else(|| all.to_owned()))
        };
        return options.probes.iter().copied().map(of).collect();
    }
    if let Some(filter) = filter {
        return vec![(Set::Auto, filter)];
    }
    let others = Set::BY_BPF.into_iter().filter(|it| it.name() != kernel.best);
    // Where the kernel skips runs of a set, what each program does is compared as far as it was seen.
    let filter = |set: Set| {
        let about_all = options.everywhere && !kernel.skipped.contains(&set.name());
        if about_all { ABOUT_CONCLUSIONS } else { "events::" }
    };
    let has_others = kernel.has_other_sets || options.everywhere;
    let others = others.filter(|_| has_others).map(|it| (it, filter(it).to_owned()));
    [(Set::Auto, String::new())].into_iter().chain(others).collect()
}

/// Builds what the guests have, and boots them; their logs go to the directory.
fn build_and_boot(guests: &[Guest], directory: &Path) -> Result<Vec<(Result<Console>, f64)>> {
    fs::create_dir_all(directory)?;
    let initramfs = directory.join("initramfs.cpio");
    write_initramfs(&initramfs, &release::build()?)?;
    Ok(boot_all(guests, &initramfs, directory))
}

/// Boots them, two at a time: a guest takes one processor. The console of each, and how long it took.
fn boot_all(guests: &[Guest], initramfs: &Path, directory: &Path) -> Vec<(Result<Console>, f64)> {
    let qemu = Qemu::default();
    // The one with most tests takes longest, and then the newest kernels.
    let mut order: Vec<usize> = (0..guests.len()).rev().collect();
    order.sort_by_key(|it| guests[*it].kernel.share.is_none());
    let next = AtomicUsize::new(0);
    let consoles = Mutex::new(BTreeMap::new());
    let boot = || {
        while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let guest = &guests[*index];
            let log = directory.join(format!("{}.log", guest.name()));
            let start = Instant::now();
            eprintln!("booting {}; its console goes to {}", guest.name(), log.display());
            let console = qemu.boot(&guest.file, initramfs, &guest.parameters(), guest.clock, &log);
            let ended = (console, start.elapsed().as_secs_f64());
            consoles.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, ended);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(boot);
        }
    });
    consoles.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_files_name() {
        let of = |file: &str| -> Vec<&str> {
            let of_it = KERNELS.iter().filter(|it| is_file_of(Path::new(file), it));
            of_it.map(|it| it.name).collect()
        };
        assert_eq!(of("/k/vmlinuz-6.12-debian"), ["6.12-debian", "6.12-debian,lockdown"]);
        assert_eq!(of("vmlinuz-6.12-override"), ["6.12-override"]);
        assert_eq!(of("vmlinuz-6.1.0-41-cloud-amd64-unsigned"), ["6.1-debian"]);
        assert_eq!(of("vmlinuz-9.9-debian"), [""; 0]);
    }

    #[test]
    fn each_probe_set_is_tried_and_a_filter_is_passed_on() {
        let kernel = KERNELS.iter().find(|it| it.best == "kprobe").expect("one");
        let of = |options: &Options| -> Vec<(&str, String)> {
            runs(options, kernel).into_iter().map(|(set, filter)| (set.name(), filter)).collect()
        };
        let all = [
            ("auto", String::new()),
            ("trampoline", "events::".to_owned()),
            ("syscall", "events::".to_owned()),
        ];
        assert_eq!(of(&Options::default()), all);
        let filter = Some("short".to_owned());
        let one = Options { filter, ..Options::default() };
        assert_eq!(of(&one), [("auto", "short".to_owned())]);
        let asked = Options { probes: vec![Set::Syscall], ..one };
        assert_eq!(of(&asked), [("syscall", "short".to_owned())]);
    }
}
