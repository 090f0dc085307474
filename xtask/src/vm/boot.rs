//! Boots a kernel in QEMU, and finds out how it ended: did QEMU fail, did the machine not come up,
//! or did something break after our init had begun, which may be our fault?

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{arch::Architecture, command};

/// What the kernel writes to the console when it cannot go on.
const BROKEN: [&str; 15] = [
    "Kernel panic",
    "Oops:",
    "Oops [",
    "kernel BUG at",
    "BUG: unable to handle",
    "BUG: kernel NULL pointer",
    "BUG: scheduling while atomic",
    "BUG: sleeping function called",
    "BUG: workqueue lockup",
    "general protection fault, ",
    "invalid opcode: ",
    "divide error: ",
    "double fault: ",
    "soft lockup",
    "hard LOCKUP",
];

/// What QEMU says when KVM gave up. QEMU then stands still and does not end.
const KVM_FAILED: &str = "KVM internal error";

/// What our init writes: when it begins, if the kernel has warned of something since, and before it
/// powers off.
const UP: &str = "guest | up | ";
const WARNED: &str = "guest | warned | ";
const OFF: &str = "guest | off";

/// The end of the line of a test that failed.
const FAILED: &str = " ... FAILED\n";

/// How often a machine that does not come up is booted. In emulation a processor does not always
/// survive a kernel that patches its own code, as kernels do when they start: with one host thread
/// per processor, Linux 7.2 died in one of ten boots. With one thread for both processors that was
/// never seen.
const BOOTS: usize = 3;

/// How time passes in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Time passes as it does outside.
    Real,
    /// Each instruction takes a nanosecond.
    Instructions,
}

/// What a machine wrote to its console until it powered off.
#[derive(Debug)]
pub struct Console {
    pub text: String,
}

/// How QEMU is run.
#[derive(Debug)]
pub struct Qemu {
    arch: Architecture,
    program: PathBuf,
    /// The device that must open for KVM to be tried.
    kvm: PathBuf,
    /// A machine that is up and writes nothing for this long hangs. (No test takes longer:
    /// tests/kernel/harness.rs.)
    patience: Duration,
    /// With KVM, a machine that is not up after this time will never be. (It takes a second.)
    patience_with_kvm: Duration,
    /// Set once KVM has failed. (Inside some virtual machines KVM begins and then fails, or hangs.)
    no_kvm: AtomicBool,
}

impl Qemu {
    /// QEMU for kernels of this architecture.
    pub fn new(arch: Architecture) -> Self {
        Self {
            arch,
            program: PathBuf::from(arch.qemu()),
            kvm: PathBuf::from("/dev/kvm"),
            patience: Duration::from_secs(330),
            patience_with_kvm: Duration::from_secs(10),
            no_kvm: AtomicBool::new(false),
        }
    }
}

/// How one attempt ended.
enum Ending {
    /// The machine powered off, as our init does at its end.
    Off(Console),
    /// QEMU failed, or the machine did not come up; with the reason.
    NotUp(String),
    /// The machine was up, and then something broke; with what did.
    Broken(String),
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accelerator {
    Kvm,
    Emulation,
    CountedEmulation,
}

impl Accelerator {
    /// QEMU's arguments. `emulated`: the processor, where one is emulated.
    fn arguments(self, emulated: &str) -> Vec<&str> {
        match self {
            Self::Kvm => vec!["-accel", "kvm", "-cpu", "host", "-smp", "2"],
            Self::Emulation => vec!["-accel", "tcg,thread=single", "-cpu", emulated, "-smp", "2"],
            Self::CountedEmulation => vec![
                "-accel",
                "tcg,thread=single",
                "-cpu",
                emulated,
                "-smp",
                "1",
                "-icount",
                "shift=0,sleep=off",
            ],
        }
    }
}

impl Qemu {
    /// Boots the kernel, and waits until our init powers off. The console and what QEMU writes go
    /// to the log.
    ///
    /// # Errors
    /// If the machine did not come up with any accelerator, or if something broke once it was up.
    pub fn boot(
        &self,
        kernel: &Path,
        initramfs: &Path,
        processor: &str,
        parameters: &str,
        clock: Clock,
        log: &Path,
    ) -> Result<Console> {
        let mut reasons = Vec::new();
        for accelerator in self.accelerators(clock) {
            if accelerator == Accelerator::Kvm && self.no_kvm.load(Ordering::Relaxed) {
                continue;
            }
            let mut machine = self.machine(kernel, initramfs, parameters);
            machine.args(accelerator.arguments(processor));
            match self.watch(machine, accelerator, log)? {
                Ending::Off(console) => {
                    put_first(log, &reasons)?;
                    return Ok(console);
                }
                Ending::Broken(what) => {
                    put_first(log, &reasons)?;
                    bail!("{what}")
                }
                Ending::NotUp(why) => {
                    // The log will have the whole text.
                    let short = why.lines().take(2).collect::<Vec<_>>().join(": ");
                    println!("  {} with {accelerator:?}: {short}", kernel.display());
                    if accelerator == Accelerator::Kvm {
                        println!("  KVM does not work here; going on in emulation");
                        self.no_kvm.store(true, Ordering::Relaxed);
                    }
                    reasons.push(format!("with {accelerator:?}: {why}"));
                }
            }
        }
        put_first(log, &reasons)?;
        bail!("the machine did not come up:\n{}", reasons.join("\n"))
    }

    /// The accelerators to try, one after the other.
    fn accelerators(&self, clock: Clock) -> Vec<Accelerator> {
        if clock == Clock::Instructions {
            return vec![Accelerator::CountedEmulation; BOOTS];
        }
        let is_own = self.arch.target().is_none();
        let has_kvm = is_own && File::options().read(true).write(true).open(&self.kvm).is_ok();
        let kvm = has_kvm.then_some(Accelerator::Kvm);
        kvm.into_iter().chain([Accelerator::Emulation; BOOTS]).collect()
    }

