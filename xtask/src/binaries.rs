//! The binaries that the kernel tests, the demo and the benchmarks run. But for benchmarks, they are those that a plain
//! `cargo test` builds: the profile `dev` optimizes what they spend their time in.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    arch::Architecture,
    build,
    command::{self, REQUIRE_EBPF, cargo},
    probes::Toolchain,
};

/// The paths of the binaries.
#[derive(Debug)]
pub struct Binaries {
    /// The product.
    pub aiotrace: PathBuf,
    /// The programs to trace.
    pub programs: PathBuf,
    /// The program to trace that has 32 bits.
    pub programs_32: PathBuf,
    /// The kernel tests.
    pub kernel_tests: PathBuf,
    /// The first process of a virtual machine.
    pub init: PathBuf,
}

/// Builds all binaries for this architecture, with the probes in aiotrace.
pub fn build_for(arch: Architecture) -> Result<Binaries> {
    match arch.target() {
        None => build(),
        Some(target) => build_other(arch, target),
    }
}

/// Builds all binaries for another target. They are linked with no library. In the guest they lie in memory, so they have no
/// debug information.
fn build_other(arch: Architecture, target: &str) -> Result<Binaries> {
    // One build in the profile of `cargo test`: the macros and build scripts are those that it made.
    let mut build = cargo(&["build", "--config", "profile.dev.debug=\"none\""]);
    build.args(["-p", "aiotrace", "-p", "aio-programs", "-p", "guest-init"]);
    build::for_target(build.args(["--bins", "--test", "kernel"]), target)?;
    let kernel_tests = test_binary(build)?;
    let programs_32 = build_32(arch)?;
    let directory = target_directory()?.join(target).join("debug");
    Ok(Binaries {
        aiotrace: directory.join("aiotrace"),
        programs: directory.join("aio-programs"),
        programs_32,
        kernel_tests,
        init: directory.join("guest-init"),
    })
}

/// Builds all binaries, with the probes in aiotrace.
pub fn build() -> Result<Binaries> {
    // With the packages that `cargo test` builds: of fewer, some of what they depend on has other features, and would be
    // built a second time.
    let mut build = cargo(&["build"]);
    build.args(TESTED).args(["--lib", "--bins", "--test", "kernel"]);
    let kernel_tests = test_binary(build)?;
    let directory = target_directory()?.join("debug");
    let binaries = Binaries {
        aiotrace: directory.join("aiotrace"),
        programs: directory.join("aio-programs"),
        // The tests look for it beside the other programs.
        programs_32: directory.join("aio-programs-32"),
        kernel_tests,
        init: directory.join("guest-init"),
    };
    let built = build_32(Architecture::own())?;
    fs::copy(&built, &binaries.programs_32).with_context(|| built.display().to_string())?;
    for path in [&binaries.aiotrace, &binaries.programs] {
        if !path.exists() {
            bail!("{} is not there after the build: start xtask as `cargo xtask`", path.display());
        }
    }
    Ok(binaries)
}

/// What a plain `cargo test` of this workspace builds. (The others are for other targets.)
pub const TESTED: [&str; 5] =
    ["--workspace", "--exclude", "aiotrace-ebpf", "--exclude", "aio-programs-32"];

/// Builds a test program; gives its path.
fn test_binary(mut build: Command) -> Result<PathBuf> {
    build.arg("--message-format=json-render-diagnostics").env(REQUIRE_EBPF.0, REQUIRE_EBPF.1);
    let line = command::line(&build);
    eprintln!("$ {line}");
    let output =
        build.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    executable(&String::from_utf8_lossy(&output.stdout)).context("cargo named no test binary")
}

/// The path of the test binary in cargo's messages, which are one JSON object per line.
fn executable(messages: &str) -> Option<PathBuf> {
    let mut messages = messages.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
    let found =
        messages.find(|it| it["target"]["name"] == "kernel" && it["executable"].is_string());
    Some(PathBuf::from(found?["executable"].as_str()?))
}

/// Builds the 32-bit program of an architecture; gives its path. That needs no more than the probes do: the source of
/// `core`, and the linker that comes with rustc. (Most machines have no C library of 32 bits.)
fn build_32(arch: Architecture) -> Result<PathBuf> {
    let target = arch.target_32();
    let mut build = Toolchain::find().unwrap_or(Toolchain::Own).cargo("build");
    build
        .args(["-p", "aio-programs-32", "--release", "--target", target])
        .args(["-Z", "build-std=core", "-Z", "build-std-features=compiler-builtins-mem"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            "-C panic=abort -C linker-flavor=ld.lld -C linker=rust-lld -C link-arg=-static \
             -C relocation-model=static",
        );
    command::run(&mut build)?;
    Ok(target_directory()?.join(target).join("release/aio-programs-32"))
}

/// The directory into which cargo builds.
pub fn target_directory() -> Result<PathBuf> {
    let us = env::current_exe().context("cannot find the path of xtask")?;
    target_of(&us).context("xtask is not in cargo's target directory")
}

/// cargo put xtask into TARGET/debug, whatever CARGO_TARGET_DIR and CARGO_BUILD_TARGET say.
fn target_of(us: &Path) -> Option<PathBuf> {
    Some(us.parent()?.parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_binary_is_found_in_the_messages_of_cargo() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"aiotrace\"},\"executable\":null}\n\
            {\"target\":{\"name\":\"kernel\"},\"executable\":\"/t/kernel-12\"}\n{\"reason\":\"build-finished\"}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/kernel-12")));
        assert_eq!(executable(""), None);
    }

    #[test]
    fn the_target_directory_is_two_above_us() {
        let found = target_of(Path::new("/somewhere/target/debug/xtask"));
        assert_eq!(found, Some(PathBuf::from("/somewhere/target")));
    }
}
