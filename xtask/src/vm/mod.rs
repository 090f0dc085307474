//! `cargo xtask vm`: the kernel tests on other kernels, in QEMU.
//!
//! The guest's init (xtask/init) runs the same test binary that runs on this machine, once with the
//! probe set that is best there, and once with each of the others. The table of kernels, and of
//! what each can do, is used by the tests, too: aiotrace/tests/kernel/kernels.rs.

mod boot;
mod initramfs;
mod results;
mod runs;
#[path = "../../../aiotrace/tests/kernel/kernels.rs"]
#[expect(dead_code, reason = "the tests read the rest")]
mod table;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{
    boot::{Clock, Console, Qemu},
    initramfs::write as write_initramfs,
    results::Run,
    runs::{Set, runs},
    table::{KERNELS, Kernel, SHARES},
};
pub use self::{
    results::unstable_in,
    runs::{ABOUT_EVENTS, EVENTS},
};
use crate::{arch::Architecture, cost, kernels, release};

/// Run the kernel tests on other kernels, in virtual machines
#[derive(Debug, Default, Args)]
pub struct Options {
    /// A kernel: a file, or a part of the name of one in AIOTRACE_KERNELS. May be repeated; without
    /// it, all in AIOTRACE_KERNELS, or Debian's, fetched with apt
    #[arg(long, value_name = "FILE|NAME")]
    kernel: Vec<String>,
    /// Use kernels of this architecture
    #[arg(long, value_enum, default_value_t)]
    arch: Architecture,
    /// A probe set: auto, the best; trampoline, kprobe or syscall; or ptrace. May be repeated;
    /// without it, all tests run with auto, and the tests events:: with the others too
    #[arg(long, value_enum, value_name = "SET", conflicts_with = "cost")]
    probes: Vec<Set>,
    /// Run each test in every guest, and the other probe sets in each. Without it, tests for which
    /// the kernel makes no difference run in one guest only
    #[arg(long, conflicts_with = "cost")]
    everywhere: bool,
    /// Put the results of all kernels into the table of docs/reference/kernels.md
    #[arg(long, conflicts_with_all = ["kernel", "probes", "cost", "filter"])]
    docs: bool,
    /// Count instructions instead, on an emulated processor that counts each of them, and compare
    /// the numbers with aiotrace/tests/kernel/cost.txt
    #[arg(long)]
    cost: bool,
    /// With --cost: write that table
    #[arg(long, requires = "cost")]
    write: bool,
    /// Run only the tests whose names contain this, or one of several texts with commas between
    /// them
    #[arg(last = true, value_parser = name, conflicts_with = "cost")]
    filter: Option<String>,
}

/// Checks a part of the names of tests. It goes through the kernel's command line, so few
/// characters are allowed.
fn name(text: &str) -> Result<String, String> {
    let fits = |it: char| it.is_ascii_alphanumeric() || "_:,".contains(it);
    if text.is_empty() || !text.chars().all(fits) {
        return Err("no test has that in its name".to_owned());
    }
    Ok(text.to_owned())
}

impl Options {
    /// The options that measure what the probes cost and compare it with the table.
    pub fn of_cost() -> Self {
        Self { cost: true, ..Self::default() }
    }
}

/// A virtual machine, and what it runs.
struct Guest {
    kernel: &'static Kernel,
    arch: Architecture,
    file: PathBuf,
    /// The probe sets, and the filter of the tests to run with each.
    runs: Vec<(Set, String)>,
    clock: Clock,
    /// Whether the guest also runs the tests for which one guest is enough.
    runs_everything: bool,
}

impl Guest {
    fn name(&self) -> String {
        match self.clock {
            Clock::Real => self.kernel.name.to_owned(),
            Clock::Instructions => format!("{},instructions", self.kernel.name),
        }
    }

    /// What this guest's kernel command line says.
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
    let Checked { passed, unstable, failures } = check(options)?;
    let unstable = match unstable {
        0 => String::new(),
        count => format!(", {count} of them at the second attempt only"),
    };
    if !failures.is_empty() {
        bail!("{}\n{passed} tests passed in the guests{unstable}", failures.join("\n"));
    }
    println!("{passed} tests passed in the guests{unstable}");
    Ok(())
}

