//! All tiny programs under aiotrace, one line of result for each. The same suite runs natively and
//! as the only process of a virtual machine; the lines must be equal.

use std::{collections::BTreeMap, path::Path, process::Command};

const PROGRAMS: [&str; 14] = [
    "submit 1",
    "submit 65",
    "submit 5000",
    "errnos",
    "libaio",
    "unreadable",
    "late",
    "reap-ring 300",
    "reuse 200",
    "threads 8",
    "fork 20",
    "exec",
    "seccomp",
    "compat",
];

/// Runs it with this aiotrace.
pub fn run(aiotrace: &Path) {
    let us = std::env::current_exe().expect("our path");
    let file = std::env::temp_dir().join(format!("suite-{}.json", std::process::id()));
    for program in PROGRAMS {
        let output = Command::new(aiotrace)
            .args(["run", "-f", "--format", "json", "-o"])
            .arg(&file)
            .arg("--")
            .arg(&us)
            .args(program.split(' '))
            .output()
            .expect("aiotrace can be started");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let status = output.status;
        crate::say(&format!("suite | {program} | {status} | {}", tally(&text)));
        if !status.success() {
            crate::say(&String::from_utf8_lossy(&output.stderr));
        }
    }
    let _ = std::fs::remove_file(&file);
    crate::say("suite | end");
}

/// How often each call had each errno, and what was lost.
fn tally(json: &str) -> String {
    let mut calls: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut lost = "no report";
    for line in json.lines() {
        let event = value(line, "event").unwrap_or_default();
        if event.starts_with("io_") {
            let errno = value(line, "errno").unwrap_or_default();
            *calls.entry((event, errno)).or_default() += 1;
        } else if event == "report" {
            lost = value(line, "lost_by_cause").unwrap_or_default();
        }
    }
    let lost: Vec<&str> = lost.split(',').filter(|it| !it.ends_with(":0")).collect();
    let calls: Vec<String> =
        calls.iter().map(|((call, errno), count)| format!("{call} {errno} {count}")).collect();
    format!("{} | lost {}", calls.join(", "), lost.join(" ").replace('"', ""))
}

/// The value of the first field of this name: a number, a word in quotes, or an object.
fn value<'a>(line: &'a str, field: &str) -> Option<&'a str> {
    let rest = line.split_once(&format!("\"{field}\":"))?.1;
    let end = if rest.starts_with('{') { '}' } else { ',' };
    Some(rest.split(end).next()?.trim_matches(['"', '{']))
}
