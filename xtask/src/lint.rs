//! `cargo xtask lint`: checks the formatting, and runs clippy on the host's crates and on the
//! probes.

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    command::{self, REQUIRE_EBPF, cargo},
    probes::Toolchain,
};

/// Run all checks of the sources, and name those that fail
#[derive(Debug, Args)]
pub struct Options {}

/// Runs the command.
pub fn run(_: &Options) -> Result<()> {
    let failing = failing();
    if !failing.is_empty() {
        bail!("failing: {}", failing.join(", "));
    }
    println!("all checks are clean");
    Ok(())
}

/// Runs all checks; gives the names of the failing ones.
pub fn failing() -> Vec<&'static str> {
    let format = cargo(&["fmt", "--all", "--check"]);
    let mut host = cargo(&["clippy", "--workspace", "--exclude", "aiotrace-ebpf"]);
    host.args(["--exclude", "aio-programs-32", "--all-targets"])
        // In the profile of the tests, which needs the same macros and build scripts.
        .args(["--", "-D", "warnings"])
        // The same value as in `cargo xtask test`: with another one, cargo would build the probes
        // again each time.
        .env(REQUIRE_EBPF.0, REQUIRE_EBPF.1);
    // If there is no source of the standard library, cargo's own error says what is missing.
    let mut probes = Toolchain::find().unwrap_or(Toolchain::Own).clippy();
    probes
        .args(["-p", "aiotrace-ebpf", "--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .args(["--release", "--", "-D", "warnings"])
        // With this variable, the stable cargo and rustc take -Z.
        .env("RUSTC_BOOTSTRAP", "1");

    let checks = [("format", format), ("clippy", host), ("clippy of the probes", probes)];
    let mut failing = Vec::new();
    for (name, mut check) in checks {
        if let Err(error) = command::run(&mut check) {
            eprintln!("xtask: {name}: {error:#}");
            failing.push(name);
        }
    }
    failing
}
