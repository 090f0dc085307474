//! The packages of the crates. The one of the program has the objects of the probes in it, so that nobody needs
//! bpf-linker to install it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};

use super::{Release, binary, notices};
use crate::command::{self, cargo};

/// In the order in which they need each other.
pub(super) const CRATES: [&str; 3] = ["aiotrace-common", "aiotrace-model", "aiotrace"];
const OBJECTS: [&str; 2] = ["aiotrace-ebpf", "aiotrace-ebpf-list"];

/// What is said beside the objects.
const LICENCE: &str = "The files aiotrace-ebpf and aiotrace-ebpf-list are built from the crate aiotrace-ebpf of the \
                       same commit.\nTheir licence is: MIT OR GPL-2.0-only.\n\n";

/// Makes them.
pub(super) fn make(release: &Release) -> Result<()> {
    let prebuilt = release.root.join("aiotrace/prebuilt");
    let place = prebuilt.join(release.target.name());
    fs::create_dir_all(&place)?;
    let built = newest(&binary::directory(release).join("build"))?;
    for name in OBJECTS {
        fs::copy(built.join(name), place.join(name)).with_context(|| name.to_owned())?;
    }
    let mit = fs::read_to_string(release.root.join("LICENSE-MIT"))?;
    fs::write(prebuilt.join("LICENSE"), LICENCE.to_owned() + &mit)?;
    // The probes have other crates in them.
    fs::copy(release.work.join(notices::NAME), prebuilt.join(notices::NAME))?;
    let target = release.work.join("package");
    // What is in the packages that no commit has are the objects.
    let mut package = cargo(&["package", "--locked", "--no-verify", "--allow-dirty", "--quiet"]);
    package.current_dir(&release.root).arg("--target-dir").arg(&target);
    command::run(package.args(CRATES.iter().flat_map(|name| ["-p", *name])))?;
    for name in CRATES {
        let file = format!("{name}-{}.crate", release.version);
        fs::copy(target.join("package").join(&file), release.out.join(&file))?;
    }
    Ok(())
}

/// Where the build that was the last put its objects.
fn newest(builds: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(builds).with_context(|| builds.display().to_string())?;
    let made = |it: PathBuf| -> Option<(SystemTime, PathBuf)> {
        let out = it.join("out");
        Some((fs::metadata(out.join(OBJECTS[0])).ok()?.modified().ok()?, out))
    };
    let found = entries.filter_map(|it| made(it.ok()?.path())).max();
    Ok(found.context("the build left no objects")?.1)
}
