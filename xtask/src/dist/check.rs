//! What `cargo xtask dist --check` looks at: that the binary needs nothing, that a second build elsewhere gives the
//! same bytes, that the distributions' checks are content, and that what is installed works.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Release, archive::SUMS, crates::CRATES};
use crate::command::{self, REQUIRE_EBPF};

/// Debian's releases in which the package is installed.
const DEBIANS: [&str; 2] = ["bookworm", "trixie"];

/// One check; an error says what is wrong.
type Check = fn(&Release) -> Result<()>;

/// Runs all checks, and names those that fail.
pub(super) fn all(release: &Release) -> Result<()> {
    let checks: [(&str, Check); 7] = [
        ("the binary needs nothing", needs_nothing),
        ("it works where there is nothing else", works_alone),
        ("lintian is content", lintian),
        ("the .rpm unpacks, and its binary runs", rpm),
        ("the .deb installs and works in Debian", debian),
        ("the crate installs without bpf-linker", install),
        ("a second build elsewhere gives the same bytes", again),
    ];
    let mut failing = Vec::new();
    for (name, check) in checks {
        match check(release) {
            Ok(()) => println!("check: {name}: yes"),
            Err(error) => {
                println!("check: {name}: NO: {error:#}");
                failing.push(name);
            }
        }
    }
    if !failing.is_empty() {
        bail!("not so: {}", failing.join("; "));
    }
    Ok(())
}

fn program(release: &Release) -> PathBuf {
    release.work.join("aiotrace")
}

fn needs_nothing(release: &Release) -> Result<()> {
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

/// A root directory with the program, and the kernel's own file systems.
fn works_alone(release: &Release) -> Result<()> {
    let root = release.work.join("alone");
    for name in ["proc", "sys", "tmp", "dev"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(program(release), root.join("aiotrace"))?;
    let script = r#"
        set -e
        cd "$1"
        mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
        in() { echo "\$ aiotrace $*"; chroot . /aiotrace "$@"; }
        in --version
        in doctor
        in ls
        in explain lost
        in completions zsh > /dev/null
        in man /tmp/man
        in run -q --record /tmp/a.aiotrace -- /aiotrace explain lost
        in run -q --source ptrace --inject io_setup:error=EAGAIN --allow-unfired -- /aiotrace explain lost
        in report /tmp/a.aiotrace
        in attach -q -a --duration 200ms
        in attach -q --source ptrace -p $$ --duration 200ms
    "#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command::run(unshare.arg(&root))
}

fn file(release: &Release, end: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(&release.out)?.filter_map(|it| Some(it.ok()?.path()));
    let mut found = entries.filter(|it| it.to_string_lossy().ends_with(end));
    found.next().with_context(|| format!("no file ends with {end}"))
}

fn lintian(release: &Release) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(file(release, ".deb")?);
    command::run(&mut lintian)
}

fn rpm(release: &Release) -> Result<()> {
    let package = file(release, ".rpm")?;
    command::run(Command::new("rpm").args(["-K", "--nosignature"]).arg(&package))?;
    let root = release.work.join("unpacked");
    fs::create_dir_all(&root)?;
    let script = "rpm2cpio \"$1\" | cpio -id --quiet && ./usr/bin/aiotrace --version && \
                  ./usr/bin/aiotrace explain context-leak > /dev/null";
    let mut unpack = Command::new("sh");
    command::run(unpack.current_dir(&root).args(["-c", script, "sh"]).arg(&package))
}

/// Installs the package without a network, uses it, and removes it.
fn debian(release: &Release) -> Result<()> {
    let package = file(release, ".deb")?;
    for name in DEBIANS {
        let root = release.work.join(name);
        let mut bootstrap = Command::new("debootstrap");
        bootstrap.args(["--variant=minbase", "--include=man-db", name]).arg(&root);
        command::run(&mut bootstrap)?;
        fs::copy(&package, root.join("aiotrace.deb"))?;
        let script = r#"
            set -e
            cd "$1"
            mount -t proc proc proc; mount --rbind /sys sys
            chroot . sh -ec '
                dpkg -i /aiotrace.deb
                aiotrace --version
                aiotrace doctor
                man -P cat aiotrace-attach | grep -q -- --duration
                man -P cat 7 aiotrace-findings | grep -qi context-leak
                dpkg -r aiotrace && dpkg -P aiotrace
                ! test -e /usr/bin/aiotrace && ! test -e /usr/share/doc/aiotrace
            '
        "#;
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--propagation", "private", "sh", "-c", script, "sh"]);
        command::run(unshare.arg(&root)).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Installs the crate as a user does when all three are published, with an empty home, and with no programs but the
/// toolchain's and Debian's.
fn install(release: &Release) -> Result<()> {
    let home = release.work.join("home");
    fs::create_dir_all(&home)?;
    let mut install = Command::new("cargo");
    for name in CRATES {
        let file = format!("{name}-{}", release.version);
        let packed = release.out.join(format!("{file}.crate"));
        command::run(Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(&home))?;
        let path = home.join(&file);
        match name {
            "aiotrace" => install.args(["install", "--debug", "--path"]).arg(path),
            _ => {
                let patch = format!("patch.crates-io.{name}.path={:?}", path.display().to_string());
                install.args(["--config", &patch])
            }
        };
    }
    let sysroot = command::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let path = format!("{}/bin:/usr/bin:/bin", sysroot.trim());
    install.arg("--root").arg(&home).env("CARGO_TARGET_DIR", home.join("target"));
    command::run(
        install
            .current_dir(&home)
            .env("HOME", &home)
            .env("PATH", path)
            .env(REQUIRE_EBPF.0, REQUIRE_EBPF.1),
    )?;
    let mut run = Command::new(home.join("bin/aiotrace"));
    command::run(run.args(["run", "-q", "--source", "bpf", "--", "true"]))
}

/// The sources of the commit in another directory, built into another one.
fn again(release: &Release) -> Result<()> {
    let root = release.work.join("again");
    fs::create_dir_all(&root)?;
    let script = "git clone -q . \"$2\" && git -C \"$2\" checkout -q --detach \"$1\"";
    let mut clone = Command::new("sh");
    clone.current_dir(&release.root).args(["-c", script, "sh", &release.commit]).arg(&root);
    command::run(&mut clone)?;
    let second = Release::of(&root, release.target, root.join("target"))?;
    second.make()?;
    let sums = |out: &Path| fs::read_to_string(out.join(SUMS)).context("no checksums");
    let (first, second) = (sums(&release.out)?, sums(&second.out)?);
    let differ: Vec<&str> =
        first.lines().filter(|line| second.lines().all(|it| it != *line)).collect();
    if !differ.is_empty() || first.lines().count() != second.lines().count() {
        bail!("these files differ: {}", differ.join(", "));
    }
    Ok(())
}
