//! The files of a package, in the places where they are installed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Release, binary::Binary, notices};
use crate::command;

/// What a directory in a package is.
pub(super) const DIRECTORY: u32 = 0o755;
const FILE: u32 = 0o644;
/// Where the documents of a package are.
pub(super) const DOCUMENTS: &str = "usr/share/doc/aiotrace";
/// Our own licences. What is not ours is in [`notices::NAME`].
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
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
    let documents = root.join(DOCUMENTS);
    copy_documents(release, &documents)?;
    copy_licences(release, &documents)?;
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
    let mut names: Vec<&str> = names.lines().filter(|it| !it.starts_with("docs/dev/")).collect();
    names.sort_unstable();
    let is_there = |path: &str| {
        let is_below = |it: &str| it.strip_prefix(path).is_some_and(|it| it.starts_with('/'));
        names.iter().chain(&LICENCES).any(|it| *it == path || is_below(it))
    };
    let sources = format!("https://github.com/aiotrace/aiotrace/blob/{}", release.commit);
    for name in &names {
        let path = release.root.join(name);
        let content = match name.ends_with(".md") {
            true => with_links(name, &fs::read_to_string(&path)?, is_there, &sources).into_bytes(),
            false => fs::read(&path)?,
        };
        write(&to.join(name), &content, FILE)?;
    }
    Ok(())
}

/// A document whose links to files that are not copied with it lead to the sources of the release.
fn with_links(name: &str, text: &str, is_there: impl Fn(&str) -> bool, sources: &str) -> String {
    let mut parts = text.split("](");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str("](");
        let link = part.split(')').next().unwrap_or_default();
        let file = link.split('#').next().unwrap_or_default();
        let is_ours = !file.is_empty() && !link.contains(':');
        match is_ours.then(|| resolved(name, file)) {
            Some(path) if !is_there(&path) => {
                result.push_str(&format!("{sources}/{path}{}", &part[file.len()..]));
            }
            _ => result.push_str(part),
        }
    }
    result
}

/// The path from the root of a file that this document names.
fn resolved(document: &str, file: &str) -> String {
    let mut path: Vec<&str> = document.split('/').collect();
    path.pop();
    for part in file.split('/') {
        match part {
            ".." => {
                path.pop();
            }
            "." | "" => {}
            part => path.push(part),
        }
    }
    path.join("/")
}

/// Copies the licences: ours, and those of what is linked into the program. They are the same in all packages.
pub(super) fn copy_licences(release: &Release, to: &Path) -> Result<()> {
    for name in LICENCES {
        write(&to.join(name), &fs::read(release.root.join(name))?, FILE)?;
    }
    write(&to.join(notices::NAME), &fs::read(release.work.join(notices::NAME))?, FILE)
}

/// Packs what is `inside` a directory, in an order and with a time that are always the same.
pub(super) fn tar(
    release: &Release,
    directory: &Path,
    inside: &str,
    compressor: Option<&str>,
    to: &Path,
) -> Result<()> {
    let mut tar = release.command("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    tar.arg(format!("--mtime=@{}", release.epoch));
    if let Some(compressor) = compressor {
        tar.args(["--use-compress-program", compressor]);
    }
    command::run(tar.arg("-cf").arg(to).arg("-C").arg(directory).arg(inside))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_what_is_not_copied_lead_to_the_sources() {
        let links = |name: &str, text: &str| {
            let there = ["README.md", "docs/README.md", "docs/reference/findings"];
            with_links(name, text, |it| there.contains(&it), "https://forge/blob/1a2b")
        };
        let text = "[a](dev/release.md#in-it), [b](../CONTRIBUTING.md) and [c](../xtask/x.md).";
        let right = "[a](https://forge/blob/1a2b/docs/dev/release.md#in-it), \
                     [b](https://forge/blob/1a2b/CONTRIBUTING.md) and \
                     [c](https://forge/blob/1a2b/xtask/x.md).";
        assert_eq!(links("docs/README.md", text), right);
        let text = "[a](docs/README.md#x) [b](#here) [c](https://x.org/x)\n\
                    [d](docs/reference/findings/)";
        assert_eq!(links("README.md", text), text);
        assert_eq!(links("docs/reference/x.md", "[r](../../README.md)"), "[r](../../README.md)");
        assert_eq!(links("README.md", "no link"), "no link");
    }
}
