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
/// Where systemd looks for the units of packages.
const UNITS: &str = "usr/lib/systemd/system";

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
    // Installed, and enabled by whoever wants it.
    for unit in fs::read_dir(release.root.join("contrib/systemd"))? {
        let unit = unit?;
        let place = root.join(UNITS).join(unit.file_name());
        write(&place, &fs::read(unit.path())?, FILE)?;
    }
    let documents = root.join("usr/share/doc/aiotrace");
    copy_documents(release, &documents)?;
    let news = documents.join("CHANGELOG.md");
    write(&news, &fs::read(release.root.join("CHANGELOG.md"))?, FILE)?;
    compress(&news)?;
    Ok(Tree { root, pages, completions })
}

/// Copies README.md and the documents that it leads to.
pub(super) fn copy_documents(release: &Release, to: &Path) -> Result<()> {
    let mut list = Command::new("git");
    list.current_dir(&release.root).args([
        "ls-files",
        "README.md",
        "SECURITY.md",
        "docs",
        "contrib",
    ]);
    let names = command::output(&mut list)?;
    // How to develop it is of no use without the sources.
    for name in names.lines().filter(|it| !it.starts_with("docs/dev/")) {
        write(&to.join(name), &fs::read(release.root.join(name))?, FILE)?;
    }
    Ok(())
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
