//! `cargo xtask vm`: the suite of tiny programs under aiotrace on other kernels, in QEMU.
//!
//! The guest has one process: `aio-programs` as /init (programs/src/init.rs). It runs the same suite
//! as this machine does, and its lines must be the same.

use std::{
    env,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::{command, release};

/// Run the tiny programs under aiotrace on other kernels, in virtual machines
#[derive(Debug, Default, Args)]
pub struct Options {
    /// A kernel: a file, or a part of the name of one in AIOTRACE_KERNELS. May be repeated; without
    /// it, all in AIOTRACE_KERNELS
    #[arg(long, value_name = "FILE|NAME")]
    kernel: Vec<String>,
}

/// A directory of kernels, for those who have one. CI has.
pub const KERNELS: &str = "AIOTRACE_KERNELS";

/// A guest that takes longer hangs. (It takes 20 s.)
const PATIENCE: Duration = Duration::from_secs(120);
/// What a kernel says that will not come back.
const DEAD: [&str; 2] = ["soft lockup", "Kernel panic"];
/// The emulated processor does not always survive a kernel that patches its own code, which kernels
/// do at their start and whenever a tracepoint is turned on or off: with a host thread for each
/// processor, 7.2 died in its start and 5.10 locked up, once in ten boots. With one thread for both
/// that was not seen. A guest that dies is said so, and is booted again; one that always dies fails.
const BOOTS: usize = 3;

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let passed = check(options)?;
    println!("{passed} kernels passed");
    Ok(())
}

