//! Debian's programs for another architecture, unpacked into the target directory. The machine itself
//! does not learn of that architecture: apt gets lists and a state of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{arch::Architecture, binaries, command};

/// A busybox that is linked with no library; fetched when it is first needed.
///
/// # Errors
/// If apt cannot fetch it.
pub fn busybox(arch: Architecture) -> Result<PathBuf> {
    let directory = binaries::target_directory()?.join(format!("debian-{}", arch.debian()));
    let program = directory.join("busybox");
    if program.exists() {
        return Ok(program);
    }
    let content = directory.join("content");
    for made in ["lists/partial", "cache/archives/partial", "content"] {
        fs::create_dir_all(directory.join(made)).context("cannot make a directory")?;
    }
    command::run(apt(&directory, arch).arg("update"))
        .with_context(|| format!("apt has no packages for {}", arch.debian()))?;
    let mut download = apt(&directory, arch);
    command::run(download.args(["download", "busybox-static"]).current_dir(&content))?;
    let is_package = |it: &PathBuf| it.extension().is_some_and(|it| it == "deb");
    let package = fs::read_dir(&content)?
        .filter_map(|it| Some(it.ok()?.path()))
        .find(is_package)
        .context("apt-get downloaded no package")?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&content))?;
    // Older releases have it in /bin.
    let found = ["usr/bin/busybox", "bin/busybox"].map(|it| content.join(it));
    let found = found.into_iter().find(|it| it.is_file()).context("the package has no busybox")?;
    // Copy first and then rename: if xtask is killed in between, no half-written program is left.
    let part = directory.join("part");
    fs::copy(found, &part)?;
    fs::rename(&part, &program)?;
    Ok(program)
}

/// apt-get for an architecture, with its lists and packages in a directory.
fn apt(directory: &Path, arch: Architecture) -> Command {
    let mut apt = Command::new("apt-get");
    for option in [
        format!("APT::Architecture={}", arch.debian()),
        format!("APT::Architectures={}", arch.debian()),
        format!("Dir::State::Lists={}", directory.join("lists").display()),
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::Cache={}", directory.join("cache").display()),
        // The packages go where only we may write.
        "APT::Sandbox::User=root".to_owned(),
    ] {
        apt.arg("-o").arg(option);
    }
    apt.arg("-qq");
    apt
}
