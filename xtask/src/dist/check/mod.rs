//! What `cargo xtask dist --check` looks at: that the binary needs nothing, that a second build elsewhere gives the
//! same bytes, that the distributions' checks are content, and that what is installed works.

mod alone;
mod installed;
mod packages;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Release, archive::SUMS};
use crate::command;

/// One check; an error says what is wrong.
type Check = fn(&Release) -> Result<()>;

/// Checks that need a program that is not installed for them: what they are called, and the programs, of which one is
/// enough.
const NEED: [(&str, [&str; 2]); 1] = [(NAMED, ["podman", "skopeo"])];
const NAMED: &str = "the image is loaded by its name and version";

/// What they are called, and what does them.
const CHECKS: [(&str, Check); 10] = [
    ("the binary needs nothing", alone::needs_nothing),
    ("it works in a directory that has nothing else", alone::in_a_directory),
    ("it works in a guest that has nothing else", alone::in_a_guest),
    ("lintian is content", packages::lintian),
    ("rpmlint is content, the .rpm unpacks, and its binary runs", packages::rpm),
    ("the .deb installs, works and goes away in Debian", packages::debian),
    ("the image unpacks, and its binary runs", packages::image),
    (NAMED, packages::named),
    ("the crate installs and is documented without bpf-linker", installed::from_crates),
    ("a second build elsewhere gives the same bytes", again),
];

/// Runs the checks whose names contain the text, and names those that fail.
pub(super) fn all(release: &Release, only: &str) -> Result<()> {
    let mut failing = Vec::new();
    for (name, check) in CHECKS.into_iter().filter(|it| it.0.contains(only)) {
        let needed = NEED.iter().find(|it| it.0 == name).map(|it| it.1);
        if let Some(programs) = needed
            && programs.iter().all(|it| which::which(it).is_err())
        {
            println!("check: {name}: NOT CHECKED: needs {}", programs.join(" or "));
            continue;
        }
        match check(release) {
            Ok(()) => println!("check: {name}: yes"),
            Err(error) => {
                println!("check: {name}: NO: {error:#}");
                failing.push(name);
            }
        }
    }
    if !failing.is_empty() {
        bail!("not so: {}", failing.join("; "));
    }
    Ok(())
}

/// The program that was made.
fn program(release: &Release) -> PathBuf {
    release.work.join("aiotrace")
}

/// A fresh directory for a check.
fn fresh(release: &Release, name: &str) -> Result<PathBuf> {
    let directory = release.work.join(name);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn file(release: &Release, end: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(&release.out)?.filter_map(|it| Some(it.ok()?.path()));
    let mut found = entries.filter(|it| it.to_string_lossy().ends_with(end));
    found.next().with_context(|| format!("no file ends with {end}"))
}

/// The sources of the commit in another directory, built into another one.
fn again(release: &Release) -> Result<()> {
    let mut changes = Command::new("git");
    changes.current_dir(&release.root).args(["status", "--porcelain"]);
    if !command::output(&mut changes)?.trim().is_empty() {
        bail!(
            "there are changes that are not committed, so the second build would be of other sources"
        );
    }
    let root = fresh(release, "again")?;
    let script = "git clone -q . \"$2\" && git -C \"$2\" checkout -q --detach \"$1\"";
    let mut clone = Command::new("sh");
    clone.current_dir(&release.root).args(["-c", script, "sh", &release.commit]).arg(&root);
    command::run(&mut clone)?;
    let second = Release::of(&root, release.target, root.join("target"))?;
    second.make()?;
    let sums = |out: &Path| fs::read_to_string(out.join(SUMS)).context("no checksums");
    let (first, second) = (sums(&release.out)?, sums(&second.out)?);
    let differ: Vec<&str> =
        first.lines().filter(|line| second.lines().all(|it| it != *line)).collect();
    if !differ.is_empty() || first.lines().count() != second.lines().count() {
        bail!("these files differ: {}", differ.join(", "));
    }
    Ok(fs::remove_dir_all(&root)?)
}
