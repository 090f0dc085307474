//! `cargo xtask vm`: the suite of tiny programs under aiotrace on other kernels, in QEMU, with every
//! probe set.
//!
//! The guest has one process: `aio-programs` as /init (programs/src/init.rs). It runs the same suite
//! as this machine does, and its lines must be the same.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::{command, faults, kernels, release};

/// Run the tiny programs under aiotrace on other kernels, in virtual machines
#[derive(Debug, Default, Args)]
pub struct Options {
    /// A kernel: a file, or a part of the name of one in AIOTRACE_KERNELS. May be repeated; without
    /// it, all in AIOTRACE_KERNELS, or Debian's, fetched with apt
    #[arg(long, value_name = "FILE|NAME")]
    kernel: Vec<String>,
    /// Put what the kernels gave into the table of docs/kernels.md
    #[arg(long)]
    docs: bool,
    /// Try only the probe sets, or only the faults
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
    /// Look only at the programs whose names contain this
    #[arg(last = true)]
    filter: Option<String>,
}

/// What a guest tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Probes,
    Faults,
}

/// The probe sets that the guest tries. The first is the yardstick: this machine has it too.
const PROBES: [&str; 3] = ["syscall", "trampoline", "kprobe"];
/// A guest that says nothing for so long hangs. (A probe set takes 30 s, and three times that on a busy
/// machine; then it says all.)
const PATIENCE: Duration = Duration::from_secs(240);
/// With KVM, a guest that does not come up until then never does. (It takes a second.)
const PATIENCE_WITH_KVM: Duration = Duration::from_secs(10);
/// What a kernel says that will not come back.
const DEAD: [&str; 3] = ["soft lockup", "Kernel panic", "KVM internal error"];
/// The emulated processor does not always survive a kernel that patches its own code, which kernels
/// do at their start and whenever a tracepoint is turned on or off: with a host thread for each
/// processor, 7.2 died in its start and 5.10 locked up, once in ten boots. With one thread for both
/// that was not seen. A guest that dies is said so, and is booted again; one that always dies fails.
const BOOTS: usize = 3;

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let passed = check(options)?;
    println!("{passed} guests passed");
    Ok(())
}

/// What is booted.
struct Guest {
    kernel: PathBuf,
    /// What is tried.
    only: Option<Part>,
    /// `lockdown=` of the kernel's command line.
    lockdown: Option<&'static str>,
}

impl Guest {
    fn name(&self) -> String {
        let name = self.kernel.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_start_matches("vmlinuz-");
        self.lockdown.map_or_else(|| name.to_owned(), |it| format!("{name}, lockdown={it}"))
    }
}

/// How many guests passed; an error if one did not.
pub fn check(options: &Options) -> Result<u64> {
    let mut guests: Vec<Guest> = kernels::find(&options.kernel)?
        .into_iter()
        .map(|kernel| Guest { kernel, lockdown: None, only: options.only })
        .collect();
    // The newest of Debian's stable kernels, once more: reading is allowed under lockdown=integrity.
    if let Some(stable) = guests.iter().find(|it| it.name().contains("6.12-debian")) {
        guests.push(Guest {
            kernel: stable.kernel.clone(),
            lockdown: Some("integrity"),
            only: options.only,
        });
    }
    let binaries = release::build()?;
    let suite =
        command::output(Command::new(&binaries.programs).arg("suite").arg(&binaries.aiotrace))?;
    let native = Lines::of(&suite, PROBES[0], options);
    let directory = release::target_directory()?.join("vm");
    fs::create_dir_all(&directory)?;
    let initramfs = directory.join("initramfs.cpio");
    write_initramfs(&initramfs, &binaries)?;
    let (mut failed, mut rows) = (Vec::new(), Vec::new());
    // The newest kernel takes longest.
    let order: Vec<usize> = (0..guests.len()).rev().collect();
    let next = AtomicUsize::new(0);
    let consoles = Mutex::new(BTreeMap::new());
    let boot_all = || {
        while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let guest = &guests[*index];
            let log = directory.join(format!("{}.log", guest.name()));
            let console = boot(guest, &initramfs, &log);
            consoles.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, console);
        }
    };
    // A guest takes one processor.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(boot_all);
        }
    });
    for (index, console) in consoles.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let guest = &guests[index];
        println!("{}:", guest.name());
        let wrong = match console {
            Ok(console) => {
                rows.push(kernels::row(&guest.name(), &console));
                results(guest, &native, &console, options)
            }
            Err(error) => vec![format!("{error:#}")],
        };
        if !wrong.is_empty() {
            println!("{}", wrong.join("\n"));
            failed.push(format!("{}: {}", guest.name(), ending(&wrong.join("\n"))));
        }
    }
    if !failed.is_empty() {
        bail!("failed:\n{}", failed.join("\n"));
    }
    kernels::document(&rows, options.docs)?;
    Ok(guests.len() as u64)
}

