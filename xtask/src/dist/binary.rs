//! The static binary, and the file with its symbols.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Release;
use crate::command::{self, REQUIRE_EBPF, cargo};

/// No release may be larger: it is copied to servers.
const LARGEST: u64 = 12 << 20;

/// Cargo's profile.
pub(super) const PROFILE: &str = "static";

/// What was built.
pub(super) struct Binary {
    /// The program, without symbols.
    pub program: PathBuf,
    /// Its symbols and debug information, which `.gnu_debuglink` and the build id of the program name.
    pub symbols: PathBuf,
    /// The build id, in hexadecimal digits.
    pub id: String,
}

/// Builds it.
pub(super) fn build(release: &Release) -> Result<Binary> {
    // What is behind the dashes is for the program only, so that its build shares the libraries with others.
    let mut build = cargo(&["rustc", "--locked", "--profile", PROFILE, "-p", "aiotrace"]);
    build.args(["--bin", "aiotrace", "--target", release.target.triple(), "--target-dir"]);
    build.arg(&release.target_directory).args(["--", release.target.wants_build_id()]);
    build.env(REQUIRE_EBPF.0, REQUIRE_EBPF.1).env("AIOTRACE_COMMIT", &release.commit);
    command::run(build.current_dir(&release.root).env("RUSTFLAGS", flags(release)?))?;
    let built = directory(release).join("aiotrace");
    let (program, symbols) = (release.work.join("aiotrace"), release.work.join("aiotrace.debug"));
    command::run(objcopy(release)?.arg("--only-keep-debug").args([&built, &symbols]))?;
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(&symbols);
    command::run(objcopy(release)?.arg("--strip-all").arg(link).args([&built, &program]))?;
    let size = fs::metadata(&program)?.len();
    println!("{}: {:.1} MB", program.display(), size as f64 / 1e6);
    if size > LARGEST {
        bail!("the binary has {size} bytes; {LARGEST} are the limit");
    }
    let id = build_id(&program)?;
    Ok(Binary { program, symbols, id })
}

/// Where cargo puts the program.
pub(super) fn directory(release: &Release) -> PathBuf {
    release.target_directory.join(release.target.triple()).join(PROFILE)
}

/// Paths of this machine are in no file of a release, and so they need not be the same on the next.
fn flags(release: &Release) -> Result<String> {
    let home = PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?);
    let cargo = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    // Where the component rust-src is installed, rustc writes its paths for those that it has in the standard library.
    let about = command::output(Command::new("rustc").arg("-vV"))?;
    let hash = about.lines().find_map(|it| it.strip_prefix("commit-hash: "));
    let library = Path::new(&command::sysroot()?).join("lib/rustlib/src/rust");
    let standard = format!("/rustc/{}", hash.context("rustc names no commit")?);
    let parts =
        [remap(&release.root, "/aiotrace"), remap(&cargo, "/cargo"), remap(&library, &standard)];
    if parts.iter().any(|it| it.contains(' ')) {
        bail!("a path has a blank in it, and RUSTFLAGS can hold none: build elsewhere");
    }
    Ok(parts.join(" "))
}

/// LLVM's objcopy, which rustc brings along and which knows all architectures; else that of binutils.
fn objcopy(release: &Release) -> Result<Command> {
    let sysroot = command::sysroot()?;
    let host = command::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let sysroot = Path::new(&sysroot);
    let ours = sysroot.join("lib/rustlib").join(host.trim()).join("bin/rust-objcopy");
    if !ours.exists() {
        return Ok(release.command("objcopy"));
    }
    let mut objcopy = release.command(&ours.display().to_string());
    // It needs the compiler's LLVM.
    objcopy.env("LD_LIBRARY_PATH", sysroot.join("lib"));
    Ok(objcopy)
}

/// The build id: the note of the type `NT_GNU_BUILD_ID` (3) and the name "GNU".
fn build_id(program: &Path) -> Result<String> {
    const HEAD: &[u8] = b"\x14\0\0\0\x03\0\0\0GNU\0";
    let data = fs::read(program)?;
    let at = data
        .windows(HEAD.len() + 4)
        .position(|it| it.ends_with(HEAD) && it.starts_with(b"\x04\0\0\0"));
    let start = at.context("the binary has no build id")? + HEAD.len() + 4;
    let id = data.get(start..start + 20).context("the binary has no whole build id")?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}
