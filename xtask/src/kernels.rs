//! The kernels for `cargo xtask vm`: where they come from, and their table in
//! docs/reference/kernels.md.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{arch::Architecture, binaries, command};

/// The variable that names directories of kernels, with a colon between them, for people who have
/// some. CI has.
pub const DIRECTORY: &str = "AIOTRACE_KERNELS";

/// The series of Debian's kernels for clouds: these are small, and have the same tracing as all of
/// Debian's.
const DEBIAN: [&str; 2] = ["linux-image-6.1", "linux-image-6.12"];

/// The kernels that were asked for, by file or by a part of a file's name.
pub fn find(wanted: &[String]) -> Result<Vec<PathBuf>> {
    let mut chosen = Vec::new();
    let mut known = None;
    for name in wanted {
        let path = PathBuf::from(name);
        if path.is_file() {
            chosen.push(path);
            continue;
        }
        if known.is_none() {
            known = Some(all()?);
        }
        let before = chosen.len();
        if name.contains('/') {
            bail!("there is no file {name}");
        }
        let is_it = |it: &&PathBuf| {
            let file = it.file_name().unwrap_or_default().to_string_lossy();
            !name.is_empty() && file.contains(name)
        };
        let matches = known.iter().flatten().filter(is_it);
        chosen.extend(matches.cloned());
        if chosen.len() == before {
            let names = known.iter().flatten().filter_map(|it| it.file_name());
            let names: Vec<_> = names.map(|it| it.to_string_lossy()).collect();
            bail!(
                "no kernel {name:?} among {}: name one of these, or a vmlinuz file, or set {DIRECTORY} to the \
                 directories that have it",
                names.join(", ")
            );
        }
    }
    if wanted.is_empty() { all() } else { Ok(chosen) }
}

/// All kernels in the directories, or Debian's if there is no directory.
fn all() -> Result<Vec<PathBuf>> {
    let Some(directories) = env::var_os(DIRECTORY).filter(|it| !it.is_empty()) else {
        return fetch();
    };
    let mut known = Vec::new();
    for directory in env::split_paths(&directories).filter(|it| !it.as_os_str().is_empty()) {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("{DIRECTORY} names {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("vmlinuz")) {
                known.push(path);
            }
        }
    }
    if known.is_empty() {
        bail!("there is no vmlinuz file in {}", directories.display());
    }
    known.sort();
    Ok(known)
}

/// Fetches Debian's current kernels with apt into the target directory. Old versions vanish from
/// the archive, so apt is asked for their names each time.
fn fetch() -> Result<Vec<PathBuf>> {
    let directory = binaries::target_directory()?.join("kernels");
    fs::create_dir_all(&directory)?;
    let names = command::output(Command::new("apt-cache").arg("pkgnames").arg("linux-image-"))?;
    let mut kernels = Vec::new();
    for series in DEBIAN {
        let Some(package) = newest(&names, series) else {
            bail!(
                "apt knows no {series}*-cloud-amd64-unsigned: run `apt-get update`, name a kernel \
                 with --kernel FILE, or set {DIRECTORY} to a directory of vmlinuz files"
            );
        };
        let kernel =
            directory.join(format!("vmlinuz-{}", package.trim_start_matches("linux-image-")));
        if !kernel.exists() {
            unpack(&package, &directory, &kernel)?;
        }
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// The newest unsigned kernel for clouds of this series.
fn newest(names: &str, series: &str) -> Option<String> {
    let of_series = names.lines().filter(|name| {
        let rest = name.strip_prefix(series);
        rest.is_some_and(|rest| rest.starts_with(['.', '+', '-']))
            && name.ends_with("cloud-amd64-unsigned")
    });
    let version = |name: &str| -> Vec<u64> {
        name.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
    };
    of_series.max_by_key(|name| version(name)).map(str::to_owned)
}

/// The architecture of a kernel.
///
/// # Errors
/// If the file is none.
pub fn architecture(file: &Path) -> Result<Architecture> {
    let found = Architecture::of_kernel(file).with_context(|| file.display().to_string())?;
    found.with_context(|| format!("{} is no kernel for x86-64 or arm64", file.display()))
}

/// Takes the kernel out of its package.
fn unpack(package: &str, directory: &Path, kernel: &Path) -> Result<()> {
    let content = directory.join(package);
    fs::create_dir_all(&content)?;
    command::run(Command::new("apt-get").args(["download", package]).current_dir(&content))?;
    let deb = fs::read_dir(&content)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .context("apt-get downloaded no package")?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&content))?;
    let image = fs::read_dir(content.join("boot"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("vmlinuz")))
        .context("the package holds no vmlinuz")?;
    // Copy first and then rename: if xtask is killed in between, no half-written kernel is left.
    let part = kernel.with_extension("part");
    fs::copy(image, &part)?;
    fs::rename(&part, kernel)?;
    fs::remove_dir_all(&content)?;
    Ok(())
}

