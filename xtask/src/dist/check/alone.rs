//! Whether the binary works where there is nothing else: no library, no shell, no document.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    super::{Release, binary},
    fresh, program,
};
use crate::{
    command::{self, cargo},
    vm::bare,
};

/// The subcommands at work. Both programs are in the root directory; `alone-aio` is aio-programs by a name that no other
/// process of the machine has. (Not sweep: it needs call sites, and a program that is linked with musl has none, because
/// musl's syscall(2) has no tables for unwinding.)
const COMMANDS: [&str; 15] = [
    "/aiotrace --version",
    "/aiotrace doctor",
    "/aiotrace ls",
    "/aiotrace capacity",
    "/aiotrace serve --once",
    "/aiotrace explain lost",
    "/aiotrace completions fish",
    "/aiotrace man /tmp/man",
    "/aiotrace run -q --record /tmp/pairs.aiotrace /alone-aio pairs 100",
    "/aiotrace report -q /tmp/pairs.aiotrace",
    "/aiotrace run -q --source ptrace --inject io_submit:error=EAGAIN:when=3 /alone-aio until-accepted",
    // It ends after the first fault.
    "/alone-aio until-accepted &",
    "/aiotrace top -b -n 1",
    "/aiotrace attach -q -p alone-aio --duration 500ms",
    "/aiotrace attach -q -p alone-aio --source ptrace --inject io_submit:error=EAGAIN:when=1 --duration 2s",
];
/// The kernel of the guest: one that Debian has, so that CI can fetch it.
const KERNEL: &str = "6.12";

/// It wants no interpreter and no library, and names no path of this machine.
pub(super) fn needs_nothing(release: &Release) -> Result<()> {
    let program = program(release);
    let read = |what: &str| command::output(Command::new("readelf").arg(what).arg(&program));
    let (segments, libraries) = (read("-lW")?, read("-dW")?);
    if segments.contains("INTERP") || libraries.contains("NEEDED") {
        bail!("it wants an interpreter or a library");
    }
    if !segments.contains("LOAD") {
        bail!("readelf shows no segments");
    }
    let home = std::env::var("HOME").context("HOME")?;
    let content = fs::read(&program)?;
    for path in [release.root.display().to_string(), format!("{home}/.")] {
        if content.windows(path.len()).any(|it| it == path.as_bytes()) {
            bail!("it names a path of this machine: {path}");
        }
    }
    Ok(())
}

/// The programs that the commands run beside aiotrace, and the init of a guest: static, too.
fn others(release: &Release) -> Result<[(&'static str, PathBuf); 2]> {
    let mut build = cargo(&["build", "--locked", "--profile", binary::PROFILE]);
    build.args(["-p", "aio-programs", "-p", "guest-init"]);
    build.args(["--bin", "aio-programs", "--bin", "guest-init"]);
    build.args(["--target", release.target.triple(), "--target-dir"]);
    command::run(build.arg(&release.target_directory).current_dir(&release.root))?;
    Ok([("alone-aio", "aio-programs"), ("init", "guest-init")]
        .map(|(name, built)| (name, binary::directory(release).join(built))))
}

/// A root directory with the programs, and the kernel's own file systems.
pub(super) fn in_a_directory(release: &Release) -> Result<()> {
    let root = fresh(release, "alone")?;
    for name in ["proc", "sys", "tmp", "dev"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(program(release), root.join("aiotrace"))?;
    for (name, path) in others(release)? {
        fs::copy(path, root.join(name))?;
    }
    let lines = COMMANDS.map(|line| format!("echo '$ {line}'\nchroot . {line}\n")).concat();
    let script = format!(
        "set -e; cd \"$1\"; trap 'kill $! 2> /dev/null || :' EXIT; mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev\n{lines}wait\n"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command::run(unshare.arg(&root).stdin(Stdio::null()))
}

/// A guest whose initramfs has the programs.
pub(super) fn in_a_guest(release: &Release) -> Result<()> {
    let directory = fresh(release, "guest")?;
    let mut files = vec![("aiotrace", program(release))];
    files.extend(others(release)?);
    bare::run(KERNEL, &files, &COMMANDS, &directory)
}
