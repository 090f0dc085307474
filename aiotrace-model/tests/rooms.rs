//! What the crate may know: no operating system, and nobody above it. And for this crate and the program's: no room
//! uses one above it.

#![expect(clippy::disallowed_methods, reason = "the tests read the sources")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const MANIFEST: &str = include_str!("../Cargo.toml");
const LOCK: &str = include_str!("../../Cargo.lock");

/// Crates that know an operating system, a command line, or files of programs.
const FORBIDDEN: [&str; 18] = [
    "addr2line",
    "anyhow",
    "aya",
    "aya-obj",
    "blazesym",
    "clap",
    "framehop",
    "getrandom",
    "libc",
    "linux-raw-sys",
    "memmap2",
    "mio",
    "nix",
    "object",
    "rustix",
    "tempfile",
    "tokio",
    "tracing",
];

/// The rooms of the crate. Each may use those before it.
const ROOMS: &[&str] = &[
    "any_order",
    "bounded",
    "fnv",
    "words",
    "errno",
    "opcode",
    "event",
    "fault",
    "trace",
    "counted",
    "records",
    "model",
];

/// The rooms of the crate `aiotrace`, which has some of this crate's by the same names.
const ROOMS_OF_PROGRAM: &[&str] = &[
    "bounded",
    "words",
    "errno",
    "opcode",
    "event",
    "counted",
    "model",
    "clock",
    "copy",
    "failure",
    "arch",
    "seccomp",
    "proc",
    "privileges",
    "errand",
    "fault",
    "explain",
    "stacks",
    "names",
    "source",
    "output",
    "inventory",
    "trace",
    "top",
    "serve",
    "sweep",
    "fuzz",
    "cli",
];
/// How many of them belong to this crate.
const OURS: usize = 7;

/// The names in a section of the manifest.
fn named(section: &str) -> Vec<&'static str> {
    let lines = MANIFEST.lines().skip_while(|line| *line != format!("[{section}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let names = lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    names.filter_map(|line| line.split(['=', '.', ' ']).next()).collect()
}

/// What each package of the lock file needs to be built, on any machine.
fn needed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut needed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for package in LOCK.split("[[package]]").skip(1) {
        let quoted = |line: &'static str| line.split('"').nth(1);
        let name = package.lines().find(|it| it.starts_with("name = ")).and_then(quoted);
        let list = package.split("dependencies = [").nth(1).unwrap_or_default();
        let list = list.split(']').next().unwrap_or_default();
        let all = list.lines().filter_map(quoted).filter_map(|it| it.split(' ').next());
        needed.entry(name.unwrap_or_default()).or_default().extend(all);
    }
    needed
}

#[test]
fn nothing_that_the_crate_needs_knows_an_operating_system() {
    let needed = needed();
    let mut all = BTreeSet::new();
    let mut next: Vec<Vec<&str>> = named("dependencies").into_iter().map(|it| vec![it]).collect();
    assert!(next.len() > 5, "{next:?}");
    while let Some(way) = next.pop() {
        let name = way[way.len() - 1];
        assert!(!FORBIDDEN.contains(&name), "by way of {way:?}");
        let Some(list) = needed.get(name).filter(|_| all.insert(name)) else { continue };
        next.extend(list.iter().map(|it| [&way[..], &[*it]].concat()));
    }
    assert!(all.contains("zerocopy") && all.contains("serde_core"), "the lock file was read");
}

#[test]
fn the_crate_knows_nobody_above_it() {
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let ours = named(section).into_iter().filter(|it| it.starts_with("aio") || *it == "xtask");
        assert!(ours.eq((section == "dependencies").then_some("aiotrace-common")), "{section}");
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// The rooms that a source names: `crate::room`, or `crate::{room::.., ..}`.
fn rooms_in(source: &str) -> BTreeSet<String> {
    let code: Vec<&str> =
        source.lines().map(|it| it.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let is_word = |it: char| it.is_alphanumeric() || it == '_';
    let mut rooms = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        if code[..at].ends_with(is_word) {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            rooms.insert(rest.chars().take_while(|it| is_word(*it)).collect());
            continue;
        };
        let (mut depth, mut name) = (0, String::new());
        for it in group.chars() {
            match it {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => rooms.extend([std::mem::take(&mut name)]),
                _ if depth == 0 && !it.is_whitespace() => name.push(it),
                _ => (),
            }
        }
        rooms.insert(name);
    }
    let first = |it: String| it.split("::").next().unwrap_or_default().to_owned();
    rooms.into_iter().map(first).filter(|it| !it.is_empty()).collect()
}

/// Every source below `root`, with its room. Each room uses those before it only.
fn check(root: &Path, order: &[&str], mut each: impl FnMut(&str, &str)) -> BTreeSet<String> {
    let mut all = Vec::new();
    sources(root, &mut all);
    let mut checked = BTreeSet::new();
    for path in all {
        let below = path.strip_prefix(root).expect("it was found there");
        let room = below.iter().next().and_then(|it| it.to_str()).expect("a name");
        let room = room.trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let rank = order.iter().position(|it| *it == room);
        let rank = rank.unwrap_or_else(|| panic!("{room} has no place among the rooms"));
        let source = fs::read_to_string(&path).expect("a source");
        for used in rooms_in(&source) {
            let is_below = order[..=rank].contains(&used.as_str());
            assert!(is_below, "{}: {room} uses {used}, which is above it", path.display());
        }
        each(room, &source);
        checked.insert(room.to_owned());
    }
    checked
}

#[test]
fn no_arrow_points_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let checked = check(&root, ROOMS, |_, _| ());
    assert_eq!(checked.len(), ROOMS.len(), "{checked:?}");
}

#[test]
fn no_arrow_of_the_program_points_up_and_only_one_room_knows_clap_or_proc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../aiotrace/src");
    let (mut with_clap, mut with_proc) = (BTreeSet::new(), BTreeSet::new());
    let checked = check(&root, ROOMS_OF_PROGRAM, |room, source| {
        let code = source.lines().map(|it| it.split("//").next().unwrap_or_default());
        for line in code {
            if line.contains("clap") {
                with_clap.insert(room.to_owned());
            }
            // The line has a path, and is not a sentence that names one.
            if line.contains("\"/proc/") {
                with_proc.insert(room.to_owned());
            }
        }
    });
    assert_eq!(checked.len(), ROOMS_OF_PROGRAM.len() - OURS, "{checked:?}");
    assert!(with_clap.iter().eq(["cli"]), "{with_clap:?}");
    // A room that opens the files which a process has mapped must heed more.
    assert!(with_proc.iter().eq(["proc", "stacks"]), "{with_proc:?}");
}

#[test]
fn the_rooms_that_a_source_names_are_found() {
    let source = "use crate::{\n    event::{Args, Call},\n    model::Finding, // not crate::trace\n};\n\
                  fn f() { crate::errno::name(1); $crate::words; }";
    assert_eq!(
        rooms_in(source).into_iter().collect::<Vec<_>>(),
        ["errno", "event", "model", "words"]
    );
}
