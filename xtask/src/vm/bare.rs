//! A guest that has nothing but some files, and runs a list of commands: for `cargo xtask dist --check`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    boot::{Clock, Qemu},
    initramfs,
};
use crate::{arch::Architecture, kernels};

/// Boots a kernel, which is chosen as `cargo xtask vm --kernel` does, with these files, each with its path there, one of
/// them our init; and runs the commands (xtask/init/src/commands.rs). `directory`: for what is needed on the way.
///
/// # Errors
/// If the guest does not come up, or if a command fails.
pub fn run(
    kernel: &str,
    files: &[(&str, PathBuf)],
    commands: &[&str],
    directory: &Path,
) -> Result<()> {
    let found = kernels::find(&[kernel.to_owned()])?;
    let kernel = found.last().context("there is no kernel")?;
    fs::create_dir_all(directory)?;
    let list = directory.join("commands");
    fs::write(&list, commands.join("\n") + "\n")?;
    let files = files.iter().map(|(name, path)| ((*name).to_owned(), path.clone()));
    let files: Vec<_> = files.chain([("commands".to_owned(), list)]).collect();
    let (initramfs, log) = (directory.join("initramfs"), directory.join("console.log"));
    initramfs::pack(&initramfs, &files)?;
    println!("booting {}; its console goes to {}", kernel.display(), log.display());
    let parameters = "aiotrace_commands=yes";
    let qemu = Qemu::new(Architecture::X86);
    let console = qemu.boot(kernel, &initramfs, "max", parameters, Clock::Real, &log)?;
    let failing = failing(commands, &console.text);
    if !failing.is_empty() {
        bail!("{}", failing.join("; "));
    }
    Ok(())
}

/// The commands that did not end with status 0, with how they did.
fn failing(commands: &[&str], console: &str) -> Vec<String> {
    let ended = |line: &str| {
        let head = format!("guest | end | {line} | ");
        console.lines().find_map(|it| Some(it.split_once(&head)?.1.trim()))
    };
    let told = commands.iter().map(|it| (it, ended(it).unwrap_or("it did not end")));
    let wrong = told.filter(|it| !matches!(it.1, "exit status: 0" | "begun"));
    wrong.map(|(line, ended)| format!("{line}: {ended}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_or_never_ends_is_told() {
        let console = "guest | end | a | exit status: 0\nx guest | end | b & | begun\n\
                       guest | end | c | exit status: 2\n";
        let failing = failing(&["a", "b &", "c", "d"], console);
        assert_eq!(failing, ["c: exit status: 2", "d: it did not end"]);
    }
}
