//! Whether the crates can be used without the repository, and without what builds the probes.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{
    super::{Release, crates::CRATES},
    fresh,
};
use crate::command::{self, REQUIRE_EBPF};

/// Installs the crate as a user does when all three are published, with an empty home, and with no programs but the
/// toolchain's and Debian's; traces with it; and makes its documentation.
pub(super) fn from_crates(release: &Release) -> Result<()> {
    let home = fresh(release, "home")?;
    let mut patches = Vec::new();
    for name in CRATES {
        let file = format!("{name}-{}", release.version);
        let packed = release.out.join(format!("{file}.crate"));
        command::run(Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(&home))?;
        if name != PROGRAM {
            let path = home.join(file).display().to_string();
            patches
                .extend(["--config".to_owned(), format!("patch.crates-io.{name}.path={path:?}")]);
        }
    }
    let crate_ = home.join(format!("{PROGRAM}-{}", release.version));
    let path = format!("{}/bin:/usr/bin:/bin", command::sysroot()?);
    let cargo = |arguments: &[&str], directory: &Path| {
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).args(&patches).current_dir(directory);
        cargo.env("HOME", &home).env("PATH", &path).env("CARGO_TARGET_DIR", home.join("target"));
        // An empty one, as in an empty home.
        cargo.env("CARGO_HOME", home.join("cargo"));
        cargo
    };
    let mut install = cargo(&["install", "--debug", "--path"], &home);
    install.arg(&crate_).arg("--root").arg(&home);
    command::run(install.env(REQUIRE_EBPF.0, REQUIRE_EBPF.1))?;
    let mut run = Command::new(home.join("bin/aiotrace"));
    command::run(run.args(["run", "-q", "--source", "bpf", "--", "true"]))?;
    command::run(&mut cargo(&["doc", "--no-deps"], &crate_))
}

const PROGRAM: &str = "aiotrace";
