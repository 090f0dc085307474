//! `cargo xtask kernel`: builds a kernel with error injection and override, which Debian's kernels
//! lack, for the tests of these. It is made from Debian's own source with the configuration in
//! xtask/kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    binaries, command,
    debian::{self, Apt},
};

/// Build the kernel with error injection from Debian's source (8 to 20 minutes)
#[derive(Debug, Args)]
pub struct Options {
    /// Where to put the kernel; by default vmlinuz-6.12-override in the target directory
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const SOURCE: &str = "linux-source-6.12";
/// The packages that building the kernel needs.
const TOOLS: [&str; 7] = ["flex", "bison", "bc", "libelf-dev", "libssl-dev", "dwarves", "xz-utils"];
/// The settings that `make tinyconfig` leaves out and that the tests need.
const FRAGMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernel/override.config");

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    if !debian::is_here() {
        bail!("this takes Debian's {SOURCE}: build a kernel of your own with {FRAGMENT}");
    }
    let mut apt = Apt::default();
    apt.install(&debian::missing(&TOOLS)?)?;
    let directory = binaries::target_directory()?.join("kernel");
    let tree = source(&directory)?;
    let make = |targets: &[&str]| {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = Command::new("make");
        make.arg("-C").arg(&tree).arg(format!("-j{jobs}")).args(targets);
        // Set both, or two builds would differ by their time and by what the distribution adds to
        // the version.
        make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01").env("LOCALVERSION", "");
        command::run(&mut make)
    };
    make(&["tinyconfig"])?;
    let config = tree.join(".config");
    let tiny = fs::read_to_string(&config)?;
    fs::write(&config, format!("{tiny}\n{}", fs::read_to_string(FRAGMENT)?))?;
    make(&["olddefconfig"])?;
    let missing = missing(&fs::read_to_string(&config)?, &fs::read_to_string(FRAGMENT)?);
    if !missing.is_empty() {
        bail!("the kernel does not take these settings: {}", missing.join(", "));
    }
    make(&["bzImage"])?;
    let output = options.output.clone().unwrap_or_else(|| directory.join("vmlinuz-6.12-override"));
    fs::copy(tree.join("arch/x86/boot/bzImage"), &output)
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: try it with `cargo xtask vm --kernel {0}`", output.display());
    Ok(())
}

/// The source tree. It is unpacked only once.
fn source(directory: &Path) -> Result<PathBuf> {
    let tree = directory.join(SOURCE);
    if tree.join("Makefile").exists() {
        return Ok(tree);
    }
    fs::create_dir_all(directory)?;
    command::run(Command::new("apt-get").args(["download", SOURCE]).current_dir(directory))?;
    let package = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .context("apt-get downloaded no package")?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(directory))?;
    let archive = directory.join("usr/src").join(format!("{SOURCE}.tar.xz"));
    command::run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(directory))?;
    fs::remove_file(package)?;
    fs::remove_dir_all(directory.join("usr"))?;
    Ok(tree)
}

/// The settings that were asked for and are not in the configuration.
fn missing(config: &str, fragment: &str) -> Vec<String> {
    let wanted = fragment.lines().filter(|line| line.starts_with("CONFIG_"));
    wanted.filter(|line| !config.lines().any(|it| it == *line)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn settings_that_were_dropped_are_found() {
        let config = "CONFIG_AIO=y\n# CONFIG_BPF is not set\n";
        assert_eq!(missing(config, "CONFIG_AIO=y\n# comment\nCONFIG_BPF=y\n"), ["CONFIG_BPF=y"]);
    }
}
