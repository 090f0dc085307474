//! `cargo xtask bench --vm KERNEL`: how many instructions the probes add, on a processor of QEMU
//! whose clock counts instructions. The numbers are the same in each run, and can be had for
//! kernels that have what this machine's kernel lacks. But an instruction is not a time: cache
//! misses and stalls of the pipeline are not seen.
//!
//! The loops measure the processor time of their own thread (programs/src/bench.rs), so the time of
//! aiotrace's reader is not included. The kernel tests run them (aiotrace/tests/kernel/cost.rs).

use anyhow::{Context as _, Result};

use super::{document, table::thousands};
use crate::vm;

/// Runs the command: makes a table for each guest from the numbers that the cost tests write to its
/// console.
pub fn run(wanted: &[String], docs: bool) -> Result<()> {
    let mut text = String::new();
    for (name, console) in vm::cost(wanted)? {
        let table = table(&console).with_context(|| format!("{name}: it measured nothing"))?;
        text.push_str(&format!("Linux {name}:\n\n{table}\n"));
    }
    println!("{text}");
    if docs {
        document::write(document::Part::Guests, &text)?;
    }
    Ok(())
}

/// The probe sets, and the rules that never fire: their names in the guest's lines, and their rows'
/// titles.
const SETS: [(&str, &str); 6] = [
    ("none", "untraced"),
    ("syscall", "tracepoints (syscall)"),
    ("trampoline", "trampolines"),
    ("kprobe", "kprobes"),
    ("fmod_ret", "a rule by fmod_ret that never fires"),
    ("file_permission", "a rule by file_permission that never fires"),
];
const PROGRAMS: [&str; 3] = ["pair", "batch", "getppid"];

/// Makes the table from lines `cost | run | SET | PROGRAM | INSTRUCTIONS`; `None` if the guest
/// measured nothing.
fn table(console: &str) -> Option<String> {
    let find = |set: &str, program: &str| -> Option<f64> {
        let head = format!("cost | run | {set} | {program} | ");
        console.lines().find_map(|it| it.split_once(&head))?.1.parse().ok()
    };
    let untraced: Vec<f64> =
        PROGRAMS.iter().map(|program| find("none", program)).collect::<Option<_>>()?;
    let mut out = "| instructions | pair | batch of 32 | getppid |\n|---|--:|--:|--:|\n".to_owned();
    for (set, title) in SETS {
        let cells =
            PROGRAMS.iter().zip(&untraced).map(|(program, untraced)| match find(set, program) {
                Some(count) if set == "none" => thousands(count),
                Some(count) => format!("{} ({:.2}x)", thousands(count), count / untraced),
                None => "not on this kernel".to_owned(),
            });
        out.push_str(&format!("| {title} | {} |\n", cells.collect::<Vec<_>>().join(" | ")));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_guest_become_a_table() {
        let mut console = "guest | 7.2\n".to_owned();
        for program in PROGRAMS {
            console.push_str(&format!("cost | run | none | {program} | 1000\n"));
            console.push_str(&format!("cost | run | syscall | {program} | 2500\n"));
        }
        let table = table(&console).expect("a table");
        let pair = "| tracepoints (syscall) | 2,500 (2.50x) | 2,500 (2.50x) | 2,500 (2.50x) |";
        assert!(table.contains("| untraced | 1,000 | 1,000 | 1,000 |"), "{table}");
        assert!(table.contains(pair), "{table}");
        assert!(table.contains("never fires | not on this kernel |"), "{table}");
        assert!(super::table("guest | 7.2\n").is_none());
    }
}
