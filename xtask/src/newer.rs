//! Programs of a newer Debian, in a directory of their own, for tests that try two versions of a program. They are run
//! there with chroot(8).

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    command,
    debian::{self, Apt},
    release,
};

/// The release that is newer than the one that this project is built on, as its archive calls it and as people do.
const RELEASE: (&str, &str) = ("trixie", "debian-13");
/// The packages that are unpacked, with all that they need.
const PACKAGES: &str = "qemu-utils";
/// One of their programs.
const PROGRAM: &str = "usr/bin/qemu-img";

fn directory() -> Result<PathBuf> {
    Ok(release::target_directory()?.join(RELEASE.1))
}

/// Whether they are there.
pub fn is_present() -> bool {
    directory().is_ok_and(|it| it.join(PROGRAM).exists())
}

/// Unpacks them; gives what was unpacked, in words.
pub fn install(apt: &mut Apt) -> Result<String> {
    apt.install(&debian::missing(&["mmdebstrap"])?)?;
    let directory = directory()?;
    // Whatever is there is not complete.
    let new = directory.with_extension("new");
    for left in [&directory, &new] {
        if left.exists() {
            fs::remove_dir_all(left)
                .with_context(|| format!("cannot remove {}", left.display()))?;
        }
    }
    command::run(&mut unpack(&new))?;
    // A package of Debian's makes these links when it is installed, and nothing is installed here.
    for name in ["bin", "lib", "lib64", "sbin"] {
        let (to, link) = (Path::new("usr").join(name), new.join(name));
        symlink(to, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    fs::rename(&new, &directory).context("cannot rename what was unpacked")?;
    Ok(format!("{PACKAGES} of {} in {}", RELEASE.0, directory.display()))
}

/// How somebody does it on another distribution.
pub fn by_hand() -> String {
    let directory = directory().unwrap_or_else(|_| Path::new("target").join(RELEASE.1));
    format!("them with `{}`", command::line(&unpack(&directory)))
}

/// From the mirror that mmdebstrap knows.
fn unpack(directory: &Path) -> Command {
    let mut unpack = Command::new("mmdebstrap");
    unpack.args(["--variant=extract", &format!("--include={PACKAGES}"), RELEASE.0]);
    unpack.arg(directory);
    unpack
}
