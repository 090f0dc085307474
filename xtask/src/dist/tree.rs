//! The files of a package, in the places where they are installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Release, binary::Binary};
use crate::command;

/// What a directory in a package is.
pub(super) const DIRECTORY: u32 = 0o755;
const FILE: u32 = 0o644;

/// The files, and where some of them are.
pub(super) struct Tree {
    /// All files, below `usr`.
    pub root: PathBuf,
    /// The manual pages, as they are made.
    pub pages: PathBuf,
    /// The completions, as they are made: bash, zsh, fish.
    pub completions: [(&'static str, PathBuf); 3],
}

/// Puts the files together. The manual pages and the completions are made by the program itself.
pub(super) fn make(release: &Release, binary: &Binary) -> Result<Tree> {
    let root = release.work.join("tree");
    let pages = release.work.join("man");
    command::run(Command::new(&binary.program).arg("man").arg(&pages))?;
    let completions = release.work.join("completions");
    fs::create_dir_all(&completions)?;
    let completions = [("bash", "aiotrace"), ("zsh", "_aiotrace"), ("fish", "aiotrace.fish")]
        .map(|(shell, name)| (shell, completions.join(shell).join(name)));
    for (shell, path) in &completions {
        let text = command::output(Command::new(&binary.program).args(["completions", shell]))?;
        write(path, text.as_bytes(), FILE)?;
    }
    write(&root.join("usr/bin/aiotrace"), &fs::read(&binary.program)?, DIRECTORY)?;
    for page in fs::read_dir(&pages)? {
        let page = page?.path();
        let section = page.extension().context("a page without a section")?.to_string_lossy();
        let name = page.file_name().context("a page without a name")?.to_string_lossy();
        let place = root.join(format!("usr/share/man/man{section}/{name}"));
        write(&place, &fs::read(&page)?, FILE)?;
        compress(&place)?;
    }
    for (shell, path) in &completions {
        let place = match *shell {
            "bash" => "usr/share/bash-completion/completions/aiotrace",
            "zsh" => "usr/share/zsh/vendor-completions/_aiotrace",
            _ => "usr/share/fish/vendor_completions.d/aiotrace.fish",
        };
        write(&root.join(place), &fs::read(path)?, FILE)?;
    }
    let documents = root.join("usr/share/doc/aiotrace");
    let news = documents.join("CHANGELOG.md");
    write(&news, &fs::read(release.root.join("CHANGELOG.md"))?, FILE)?;
    compress(&news)?;
    write(&documents.join("README.md"), &fs::read(release.root.join("README.md"))?, FILE)?;
    Ok(Tree { root, pages, completions })
}

/// Writes a file with these rights, and makes the directories on the way to it (with the rights that the umask leaves:
/// [`super::run`] sets it).
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let directory = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    fs::write(path, content).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Compresses a file in its place, without its name and time.
pub(super) fn compress(path: &Path) -> Result<()> {
    command::run(Command::new("gzip").args(["-9", "-n", "-f"]).arg(path))
}