/// A row of the table: what the guest's `aiotrace doctor` said of the probe set that is used by
/// default. The test that runs `doctor` writes it to the console, each line behind `doctor | `.
pub fn row(name: &str, console: &str) -> Option<String> {
    let doctor: Vec<&str> =
        console.lines().filter_map(|it| it.split_once("doctor | ")).map(|it| it.1).collect();
    let set = doctor.iter().position(|it| it.starts_with("probe set "))?;
    let cell = |what: &str| {
        let line = doctor[set..].iter().find_map(|line| line.trim().strip_prefix(what));
        line.map_or("?", str::trim).to_owned()
    };
    let up = "guest | up | ";
    let release = console.lines().find_map(|it| it.split_once(up)).map_or("?", |it| it.1);
    let cells = [
        name.to_owned(),
        release.to_owned(),
        doctor[set].trim_start_matches("probe set ").to_owned(),
        cell("calls"),
        cell("completions"),
        cell("refused iocbs"),
        cell("contexts that end"),
        cell("contexts that are moved"),
    ];
    Some(format!("| {} |", cells.join(" | ")))
}

const BEGIN: &str = "<!-- made by `cargo xtask vm --docs` -->\n";
const END: &str = "<!-- end -->";

/// Puts the rows into docs/reference/kernels.md, or, without `write`, checks that the document has
/// them.
pub fn document(rows: &[String], write: bool) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/kernels.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) =
        text.split_once(BEGIN).context("docs/reference/kernels.md has no table")?;
    let (table, after) =
        rest.split_once(END).context("the table in docs/reference/kernels.md has no end")?;
    if write {
        let head = "| kernel | release | probe set | calls | completions | refused iocbs | contexts that end \
                    | contexts that are moved |\n|---|---|---|---|---|---|---|---|\n";
        let text = format!("{before}{BEGIN}{head}{}\n{END}{after}", rows.join("\n"));
        return fs::write(&path, text).context("cannot write docs/reference/kernels.md");
    }
    let name = |row: &str| row.split('|').nth(1).map(|it| it.trim().to_owned());
    for row in rows {
        let documented = table.lines().find(|line| name(line) == name(row));
        if documented.is_some_and(|line| line != row) {
            bail!(
                "docs/reference/kernels.md says something else: run `cargo xtask vm --docs`\n{row}"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_of_a_series_is_found() {
        let names = "linux-image-6.1.0-9-cloud-amd64-unsigned\nlinux-image-6.1.0-41-cloud-amd64-unsigned\n\
                     linux-image-6.12.1-cloud-amd64-unsigned\nlinux-image-6.1.0-50-amd64\n";
        let found = newest(names, "linux-image-6.1");
        assert_eq!(found.as_deref(), Some("linux-image-6.1.0-41-cloud-amd64-unsigned"));
        assert_eq!(newest(names, "linux-image-5.10"), None);
    }

    #[test]
    fn a_row_is_what_doctor_said_first() {
        let console = "guest | up | 6.1.0\n\ntest a ... doctor | \ndoctor | probe set trampoline\ndoctor |   calls    trampolines\n\
                       doctor |   completions    t\ndoctor | probe set syscall\ndoctor |   calls   tracepoints\n";
        let row = row("a", console);
        assert_eq!(
            row.as_deref(),
            Some("| a | 6.1.0 | trampoline | trampolines | t | ? | ? | ? |")
        );
        assert_eq!(super::row("a", "guest | up | 6.1.0\n"), None, "it was not asked");
    }
}
