//! The archives: the program with its documents, and its symbols. And the checksums of everything.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::{
    Release,
    binary::Binary,
    tree::{DIRECTORY, Tree, copy_documents, copy_licences, tar, write},
};
use crate::command;

/// What compresses the archives. With more threads the result would depend on how many processors there are.
const XZ: &str = "xz -T1 -6";

/// The name of the file with the checksums.
pub(super) const SUMS: &str = "SHA256SUMS";

/// Makes both archives.
pub(super) fn make(release: &Release, tree: &Tree, binary: &Binary) -> Result<()> {
    let stem = release.stem();
    let inside = release.work.join("archive").join(&stem);
    write(&inside.join("aiotrace"), &fs::read(&binary.program)?, DIRECTORY)?;
    copy_documents(release, &inside)?;
    copy_licences(release, &inside)?;
    let news = "CHANGELOG.md";
    write(&inside.join(news), &fs::read(release.root.join(news))?, 0o644)?;
    for page in fs::read_dir(&tree.pages)? {
        let page = page?;
        write(&inside.join("man").join(page.file_name()), &fs::read(page.path())?, 0o644)?;
    }
    for (shell, path) in &tree.completions {
        let name = path.file_name().unwrap_or_default();
        write(&inside.join("completions").join(shell).join(name), &fs::read(path)?, 0o644)?;
    }
    let to = release.out.join(format!("{stem}.tar.xz"));
    tar(release, &release.work.join("archive"), &stem, Some(XZ), &to)?;
    // Where gdb, aiotrace and debuginfod look for it.
    let (first, rest) = binary.id.split_at(2);
    let inside = release.work.join("symbols");
    let place = inside.join(format!("usr/lib/debug/.build-id/{first}/{rest}.debug"));
    write(&place, &fs::read(&binary.symbols)?, 0o644)?;
    tar(release, &inside, "usr", Some(XZ), &release.out.join(format!("{stem}-debug.tar.xz")))
}

/// Writes the checksums of all files.
pub(super) fn sums(directory: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.retain(|it| it != SUMS);
    names.sort();
    let mut sum = Command::new("sha256sum");
    let text = command::output(sum.current_dir(directory).args(&names))?;
    Ok(fs::write(directory.join(SUMS), text)?)
}