/// The guests for whose kernels there is no file.
pub fn missing() -> Result<Vec<&'static str>> {
    let files = kernels::find(&[])?;
    let files: Vec<(&PathBuf, Architecture)> =
        files.iter().map(|it| Ok((it, kernels::architecture(it)?))).collect::<Result<_>>()?;
    let has_none = |it: &&Kernel| !files.iter().any(|(file, arch)| is_file_of(file, *arch, it));
    Ok(KERNELS.iter().filter(has_none).map(|it| it.name).collect())
}

/// The results of the tests in all guests.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many tests passed.
    pub passed: u64,
    /// How many of these passed only at the second attempt.
    pub unstable: u64,
    /// What failed, each with its guest and probe set.
    pub failures: Vec<String>,
}

/// Runs the tests in all guests.
///
/// # Errors
/// If the guests cannot be booted at all, or if no test ran.
pub fn check(options: &Options) -> Result<Checked> {
    let guests = guests(options)?;
    let directory = release::target_directory()?.join("vm");
    let consoles = build_and_boot(&guests, &directory)?;
    let (mut checked, mut rows, mut costs) = (Checked::default(), Vec::new(), Vec::new());
    let mut broke = false;
    for (guest, (console, seconds)) in guests.iter().zip(consoles) {
        let name = guest.name();
        println!("{name}: {seconds:.0} s");
        let text = console.as_ref().map(|it| it.text.clone()).unwrap_or_else(|_| {
            // If the guest broke, its log still has the runs that had ended before.
            let log = fs::read(directory.join(format!("{name}.log"))).unwrap_or_default();
            String::from_utf8_lossy(&log).into_owned()
        });
        let has_ended = |run: &Run| console.is_ok() || run.has_ended();
        for run in guest.runs.iter().map(|(set, _)| Run::of(set.name(), &text)).filter(has_ended) {
            println!("  {}", run.summary(guest.kernel.best));
            if run.unstable > 0 {
                println!("{}", run.why_unstable);
            }
            checked.passed += run.passed;
            checked.unstable += run.unstable;
            let wrong = run.wrong(options.filter.is_some());
            checked.failures.extend(wrong.map(|it| format!("{name}: {it}")));
        }
        if let Err(error) = &console {
            checked.failures.push(format!("{name}: {error:#}"));
            broke = true;
            continue;
        }
        rows.extend(kernels::row(&name, &text));
        costs.push((guest.kernel.name, text));
    }
    // With --write, numbers that differ from the table's are no failure.
    if options.write && !broke {
        cost::write(&costs)?;
        checked.failures.clear();
        return Ok(checked);
    }
    if !checked.failures.is_empty() {
        println!("The consoles of the guests are in {}", directory.display());
        return Ok(checked);
    }
    if checked.passed == 0 {
        let filter = options.filter.as_deref().unwrap_or_default();
        bail!("no test passed: is there one whose name contains {filter:?}, and can it run there?");
    }
    if options.filter.is_none()
        && !options.cost
        && options.kernel.is_empty()
        && options.probes.is_empty()
    {
        kernels::document(&rows, options.docs)?;
    }
    Ok(checked)
}

/// The consoles of guests that measured what the probes cost, by kernel, whether or not the numbers
/// agree with the table.
pub fn cost(kernel: &[String]) -> Result<Vec<(String, String)>> {
    let options = Options { kernel: kernel.to_vec(), ..Options::of_cost() };
    let guests = guests(&options)?;
    let consoles = build_and_boot(&guests, &release::target_directory()?.join("vm"))?;
    let named = guests.iter().zip(consoles);
    named.map(|(guest, it)| Ok((guest.kernel.name.to_owned(), it.0?.text))).collect()
}

