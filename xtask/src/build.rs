//! `cargo xtask build`: builds aiotrace, also for another architecture than this machine's. That needs
//! no C compiler and no C library: the target is musl, and the linker is the one that comes with Rust.

use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    arch::Architecture,
    binaries,
    command::{self, REQUIRE_EBPF, cargo},
};

/// Build aiotrace with its probes, for this machine or for another target
#[derive(Debug, Args)]
pub struct Options {
    /// The target, for instance aarch64-unknown-linux-musl; without it, this machine
    #[arg(long)]
    target: Option<String>,
    /// Build what tests use, quickly, and not a release
    #[arg(long)]
    debug: bool,
}

/// Runs the command.
///
/// # Errors
/// If the build fails.
pub fn run(options: &Options) -> Result<()> {
    let mut build = cargo(&["build", "-p", "aiotrace"]);
    if !options.debug {
        build.arg("--release");
    }
    if let Some(target) = &options.target {
        for_target(&mut build, target)?;
    }
    command::run(build.env(REQUIRE_EBPF.0, REQUIRE_EBPF.1))?;
    let profile = if options.debug { "debug" } else { "release" };
    let mut path = binaries::target_directory()?;
    path.extend(options.target.as_deref());
    println!("{}", path.join(profile).join("aiotrace").display());
    Ok(())
}

/// Adds to a cargo command what another target needs.
///
/// # Errors
/// If Rust has no standard library for the target.
pub fn for_target(build: &mut Command, target: &str) -> Result<()> {
    if !has_target(target) {
        bail!(
            "Rust has no standard library for {target} here: `cargo xtask setup` installs it for {}",
            Architecture::ALL.map(|it| it.target().unwrap_or("this machine")).join(", ")
        );
    }
    build.args(["--target", target]);
    let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    build.env(variable, "rust-lld");
    Ok(())
}

/// Whether Rust has a standard library for this target.
pub fn has_target(target: &str) -> bool {
    let directory = command::output(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        target,
    ]));
    directory.is_ok_and(|it| std::path::Path::new(it.trim()).is_dir())
}
