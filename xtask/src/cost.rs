//! Writes aiotrace/tests/kernel/cost.txt, the table of what the probes cost in instructions. The
//! kernel tests compare their numbers with it (tests/kernel/cost.rs).

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// The guests in which instructions are counted: one uses trampolines by default, the other
/// kprobes.
pub const KERNELS: [&str; 2] = ["6.12-debian", "7.2-debian"];

const HEAD: &str = "\
# What the probes cost, in instructions: made by `cargo xtask vm --cost --write`, compared in each test run.
# KERNEL | run | PROBES | PROGRAM | instructions of one operation
# KERNEL | verifier | PROBES | PROGRAM OF THE PROBES | instructions that the verifier looked at
";

/// Replaces the rows of these guests by those on their consoles, where they stand behind `cost | `.
/// Rows of other kernels stay.
pub fn write(consoles: &[(&str, String)]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../aiotrace/tests/kernel/cost.txt");
    let old = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut text = HEAD.to_owned();
    for kernel in KERNELS {
        let Some((_, console)) = consoles.iter().find(|it| it.0 == kernel) else {
            let of_it = old.lines().filter(|it| it.starts_with(&format!("{kernel} | ")));
            of_it.for_each(|it| text.push_str(&format!("{it}\n")));
            continue;
        };
        let lines: Vec<&str> =
            console.lines().filter_map(|it| it.split_once("cost | ")).map(|it| it.1).collect();
        if !["run |", "verifier |"].iter().all(|kind| lines.iter().any(|it| it.starts_with(kind))) {
            bail!("the guest {kernel} did not measure both runs and the verifier");
        }
        lines.iter().for_each(|it| text.push_str(&format!("{kernel} | {it}\n")));
    }
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    println!("{} was written", path.display());
    Ok(())
}
