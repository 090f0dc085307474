//! Programs of a newer Debian, in a directory of their own, for tests that try two versions of a
//! program. The tests run them there with chroot(8).

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    binaries, command,
    debian::{self, Apt},
};

/// A Debian release that is newer than the one on which this project is built: its name in the
/// archive, and the one people use.
const RELEASE: (&str, &str) = ("trixie", "debian-13");
/// The packages that are unpacked, with everything they depend on.
const PACKAGES: &str = "qemu-utils";
/// A program of these packages, by which we know that they are there.
const PROGRAM: &str = "usr/bin/qemu-img";

fn directory() -> Result<PathBuf> {
    Ok(binaries::target_directory()?.join(RELEASE.1))
}

/// Whether the programs are there.
pub fn is_present() -> bool {
    directory().is_ok_and(|it| it.join(PROGRAM).exists())
}

/// Unpacks the packages; gives what was unpacked, in words.
pub fn install(apt: &mut Apt) -> Result<String> {
    apt.install(&debian::missing(&["mmdebstrap"])?)?;
    let directory = directory()?;
    // `is_present` was false, so whatever is left here is incomplete.
    let new = directory.with_extension("new");
    for left in [&directory, &new] {
        if left.exists() {
            fs::remove_dir_all(left)
                .with_context(|| format!("cannot remove {}", left.display()))?;
        }
    }
    command::run(&mut unpack(&new))?;
    // A package of Debian makes these links when it is installed, but here packages are only
    // unpacked.
    for name in ["bin", "lib", "lib64", "sbin"] {
        let (to, link) = (Path::new("usr").join(name), new.join(name));
        symlink(to, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    fs::rename(&new, &directory).context("cannot rename what was unpacked")?;
    Ok(format!("{PACKAGES} of {} in {}", RELEASE.0, directory.display()))
}

/// What a user of another distribution can run to unpack the packages.
pub fn by_hand() -> String {
    let directory = directory().unwrap_or_else(|_| Path::new("target").join(RELEASE.1));
    format!("them with `{}`", command::line(&unpack(&directory)))
}

/// The command that unpacks the packages, from the mirror that mmdebstrap uses by default.
fn unpack(directory: &Path) -> Command {
    let mut unpack = Command::new("mmdebstrap");
    unpack.args(["--variant=extract", &format!("--include={PACKAGES}"), RELEASE.0]);
    unpack.arg(directory);
    unpack
}