/// How many kernels passed; an error if one did not.
pub fn check(options: &Options) -> Result<u64> {
    let kernels = kernels(options)?;
    let binaries = release::build()?;
    let native = suite_lines(&command::output(
        Command::new(&binaries.programs).arg("suite").arg(&binaries.aiotrace),
    )?);
    let directory = release::target_directory()?.join("vm");
    fs::create_dir_all(&directory)?;
    let initramfs = directory.join("initramfs.cpio");
    write_initramfs(&initramfs, &binaries)?;
    let mut failed = Vec::new();
    for kernel in &kernels {
        let name = kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("{name}:");
        let console = boot(kernel, &initramfs, &directory.join(format!("{name}.log")))?;
        for line in console.lines().filter(|it| it.contains(" yes (") || it.contains(" no: ")) {
            println!("{line}");
        }
        let wrong = differences(&native, &suite_lines(&console));
        if wrong.is_empty() {
            println!("  {} programs as on this machine", native.len() - 1);
        } else {
            println!("{console}\n{}", wrong.join("\n"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(kernels.len() as u64)
}

/// The kernels asked for.
fn kernels(options: &Options) -> Result<Vec<PathBuf>> {
    let directory = env::var_os(KERNELS).map(PathBuf::from);
    let mut known = Vec::new();
    if let Some(directory) = &directory {
        for entry in fs::read_dir(directory)
            .with_context(|| format!("AIOTRACE_KERNELS={}", directory.display()))?
        {
            let path = entry?.path();
            if path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("vmlinuz")) {
                known.push(path);
            }
        }
        known.sort();
    }
    let mut chosen = Vec::new();
    for wanted in &options.kernel {
        let path = PathBuf::from(wanted);
        if path.is_file() {
            chosen.push(path);
            continue;
        }
        let matches = known.iter().filter(|it| it.to_string_lossy().contains(wanted.as_str()));
        let before = chosen.len();
        chosen.extend(matches.cloned());
        if chosen.len() == before {
            bail!(
                "no kernel {wanted}: name a vmlinuz file, or set AIOTRACE_KERNELS to a directory of them"
            );
        }
    }
    if options.kernel.is_empty() {
        chosen = known;
    }
    if chosen.is_empty() {
        bail!(
            "no kernels: set AIOTRACE_KERNELS to a directory of vmlinuz files, or use --kernel FILE"
        );
    }
    Ok(chosen)
}

/// The programs, and the libraries they need.
fn write_initramfs(path: &Path, binaries: &release::Binaries) -> Result<()> {
    let mut files = vec![
        ("init".to_owned(), binaries.programs.clone()),
        ("bin/aio-programs".to_owned(), binaries.programs.clone()),
        ("bin/aiotrace".to_owned(), binaries.aiotrace.clone()),
    ];
    let mut libraries = Vec::new();
    for binary in [&binaries.programs, &binaries.aiotrace] {
        libraries.extend(libraries_of(&command::output(Command::new("ldd").arg(binary))?));
    }
    let cache = command::output(Command::new("ldconfig").arg("-p"))?;
    libraries.extend(cached_library(&cache, "libaio.so.1"));
    libraries.sort();
    libraries.dedup();
    for library in libraries {
        // Where the program looks for it: the name it was linked with.
        files.push((library.trim_start_matches('/').to_owned(), PathBuf::from(&library)));
    }
    let mut archive = io::BufWriter::new(File::create(path)?);
    let mut inode = 0;
    let mut entry = |name: &str, mode: u32, kind: ModeFileType| {
        inode += 1;
        Builder::new(name).ino(inode).mode(mode).set_mode_file_type(kind)
    };
    let mut directories: Vec<String> = ["proc", "sys", "dev", "tmp"].map(str::to_owned).to_vec();
    for (name, _) in &files {
        let parents: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        let parents = parents.into_iter().rev().filter(|it| !it.as_os_str().is_empty());
        directories.extend(parents.map(|it| it.to_string_lossy().into_owned()));
    }
    let mut made = std::collections::BTreeSet::new();
    for name in directories {
        if made.insert(name.clone()) {
            archive = entry(&name, 0o755, ModeFileType::Directory).write(archive, 0).finish()?;
        }
    }
    for (name, source) in files {
        let content = fs::read(&source).with_context(|| source.display().to_string())?;
        let mut writer =
            entry(&name, 0o755, ModeFileType::Regular).write(archive, content.len() as u32);
        io::Write::write_all(&mut writer, &content)?;
        archive = writer.finish()?;
    }
    io::Write::flush(&mut trailer(archive)?)?;
    Ok(())
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

/// Boots the kernel and gives what was written to the console.
fn boot(kernel: &Path, initramfs: &Path, log: &Path) -> Result<String> {
    for _ in 1..BOOTS {
        if let Ending::Off(console) = boot_once(kernel, initramfs, log)? {
            return Ok(console);
        }
        println!("  the guest died; its console is in {}; booting it again", log.display());
    }
    match boot_once(kernel, initramfs, log)? {
        Ending::Off(console) => Ok(console),
        Ending::Dead(console) => bail!("the guest died {BOOTS} times; its console:\n{console}"),
    }
}

/// How a guest ended, and its console.
enum Ending {
    /// It powered off.
    Off(String),
    /// It did not.
    Dead(String),
}

fn boot_once(kernel: &Path, initramfs: &Path, log: &Path) -> Result<Ending> {
    let mut guest = Command::new("qemu-system-x86_64")
        // KVM is not everywhere; `-cpu max` crashes some kernels in emulation.
        .args(["-accel", "tcg,thread=single", "-cpu", "qemu64", "-smp", "2", "-m", "1024"])
        .args(["-nographic", "-no-reboot", "-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(File::create(log)?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64: `cargo xtask setup` installs it")?;
    let start = Instant::now();
    let is_dead = |console: &str| DEAD.iter().any(|it| console.contains(it));
    loop {
        let has_ended = guest.try_wait()?.is_some();
        let console = read(log)?;
        if is_dead(&console) || (!has_ended && start.elapsed() > PATIENCE) {
            // Fails only if it has ended.
            let _ = guest.kill();
            guest.wait()?;
            return Ok(Ending::Dead(console));
        }
        if has_ended {
            return Ok(Ending::Off(console));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn read(log: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(log)?).replace('\r', ""))
}

/// The results in the output of the suite.
fn suite_lines(output: &str) -> Vec<String> {
    output.lines().filter(|line| line.starts_with("suite | ")).map(str::to_owned).collect()
}

/// What is not as on this machine. Where the kernel skipped probes and that was told, only the
/// program's own success counts: see `skipped_runs` in docs/architecture.md.
fn differences(native: &[String], guest: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, expected) in native.iter().enumerate() {
        let found = guest.get(index).map_or("nothing", String::as_str);
        let head = |line: &str| line.split(" | ").take(3).collect::<Vec<_>>().join(" | ");
        let told_skipped = found.contains("skipped_runs") && head(found) == head(expected);
        if found != expected && !told_skipped {
            wrong.push(format!("here  {expected}\nguest {found}"));
        }
    }
    wrong
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

    #[test]
    fn results_must_be_equal_but_for_what_was_told_to_be_skipped() {
        let lines = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let native = lines(&["suite | a | exit status: 0 | x 1 | lost ", "suite | end"]);
        assert!(differences(&native, &native).is_empty());
        assert_eq!(differences(&native, &native[..1]).len(), 1, "it did not reach the end");
        let told = lines(&["suite | a | exit status: 0 | | lost skipped_runs 3", "suite | end"]);
        assert!(differences(&native, &told).is_empty());
        let failed = lines(&["suite | a | exit status: 1 | | lost skipped_runs 3", "suite | end"]);
        assert_eq!(differences(&native, &failed).len(), 1);
        let other = lines(&["suite | a | exit status: 0 | x 2 | lost ", "suite | end"]);
        assert_eq!(differences(&native, &other).len(), 1);
    }
}
