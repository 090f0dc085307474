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
    let us = env::current_exe().context("cannot find the path of xtask")?;
    let directory = directory(&us).context("xtask is not in cargo's target directory")?;
    let binaries =
        Binaries { aiotrace: directory.join("aiotrace"), programs: directory.join("aio-programs") };
    for path in [&binaries.aiotrace, &binaries.programs] {
        if !path.exists() {
            bail!("{} is not there after the build: start xtask as `cargo xtask`", path.display());
        }
    }
    Ok(binaries)
}

/// Cargo put us into TARGET/debug, whatever CARGO_TARGET_DIR and CARGO_BUILD_TARGET say.
fn directory(us: &Path) -> Option<PathBuf> {
    Some(us.parent()?.parent()?.join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_beside_debug() {
        let found = directory(Path::new("/somewhere/target/debug/xtask"));
        assert_eq!(found, Some(PathBuf::from("/somewhere/target/release")));
    }
}