    /// QEMU's command, without the arguments that describe its processors.
    fn machine(&self, kernel: &Path, initramfs: &Path, parameters: &str) -> Command {
        let (console, board): (_, &[&str]) = match self.arch {
            Architecture::X86 => ("ttyS0", &[]),
            // Without a network it needs no firmware for one.
            Architecture::Arm => ("ttyAMA0", &["-machine", "virt", "-net", "none"]),
        };
        let parameters = format!("console={console} quiet panic=-1 {parameters}");
        let mut machine = Command::new(&self.program);
        machine
            .args(board)
            .args(["-m", "1024", "-nographic", "-no-reboot", "-append", &parameters, "-kernel"])
            .arg(kernel)
            .arg("-initrd")
            .arg(initramfs);
        command::dies_with_us(&mut machine);
        machine
    }

    fn watch(&self, mut machine: Command, accelerator: Accelerator, log: &Path) -> Result<Ending> {
        let words = log.with_extension("qemu.log");
        let mut machine = machine
            .stdin(Stdio::null())
            .stdout(File::create(log).with_context(|| log.display().to_string())?)
            .stderr(File::create(&words).with_context(|| words.display().to_string())?)
            .spawn()
            .with_context(|| {
                format!("cannot run {}: `cargo xtask setup` installs it", self.program.display())
            })?;
        // How far the machine had come when it last made progress, and when that was.
        let mut said = ((0, 0), Instant::now());
        let (console, status) = loop {
            let ended = machine.try_wait()?;
            let console = read(log)?;
            let is_up = console.contains(UP);
            // Once the machine is up, only lines of tests and of our init count as progress: a
            // kernel that only complains does not get on.
            let lines = console.matches("\ntest ").count() + console.matches("guest | ").count();
            let progress = (lines, if is_up { 0 } else { console.len() });
            if progress != said.0 {
                said = (progress, Instant::now());
            }
            let patience = match accelerator {
                Accelerator::Kvm if !is_up => self.patience_with_kvm,
                _ => self.patience,
            };
            let is_broken =
                BROKEN.iter().any(|it| console.contains(it)) || read(&words)?.contains(KVM_FAILED);
            if ended.is_some() || is_broken || said.1.elapsed() > patience {
                // kill fails only if QEMU has ended.
                let _ = machine.kill();
                // A QEMU that hangs in KVM does not even end when it is killed, so do not wait for
                // ever.
                let killed = Instant::now();
                while machine.try_wait()?.is_none() && killed.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                break (read(log)?, ended);
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let words = read(&words)?;
        // Put both into one file, so that there is one to look at.
        fs::write(log, format!("{console}\n--- what QEMU said ---\n{words}"))?;
        Ok(ending(&console, &words, status))
    }
}

/// Puts what went wrong in earlier attempts at the beginning of the log.
fn put_first(log: &Path, reasons: &[String]) -> Result<()> {
    if reasons.is_empty() {
        return Ok(());
    }
    let last = read(log)?;
    let before = format!("--- attempts before this one ---\n{}\n---\n", reasons.join("\n"));
    fs::write(log, before + &last).with_context(|| log.display().to_string())
}

/// How the machine ended. `status`: QEMU's exit status, if it ended by itself.
fn ending(console: &str, words: &str, status: Option<ExitStatus>) -> Ending {
    let both = || {
        let words = if words.trim().is_empty() { "nothing" } else { words.trim() };
        let tail: Vec<&str> = console.lines().collect();
        let tail = tail[tail.len().saturating_sub(60)..].join("\n");
        format!("QEMU said: {words}\nthe end of the console:\n{tail}")
    };
    let is_up = console.contains(UP);
    let broken = BROKEN.iter().find(|it| console.contains(**it));
    match (status, broken) {
        // The kernel broke; it does not matter what QEMU did afterwards.
        (_, Some(what)) if is_up => {
            Ending::Broken(format!("the kernel broke while the tests ran ({what})\n{}", both()))
        }
        _ if console.contains(WARNED) => {
            Ending::Broken(format!("the kernel warned while the tests ran\n{}", both()))
        }
        // If a test failed, the tests are not run in another machine, however QEMU ended.
        (Some(status), _) if !status.success() && is_up && console.contains(FAILED) => {
            Ending::Broken(format!("QEMU failed ({status}) after tests had failed\n{}", both()))
        }
        (Some(status), _) if !status.success() && !console.contains(OFF) => {
            Ending::NotUp(format!("QEMU failed ({status})\n{}", both()))
        }
        _ if words.contains(KVM_FAILED) => Ending::NotUp(format!("KVM failed\n{}", both())),
        (_, Some(what)) => Ending::NotUp(format!("it broke in its start ({what})\n{}", both())),
        (Some(_), None) if console.contains(OFF) => {
            Ending::Off(Console { text: console.to_owned() })
        }
        (Some(_), None) if is_up => {
            Ending::Broken(format!("the machine ended before the tests did\n{}", both()))
        }
        (Some(_), None) => Ending::NotUp(format!("QEMU ended at once\n{}", both())),
        (None, None) if is_up => {
            Ending::Broken(format!("the machine hangs: it says nothing any more\n{}", both()))
        }
        (None, None) => Ending::NotUp(format!("it does not come up\n{}", both())),
    }
}

fn read(log: &Path) -> Result<String> {
    let bytes = fs::read(log).with_context(|| log.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

#[cfg(test)]
mod tests;
