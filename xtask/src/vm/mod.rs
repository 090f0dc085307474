//! `cargo xtask vm`: the kernel tests on other kernels, in QEMU.
//!
//! The guest's init (xtask/init) runs the same test binary that runs on this machine, once with the
//! probe set that is best there, and once with each of the others. The table of kernels, and of
//! what each can do, is used by the tests, too: aiotrace/tests/kernel/kernels.rs.

pub mod bare;
mod boot;
mod fleet;
mod guest;
mod initramfs;
mod results;
mod runs;
#[path = "../../../aiotrace/tests/kernel/kernels.rs"]
#[expect(dead_code, reason = "the tests read the rest")]
mod table;

use std::fs;

use anyhow::{Result, bail};
use clap::Args;

use self::{fleet::build_and_boot, guest::guests, results::Run, runs::Set};
pub use self::{
    guest::missing,
    results::unstable_in,
    runs::{ABOUT_EVENTS, EVENTS},
};
use crate::{arch::Architecture, binaries, cost, kernels};

/// Run the kernel tests on other kernels, in virtual machines
#[derive(Debug, Default, Args)]
pub struct Options {
    /// A kernel: a file, or a part of the name of one in AIOTRACE_KERNELS. May be repeated; without
    /// it, all in AIOTRACE_KERNELS, or Debian's, fetched with apt
    #[arg(long, value_name = "FILE|NAME")]
    kernel: Vec<String>,
    /// Use kernels of this architecture only
    #[arg(long, value_enum)]
    arch: Option<Architecture>,
    /// A probe set: auto, the best; trampoline, kprobe or syscall; or ptrace. May be repeated;
    /// without it, all tests run with auto, and the tests events:: with the others too
    #[arg(long, value_enum, value_name = "SET", conflicts_with = "cost")]
    probes: Vec<Set>,
    /// Run each test in every guest, and the other probe sets in each. Without it, tests for which
    /// the kernel makes no difference run in one guest only
    #[arg(long, conflicts_with = "cost")]
    everywhere: bool,
    /// Put the results of all kernels into the table of docs/reference/kernels.md
    #[arg(long, conflicts_with_all = ["kernel", "arch", "probes", "cost", "filter"])]
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
    let directory = binaries::target_directory()?.join("vm");
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
    let consoles = build_and_boot(&guests, &binaries::target_directory()?.join("vm"))?;
    let named = guests.iter().zip(consoles);
    named.map(|(guest, it)| Ok((guest.kernel.name.to_owned(), it.0?.text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_name() {
        assert!(name("events::short,cases::").is_ok());
        for wrong in ["", "a b", "a;b", "a/b", "a=b"] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}
