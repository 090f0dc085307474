//! The release binaries that the kernel tests and the demonstration run.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{self, REQUIRE_EBPF, cargo},
    probes::Toolchain,
};

/// Where they are.
#[derive(Debug)]
pub struct Binaries {
    /// The product.
    pub aiotrace: PathBuf,
    /// The programs to trace.
    pub programs: PathBuf,
    /// The 32-bit one.
    pub programs_32: PathBuf,
}

/// Builds them, with the probes.
pub fn build() -> Result<Binaries> {
    let (key, value) = REQUIRE_EBPF;
    let mut build = cargo(&["build", "--release", "-p", "aio-programs", "-p", "aiotrace"]);
    command::run(build.env(key, value))?;
    let directory = target_directory()?.join("release");
    let binaries = Binaries {
        aiotrace: directory.join("aiotrace"),
        programs: directory.join("aio-programs"),
        // The suite looks for it beside the others.
        programs_32: directory.join("aio-programs-32"),
    };
    command::run(&mut build_32())?;
    let built = target_directory()?.join(TARGET_32).join("release/aio-programs-32");
    fs::copy(&built, &binaries.programs_32).with_context(|| built.display().to_string())?;
    for path in [&binaries.aiotrace, &binaries.programs] {
        if !path.exists() {
            bail!("{} is not there after the build: start xtask as `cargo xtask`", path.display());
        }
    }
    Ok(binaries)
}

const TARGET_32: &str = "i686-unknown-linux-gnu";

/// Needs no more than the probes do: the source of `core`, and the linker that comes with rustc. There
/// is no C library of 32 bits on most machines.
fn build_32() -> Command {
    let mut build = Toolchain::find().unwrap_or(Toolchain::Own).cargo("build");
    build
        .args(["-p", "aio-programs-32", "--release", "--target", TARGET_32])
        .args(["-Z", "build-std=core", "-Z", "build-std-features=compiler-builtins-mem"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            "-C panic=abort -C linker-flavor=ld.lld -C linker=rust-lld -C link-arg=-static \
             -C relocation-model=static",
        );
    build
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
