//! The release binaries that the kernel tests and the demonstration run.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::command::{self, REQUIRE_EBPF, cargo};

/// Where they are.
#[derive(Debug)]
pub struct Binaries {
    /// The product.
    pub aiotrace: PathBuf,
    /// The programs to trace.
    pub programs: PathBuf,
}

/// Builds both, with the probes.
pub fn build() -> Result<Binaries> {
    let (key, value) = REQUIRE_EBPF;
    let mut build = cargo(&["build", "--release", "-p", "aio-programs", "-p", "aiotrace"]);
    command::run(build.env(key, value))?;
    let directory = target_directory()?.join("release");
    let binaries =
        Binaries { aiotrace: directory.join("aiotrace"), programs: directory.join("aio-programs") };
    for path in [&binaries.aiotrace, &binaries.programs] {
        if !path.exists() {
            bail!("{} is not there after the build: start xtask as `cargo xtask`", path.display());
        }
    }
    Ok(binaries)
}

/// Where cargo builds.
pub fn target_directory() -> Result<PathBuf> {
    let us = env::current_exe().context("cannot find the path of xtask")?;
    target_of(&us).context("xtask is not in cargo's target directory")
}

/// Cargo put us into TARGET/debug, whatever CARGO_TARGET_DIR and CARGO_BUILD_TARGET say.
fn target_of(us: &Path) -> Option<PathBuf> {
    Some(us.parent()?.parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_directory_is_two_above_us() {
        let found = target_of(Path::new("/somewhere/target/debug/xtask"));
        assert_eq!(found, Some(PathBuf::from("/somewhere/target")));
    }
}
