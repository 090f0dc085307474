//! `cargo xtask demo`: traces a small program that loses its AIO contexts.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{binaries, command, setup};

/// Build aiotrace and show it at work on a program that leaks AIO contexts
#[derive(Debug, Args)]
pub struct Options {}

/// Runs the command.
pub fn run(_: &Options) -> Result<()> {
    if !command::is_root() {
        bail!("aiotrace loads programs into the kernel: {}", command::as_root("demo"));
    }
    setup::run(&setup::Options { build_only: true })?;
    println!("building aiotrace with its probes; the first time this takes some ten minutes");
    let binaries = binaries::build()?;
    let leak = Workload::start(&binaries.programs)?;
    let pid = leak.0.id().to_string();
    let attach = |arguments: &[&str]| {
        let mut attach = Command::new(&binaries.aiotrace);
        println!();
        command::run(attach.args(["attach", "-p", &pid]).args(arguments))
    };
    attach(&["--duration", "3s"])?;
    let mut leaking = Command::new(&binaries.aiotrace);
    leaking.args(["attach", "-p", &pid, "-q", "--idle-after", "1s", "--growth", "8"]);
    println!("\n$ {}", command::line(&leaking));
    let found = command::output(leaking.args(["--duration", "4s"]))?;
    println!("{found}");
    if !found.lines().any(|it| it.contains("context-growth") && it.contains("basic.rs:")) {
        bail!("the leak was not named with its creating line");
    }
    println!(
        "context-growth: the program makes context after context and destroys none, at the line that"
    );
    println!("`made by` names. The machine has room for few (/proc/sys/fs/aio-max-nr).");
    println!("Install it with `cargo install --path aiotrace`, then look at a program of yours:");
    println!("`aiotrace attach -p PID`, as root.");
    Ok(())
}

/// The program that leaks. It is stopped on drop.
struct Workload(Child);

impl Workload {
    fn start(programs: &Path) -> Result<Self> {
        let mut command = match which::which("setpriv") {
            // When a signal ends us, nothing is dropped: the kernel kills the program for us then.
            Ok(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(programs);
                command
            }
            Err(_) => Command::new(programs),
        };
        let child = command.arg("leak").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut workload =
            Self(child.with_context(|| format!("cannot run {}", programs.display()))?);
        // In this time setpriv becomes the program, and a program that cannot work ends.
        thread::sleep(Duration::from_millis(200));
        if let Some(status) = workload.0.try_wait()? {
            bail!(
                "`aio-programs leak` ended at once ({status}): does this kernel have AIO \
                 (CONFIG_AIO), and is there room below /proc/sys/fs/aio-max-nr?"
            );
        }
        Ok(workload)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Both fail only for a program that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