/// The guests that were asked for.
fn guests(options: &Options) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    // The name of a guest selects that guest; other text selects each guest whose kernel's file
    // name contains it.
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
        let arch = kernels::architecture(&file)?;
        if options.arch != arch {
            continue;
        }
        let known: Vec<&'static Kernel> =
            KERNELS.iter().filter(|it| is_file_of(&file, arch, it)).collect();
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
            // Tests that a filter selects run in every guest.
            let runs_everything = options.everywhere || options.filter.is_some();
            guests.push(Guest { kernel, arch, file: file.clone(), runs, clock, runs_everything });
        }
    }
    if guests.is_empty() && options.cost {
        bail!("instructions are counted with the kernels {} only", cost::KERNELS.join(", "));
    }
    if guests.is_empty() {
        let names = KERNELS.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
        bail!("no guest of {names} is meant by {}", options.kernel.join(", "));
    }
    let has_share = |share| guests.iter().any(|it| it.kernel.share == Some(share));
    let leaves_out = options.kernel.is_empty()
        && options.arch == Architecture::X86
        && !options.everywhere
        && !options.cost;
    if leaves_out && !(0..SHARES).all(has_share) {
        println!(
            "Not all kernels of aiotrace/tests/kernel/kernels.rs are here: some tests for which one guest is \
             enough run in none (--everywhere runs them in each)."
        );
    }
    Ok(guests)
}

/// Whether the file, which is of this architecture, is `vmlinuz-NAME`, or the same kernel under the
/// name of Debian's package.
fn is_file_of(file: &Path, arch: Architecture, kernel: &Kernel) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_start_matches("vmlinuz-").trim_end_matches(".gz");
    let own = kernel.name.split(',').next().unwrap_or_default().trim_end_matches("-arm64");
    let clouds = format!("-cloud-{}", arch.debian());
    let is_debians = name.starts_with(kernel.release) && name.contains(&clouds);
    kernel.arch == arch.name() && (name == own || (is_debians && own.ends_with("-debian")))
}

/// Builds what the guests need, and boots them; their logs go to the directory.
fn build_and_boot(guests: &[Guest], directory: &Path) -> Result<Vec<Ended>> {
    fs::create_dir_all(directory)?;
    let _lock = lock(directory)?;
    let mut consoles: Vec<Option<Ended>> = guests.iter().map(|_| None).collect();
    for arch in Architecture::ALL {
        let of_it: Vec<usize> = (0..guests.len()).filter(|it| guests[*it].arch == arch).collect();
        if of_it.is_empty() {
            continue;
        }
        let initramfs = directory.join(format!("initramfs-{}.cpio", arch.name()));
        write_initramfs(&initramfs, &release::build_for(arch)?, arch)?;
        let booted = boot_all(guests, &of_it, arch, &initramfs, directory);
        for (index, ended) in booted {
            consoles[index] = Some(ended);
        }
    }
    Ok(consoles.into_iter().flatten().collect())
}

/// Locks the directory: two of these commands at once would write the same files.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        eprintln!("another `cargo xtask vm` runs here: waiting for it to end");
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}

/// What a guest wrote, and how many seconds it took.
type Ended = (Result<Console>, f64);

/// Boots those of the guests that have this architecture, two at a time, as each takes one processor.
/// Gives what became of each.
fn boot_all(
    guests: &[Guest],
    of_arch: &[usize],
    arch: Architecture,
    initramfs: &Path,
    directory: &Path,
) -> BTreeMap<usize, Ended> {
    let qemu = Qemu::new(arch);
    // Begin with the guests that run a share of the tests for which one guest is enough, as they take
    // longest, and with newer kernels before older ones.
    let mut order: Vec<usize> = of_arch.iter().rev().copied().collect();
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
    consoles.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_files_name() {
        let of = |file: &str| -> Vec<&str> {
            let arch = if file.contains("arm64") { Architecture::Arm } else { Architecture::X86 };
            let of_it = KERNELS.iter().filter(|it| is_file_of(Path::new(file), arch, it));
            of_it.map(|it| it.name).collect()
        };
        assert_eq!(of("/arm64/vmlinuz-6.12-debian.gz"), ["6.12-debian-arm64"]);
        assert_eq!(of("vmlinuz-6.1.0-50-cloud-arm64-unsigned"), ["6.1-debian-arm64"]);
        assert_eq!(of("/k/vmlinuz-6.12-debian"), ["6.12-debian", "6.12-debian,lockdown"]);
        assert_eq!(of("vmlinuz-6.12-override"), ["6.12-override"]);
        assert_eq!(of("vmlinuz-6.1.0-41-cloud-amd64-unsigned"), ["6.1-debian"]);
        assert_eq!(of("vmlinuz-9.9-debian"), [""; 0]);
    }

    #[test]
    fn a_filter_is_a_name() {
        assert!(name("events::short,cases::").is_ok());
        for wrong in ["", "a b", "a;b", "a/b", "a=b"] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
