//! The toolchain that builds the probes, chosen as aiotrace/build.rs does.
//!
//! Building `core` for the bpf target needs the standard library's source beside the compiler.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::command;

/// Where Debian's own toolchain is (packages rustc-web, cargo-web, rust-web-src). It is used where
/// rustup cannot add the component rust-src.
const DEBIAN_BIN: &str = "/usr/bin";

/// A toolchain that has the standard library's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The toolchain that runs us.
    Own,
    /// The toolchain in [`DEBIAN_BIN`].
    Debian,
}

impl Toolchain {
    /// The toolchain that builds the probes here; `None` if none can.
    pub fn find() -> Option<Self> {
        [Self::Own, Self::Debian].into_iter().find(|it| has_source(&it.rustc()))
    }

    /// The major version of the LLVM in its compiler. bpf-linker must be built with the same one.
    pub fn llvm_major(self) -> Result<u32> {
        let version = command::output(Command::new(self.rustc()).arg("-vV"))?;
        llvm_major(&version).context("`rustc -vV` does not say which LLVM it has")
    }

    /// `cargo clippy` of this toolchain.
    pub fn clippy(self) -> Command {
        match self {
            Self::Own => command::cargo(&["clippy"]),
            Self::Debian => {
                // `cargo clippy` would find rustup's clippy: cargo looks into its own bin directory
                // before it looks into PATH.
                let mut clippy = Command::new(debian_clippy());
                clippy
                    .arg("clippy")
                    .env("PATH", DEBIAN_BIN)
                    .env("CARGO", Path::new(DEBIAN_BIN).join("cargo"));
                clippy
            }
        }
    }

    /// A cargo command of this toolchain.
    pub fn cargo(self, subcommand: &str) -> Command {
        match self {
            Self::Own => command::cargo(&[subcommand]),
            Self::Debian => {
                let mut cargo = Command::new(Path::new(DEBIAN_BIN).join("cargo"));
                cargo.arg(subcommand).env("PATH", DEBIAN_BIN);
                cargo
            }
        }
    }

    fn rustc(self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("rustc"),
            Self::Debian => Path::new(DEBIAN_BIN).join("rustc"),
        }
    }
}

/// Where Debian's clippy (package rust-web-clippy) is.
pub fn debian_clippy() -> PathBuf {
    Path::new(DEBIAN_BIN).join("cargo-clippy")
}

fn has_source(rustc: &Path) -> bool {
    let sysroot = command::output(Command::new(rustc).args(["--print", "sysroot"]));
    sysroot.is_ok_and(|sysroot| {
        let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
        !sysroot.trim().is_empty() && Path::new(sysroot.trim()).join(core).exists()
    })
}

/// Reads the major version from the output of `rustc -vV`.
fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version:"))?;
    line.trim().split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn the_llvm_of_a_compiler_is_read() {
        let version = "rustc 1.95.0 (59807616e 2026-04-14)\n\
                       host: x86_64-unknown-linux-gnu\n\
                       release: 1.95.0\n\
                       LLVM version: 22.1.2\n";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("LLVM version: 22"), Some(22));
    }

    #[test]
    fn a_compiler_without_llvm_has_none() {
        assert_eq!(llvm_major("release: 1.95.0\n"), None);
        assert_eq!(llvm_major("LLVM version: unknown\n"), None);
        assert_eq!(llvm_major(""), None);
    }
}