/// The last lines of it: what the last lines of the whole run have room for.
fn ending(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Shows what a guest found, and gives what is wrong with it.
fn results(guest: &Guest, native: &Lines, console: &str, options: &Options) -> Vec<String> {
    for line in console.lines().filter(|it| it.contains(" yes (")) {
        println!("{line}");
    }
    let mut wrong = Vec::new();
    if let Some(lockdown) = guest.lockdown
        && !console.contains(&format!("[{lockdown}]"))
    {
        wrong.push(format!("the kernel is not in lockdown {lockdown}"));
    }
    if guest.only != Some(Part::Probes) {
        match faults::check(&guest.name(), guest.lockdown.is_some(), console) {
            Ok(received) => println!("  faults: {received} received"),
            Err(faults) => wrong.extend(faults),
        }
    }
    let probe_sets = if guest.only == Some(Part::Faults) { &[][..] } else { &PROBES };
    for probes in probe_sets {
        let found = Lines::of(console, probes, options);
        let differences = differences(native, &found, probes);
        if differences.is_empty() {
            let skipped = found.end.strip_prefix("end | lost ").unwrap_or_default();
            let told = if skipped.is_empty() { "" } else { "; told as lost: " };
            println!("  {probes} probes: {} programs{told}{skipped}", found.programs.len());
        } else {
            wrong.push(format!("{probes} probes:"));
            wrong.extend(differences);
        }
    }
    if !wrong.is_empty() {
        println!("{console}");
    }
    wrong
}

/// The programs, and the libraries they need.
pub fn write_initramfs(path: &Path, binaries: &release::Binaries) -> Result<()> {
    let mut files = vec![
        ("init".to_owned(), binaries.programs.clone()),
        ("bin/aio-programs".to_owned(), binaries.programs.clone()),
        // Beside the init, which looks for it there.
        ("aio-programs-32".to_owned(), binaries.programs_32.clone()),
        ("libaio_shm.so".to_owned(), binaries.programs.with_file_name("libaio_shm.so")),
        ("bin/aiotrace".to_owned(), binaries.aiotrace.clone()),
    ];
    let fio = PathBuf::from("/usr/bin/fio");
    files.push(("usr/bin/fio".to_owned(), fio.clone()));
    let mut libraries = Vec::new();
    for binary in [&binaries.programs, &binaries.aiotrace, &fio] {
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
fn boot(guest: &Guest, initramfs: &Path, log: &Path) -> Result<String> {
    let accelerator = accelerator();
    if accelerator.contains(&"kvm") {
        if let Ending::Off(console) = boot_once(guest, accelerator, initramfs, log)? {
            return Ok(console);
        }
        if !NO_KVM.swap(true, Ordering::Relaxed) {
            println!("KVM does not work here; going on in emulation");
        }
    }
    let accelerator = self::accelerator();
    for _ in 1..BOOTS {
        if let Ending::Off(console) = boot_once(guest, accelerator, initramfs, log)? {
            return Ok(console);
        }
        println!("  the guest died; its console is in {}; booting it again", log.display());
    }
    match boot_once(guest, accelerator, initramfs, log)? {
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

fn boot_once(
    guest: &Guest,
    accelerator: [&str; 4],
    initramfs: &Path,
    log: &Path,
) -> Result<Ending> {
    let mut parameters = String::new();
    if guest.only != Some(Part::Faults) {
        parameters.push_str(&format!("aiotrace_probes={}", PROBES.join(",")));
    }
    if guest.only != Some(Part::Probes) {
        parameters.push_str(" aiotrace_faults=yes");
    }
    if let Some(lockdown) = guest.lockdown {
        parameters.push_str(&format!(" lockdown={lockdown}"));
    }
    let mut machine = machine(&guest.kernel, initramfs, &parameters);
    machine.args(accelerator).args(["-smp", "2"]);
    let waits_for_kvm = accelerator.contains(&"kvm");
    run_machine(
        machine,
        log,
        |is_up| {
            if waits_for_kvm && !is_up { PATIENCE_WITH_KVM } else { PATIENCE }
        },
    )
}

/// Boots the kernel on an emulated processor whose clock counts instructions, one in a nanosecond, and gives what was
/// written to the console.
pub fn boot_counting(
    kernel: &Path,
    initramfs: &Path,
    parameters: &str,
    log: &Path,
) -> Result<String> {
    const PATIENCE: Duration = Duration::from_secs(1200);
    for _ in 0..BOOTS {
        let mut machine = machine(kernel, initramfs, parameters);
        machine.args(["-accel", "tcg,thread=single", "-cpu", "qemu64", "-smp", "1"]);
        machine.args(["-icount", "shift=0,sleep=off"]);
        if let Ending::Off(console) = run_machine(machine, log, |_| PATIENCE)? {
            return Ok(console);
        }
    }
    bail!("the guest died {BOOTS} times; its console is in {}", log.display())
}

/// QEMU, without its processors.
fn machine(kernel: &Path, initramfs: &Path, parameters: &str) -> Command {
    let parameters = format!("console=ttyS0 quiet panic=-1 {parameters}");
    let mut machine = Command::new("qemu-system-x86_64");
    machine
        .args(["-m", "1024", "-nographic", "-no-reboot", "-append", &parameters, "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs);
    machine
}

/// Runs it to its end, for so long; whether it is up already decides how long that is.
fn run_machine(
    mut machine: Command,
    log: &Path,
    patience: impl Fn(bool) -> Duration,
) -> Result<Ending> {
    let mut machine = machine
        .stdin(Stdio::null())
        .stdout(File::create(log)?)
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run qemu-system-x86_64: `cargo xtask setup` installs it")?;
    let mut said = (0, Instant::now());
    let is_dead = |console: &str| DEAD.iter().any(|it| console.contains(it));
    loop {
        let has_ended = machine.try_wait()?.is_some();
        let console = read(log)?;
        if console.len() != said.0 {
            said = (console.len(), Instant::now());
        }
        let is_up = console.contains("guest | ");
        if is_dead(&console) || (!has_ended && said.1.elapsed() > patience(is_up)) {
            // Fails only if it has ended.
            let _ = machine.kill();
            machine.wait()?;
            return Ok(Ending::Dead(console));
        }
        if has_ended {
            return Ok(Ending::Off(console));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// KVM did not work: a guest died with it. (Inside of some virtual machines it begins and fails.)
static NO_KVM: AtomicBool = AtomicBool::new(false);

/// KVM while it works. `-cpu max` crashes some kernels in emulation.
fn accelerator() -> [&'static str; 4] {
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    if kvm.is_ok() && !NO_KVM.load(Ordering::Relaxed) {
        ["-accel", "kvm", "-cpu", "host"]
    } else {
        ["-accel", "tcg,thread=single", "-cpu", "qemu64"]
    }
}

fn read(log: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(log)?).replace('\r', ""))
}

/// The results in the output of the suite, of one probe set.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    programs: Vec<String>,
    refused: Vec<String>,
    /// What was lost.
    end: String,
}

impl Lines {
    fn of(output: &str, probes: &str, options: &Options) -> Self {
        let wanted = options.filter.as_deref().unwrap_or_default();
        let of = |what: &str| {
            let head = format!("{what} {probes} | ");
            let lines = output.lines().filter_map(|line| line.strip_prefix(&head));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let is_wanted =
            |line: &String| line.split(" | ").next().is_some_and(|it| it.contains(wanted));
        let (ends, programs): (Vec<_>, Vec<_>) =
            of("suite").into_iter().partition(|it| it.starts_with("end | "));
        Self {
            programs: programs.into_iter().filter(is_wanted).collect(),
            refused: of("refused").into_iter().filter(is_wanted).collect(),
            end: ends.into_iter().next().unwrap_or_default(),
        }
    }
}

/// What is not as on this machine.
///
/// Where the kernel skipped probes and that was told, only the programs' own success counts: tracepoints
/// from Linux 7.0 on, trampolines on any kernel that can be preempted (docs/kernels.md). kprobes must
/// see everything, everywhere; what is skipped there is the second look at each return.
fn differences(native: &Lines, guest: &Lines, probes: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let told_skipped = guest.end.contains("skipped_runs:");
    if !guest.end.starts_with("end | lost ") {
        wrong.push(format!("the suite did not end: {}", guest.end));
    } else if guest.end != native.end && !told_skipped {
        wrong.push(format!("lost: {}", guest.end));
    }
    for (index, expected) in native.programs.iter().enumerate() {
        let found = guest.programs.get(index).map_or("nothing", String::as_str);
        let head = |line: &str| line.split(" | ").take(2).collect::<Vec<_>>().join(" | ");
        // Where something was lost, conclusions are unsure.
        let is_unsure = found.contains(" unsure");
        let may_differ =
            told_skipped && (probes != "kprobe" || is_unsure) && head(found) == head(expected);
        // A kernel without CONFIG_COMPAT_32BIT_TIME.
        let no_32_bit_time =
            found.starts_with("32-bit | exit status: 0") && found.contains("io_getevents ENOSYS 1");
        if found != expected && !may_differ && !no_32_bit_time {
            wrong.push(format!("here  {expected}\nguest {found}"));
        }
    }
    // The errno of an iocb in the middle is for those who look inside.
    let refused = guest.refused.iter().find_map(|line| line.strip_prefix("short | "));
    let expected = if probes == "syscall" { "" } else { "[1] EBADF 1" };
    if refused.is_some_and(|it| it != expected) {
        wrong.push(format!("refused: {refused:?}"));
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

    fn lines(result: &str, refused: &str, lost: &str) -> Lines {
        let output = format!(
            "suite x | short | {result}\nrefused x | short | {refused}\nsuite x | end | lost {lost}\n"
        );
        Lines::of(&output, "x", &Options::default())
    }

    #[test]
    fn results_must_be_equal_but_for_what_was_told_to_be_skipped() {
        let native = lines("exit status: 0 | a 1", "", "");
        assert!(differences(&native, &native, "syscall").is_empty());
        assert!(!differences(&native, &native, "kprobe").is_empty(), "it sees what is refused");
        let exact = lines("exit status: 0 | a 1", "[1] EBADF 1", "");
        assert!(differences(&native, &exact, "trampoline").is_empty());
        let other = lines("exit status: 0 | a 2", "[1] EBADF 1", "");
        assert_eq!(differences(&native, &other, "trampoline").len(), 1);
        let skipped = lines("exit status: 0 | a 2", "[1] EBADF 1", "skipped_runs:3");
        assert!(differences(&native, &skipped, "trampoline").is_empty());
        assert_eq!(differences(&native, &skipped, "kprobe").len(), 1, "there it must not");
        let failed = lines("exit status: 1 | a 1", "[1] EBADF 1", "skipped_runs:3");
        assert_eq!(differences(&native, &failed, "trampoline").len(), 1);
        let lost = lines("exit status: 0 | a 1", "[1] EBADF 1", "buffer_full:1");
        assert_eq!(differences(&native, &lost, "trampoline").len(), 1);
        assert!(!differences(&native, &Lines::default(), "trampoline").is_empty());
    }
}
