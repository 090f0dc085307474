//! The content of a guest: aiotrace, the kernel tests, the workloads, fio, a shell, and the
//! libraries that these need.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::{arch::Architecture, binaries, command, foreign};

/// Writes the archive of the files of a guest of this architecture.
pub fn write(path: &Path, binaries: &binaries::Binaries, arch: Architecture) -> Result<()> {
    let busybox = if arch.target().is_none() {
        which::which("busybox").context("busybox: run `cargo xtask setup`")?
    } else {
        foreign::busybox(arch)?
    };
    let mut files = vec![
        ("init".to_owned(), binaries.init.clone()),
        ("bin/kernel-tests".to_owned(), binaries.kernel_tests.clone()),
        ("bin/aiotrace".to_owned(), binaries.aiotrace.clone()),
        ("bin/aio-programs".to_owned(), binaries.programs.clone()),
        // The other programs look for it beside themselves.
        ("bin/aio-programs-32".to_owned(), binaries.programs_32.clone()),
        // busybox is linked with no library, and the init makes links to it for its many names.
        ("bin/busybox".to_owned(), busybox),
        ("etc/passwd".to_owned(), PathBuf::from("/etc/passwd")),
        ("etc/group".to_owned(), PathBuf::from("/etc/group")),
    ];
    // What another architecture's guest runs is linked with no library, and has no other programs.
    if arch.target().is_none() {
        files.extend(own(binaries, &files)?);
    }
    let is_meant =
        |it: &&mut (String, PathBuf)| arch.target().is_none() && STRIPPED.contains(&&*it.0);
    for (name, source) in files.iter_mut().filter(is_meant) {
        *source = without_debug_information(source, &path.with_extension(name.replace('/', ".")))?;
    }
    pack(path, &files)
}

/// Writes an archive of these files, each with its path in the guest, and of the directories that they and our init need.
pub fn pack(path: &Path, files: &[(String, PathBuf)]) -> Result<()> {
    let mut archive = io::BufWriter::new(File::create(path)?);
    let mut inode = 0;
    let mut entry = |name: &str, mode: u32, kind: ModeFileType| {
        inode += 1;
        Builder::new(name).ino(inode).mode(mode).set_mode_file_type(kind)
    };
    let mut directories: Vec<String> =
        ["proc", "sys", "dev", "tmp", "var", "var/tmp"].map(str::to_owned).to_vec();
    for (name, _) in files {
        let parents: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        let parents = parents.into_iter().rev().filter(|it| !it.as_os_str().is_empty());
        directories.extend(parents.map(|it| it.to_string_lossy().into_owned()));
    }
    let mut made = BTreeSet::new();
    directories.sort();
    for name in directories {
        if made.insert(name.clone()) {
            archive = entry(&name, 0o755, ModeFileType::Directory).write(archive, 0).finish()?;
        }
    }
    for (name, source) in files {
        let content = fs::read(source).with_context(|| source.display().to_string())?;
        let mode = if name.starts_with("etc/") { 0o644 } else { 0o755 };
        let mut writer =
            entry(name, mode, ModeFileType::Regular).write(archive, content.len() as u32);
        io::Write::write_all(&mut writer, &content)?;
        archive = writer.finish()?;
    }
    io::Write::flush(&mut trailer(archive)?)?;
    Ok(())
}

/// This machine's own programs that the tests run in a guest, and the libraries that all need.
fn own(
    binaries: &binaries::Binaries,
    others: &[(String, PathBuf)],
) -> Result<Vec<(String, PathBuf)>> {
    let shm = binaries.programs.with_file_name("libaio_shm.so");
    let mut files = vec![
        ("bin/libaio_shm.so".to_owned(), shm),
        ("usr/bin/fio".to_owned(), PathBuf::from("/usr/bin/fio")),
    ];
    let mut libraries = Vec::new();
    let programs = others.iter().chain(&files);
    for (_, binary) in programs.filter(|it| it.0.contains("bin/") || it.0 == "init") {
        libraries.extend(libraries_of(&command::output(Command::new("ldd").arg(binary))?));
    }
    let cache = command::output(Command::new("ldconfig").arg("-p"))?;
    libraries.extend(cached_library(&cache, "libaio.so.1"));
    libraries.sort();
    libraries.dedup();
    for library in libraries {
        // Put each library where the program looks for it: at the path that ldd gave.
        files.push((library.trim_start_matches('/').to_owned(), PathBuf::from(&library)));
    }
    Ok(files)
}

/// Files of the guest that no test looks into. Debug information is most of them, and the guest has all files in its
/// memory.
const STRIPPED: [&str; 2] = ["bin/kernel-tests", "bin/aiotrace"];

/// A copy of a program without its debug information.
fn without_debug_information(program: &Path, to: &Path) -> Result<PathBuf> {
    command::run(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(program))?;
    Ok(to.to_owned())
}

/// Paths in the output of ldd: `libc.so.6 => /lib/libc.so.6 (0x...)`, `/lib64/ld.so (0x...)`.
fn libraries_of(ldd: &str) -> Vec<String> {
    let words =
        ldd.lines().filter_map(|line| line.split_whitespace().find(|it| it.starts_with('/')));
    words.map(str::to_owned).collect()
}

/// A path in the output of `ldconfig -p`.
fn cached_library(cache: &str, name: &str) -> Option<String> {
    let line =
        cache.lines().find(|it| it.trim_start().starts_with(name) && it.contains("x86-64"))?;
    line.split_whitespace().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_the_output_of_ldd() {
        let ldd = "\tlinux-vdso.so.1 (0x7ffc)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(libraries_of(ldd), ["/lib/x/libc.so.6", "/lib64/ld.so.2"]);
        let cache = "\tlibaio.so.1 (libc6) => /lib/i386/libaio.so.1\n\tlibaio.so.1 (libc6,x86-64) => /lib/x/libaio.so.1\n";
        assert_eq!(cached_library(cache, "libaio.so.1").as_deref(), Some("/lib/x/libaio.so.1"));
    }
}
