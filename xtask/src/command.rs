//! Child processes, and whether we are root.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// With this variable, aiotrace's build fails if something is missing. Without it, it would build
/// without the probes.
pub const REQUIRE_EBPF: (&str, &str) = ("AIOTRACE_REQUIRE_EBPF", "1");

/// A cargo command. rustup sets RUSTUP_TOOLCHAIN, so it is the same cargo that runs us.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments);
    command
}

/// Shows the command and its output to the user, and fails if the command fails.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot run `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Whether the command can be run and succeeds; the user does not see it.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What the command writes to stdout, whether or not it succeeds.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", line(command)))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where the toolchain is.
pub fn sysroot() -> Result<String> {
    Ok(output(Command::new("rustc").args(["--print", "sysroot"]))?.trim().to_owned())
}

/// The command as a user would type it.
pub fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether we run as root (by the owner of /proc/self).
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Tells the user how to run a subcommand as root. sudo alone would find neither cargo nor its
/// toolchains.
pub fn as_root(task: &str) -> String {
    format!("run it as root: `sudo -E env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask {task}`")
}

/// Makes the kernel kill the process when we end, even by kill -9.
pub fn dies_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: the call is async-signal-safe, and changes nothing but the new process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}
