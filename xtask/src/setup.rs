//! `cargo xtask setup`: prepares a Debian machine that has only rustup's stable Rust, so that it
//! can build and test aiotrace. It leaves alone what is there already.
//!
//! On other distributions it installs nothing, and says what to install.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    arch::Architecture,
    build,
    command::{self, cargo, works},
    debian::{self, Apt},
    newer,
    probes::{self, Toolchain},
};

/// Install what building and testing need, on Debian
#[derive(Debug, Args)]
pub struct Options {
    /// Install only what building needs: no test tools, rustfmt and clippy
    #[arg(long)]
    pub build_only: bool,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let mut apt = debian::is_here().then(Apt::default);
    let mut missing = Vec::new();
    for item in Item::ALL {
        if options.build_only && !item.builds() {
            continue;
        }
        let name = item.name();
        if item.is_present() {
            println!("{name}: present");
            continue;
        }
        match &mut apt {
            Some(apt) => match item.install(apt) {
                Ok(what) => println!("{name}: installed {what}"),
                Err(error) => {
                    println!("{name}: missing: {error:#}");
                    missing.push(name);
                }
            },
            None => {
                println!("{name}: missing: install {}", item.by_hand());
                if item.builds() {
                    missing.push(name);
                }
            }
        }
    }
    if apt.is_none() {
        println!("this is not Debian: nothing was installed");
    }
    if !missing.is_empty() {
        bail!("missing: {}; see the lines above for what to do", missing.join(", "));
    }
    Ok(())
}

/// Something that building or testing needs.
#[derive(Clone, Copy, Debug)]
enum Item {
    RustSource,
    BpfLinker,
    Rustfmt,
    Clippy,
    OtherTargets,
    Tools,
    Newer,
}

/// What the kernel tests run: Debian's packages, and a program of each, or another file.
const TOOLS: [(&str, &str); 22] = [
    ("strace", "strace"),
    ("fio", "fio"),
    ("qemu-utils", "qemu-img"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("qemu-system-arm", "qemu-system-aarch64"),
    ("stress-ng", "stress-ng"),
    ("sysbench", "sysbench"),
    ("bpftool", "bpftool"),
    ("procps", "ps"),
    ("util-linux", "unshare"),
    ("busybox-static", "busybox"),
    ("btrfs-progs", "mkfs.btrfs"),
    ("xfsprogs", "mkfs.xfs"),
    ("zsh", "zsh"),
    ("fish", "fish"),
    ("man-db", "man"),
    ("jq", "jq"),
    ("debuginfod", "debuginfod"),
    ("thin-provisioning-tools", "thin_restore"),
    ("prometheus", "promtool"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
    ("python3-junitparser", "/usr/lib/python3/dist-packages/junitparser"),
];

impl Item {
    /// All items. The Rust source comes first: bpf-linker must fit the compiler that is chosen with
    /// it.
    const ALL: [Self; 7] = [
        Self::RustSource,
        Self::BpfLinker,
        Self::Rustfmt,
        Self::Clippy,
        Self::OtherTargets,
        Self::Tools,
        Self::Newer,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RustSource => "rust-src",
            Self::BpfLinker => "bpf-linker",
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
            Self::OtherTargets => "Rust for other architectures",
            Self::Tools => "test tools",
            Self::Newer => "newer test tools",
        }
    }

    /// Whether building needs the item; if not, only testing does.
    fn builds(self) -> bool {
        matches!(self, Self::RustSource | Self::BpfLinker)
    }

    fn is_present(self) -> bool {
        match self {
            Self::RustSource => Toolchain::find().is_some(),
            Self::BpfLinker => works(Command::new("bpf-linker").arg("--version")),
            Self::Rustfmt => works(&mut cargo(&["fmt", "--version"])),
            Self::Clippy => works(&mut cargo(&["clippy", "--version"])) && !lacks_debian_clippy(),
            Self::OtherTargets => other_targets().all(build::has_target),
            Self::Tools if debian::is_here() => missing_tools().is_ok_and(|it| it.is_empty()),
            Self::Tools => TOOLS.iter().all(|(_, program)| is_there(program)),
            Self::Newer => newer::is_present(),
        }
    }

    /// Installs the item; gives what was installed, in words.
    fn install(self, apt: &mut Apt) -> Result<String> {
        match self {
            Self::RustSource => install_rust_source(apt),
            Self::BpfLinker => install_bpf_linker(apt),
            Self::Rustfmt => add_component("rustfmt"),
            Self::Clippy if lacks_debian_clippy() => {
                if !works(&mut cargo(&["clippy", "--version"])) {
                    add_component("clippy")?;
                }
                install(apt, &["rust-web-clippy"])
            }
            Self::Clippy => add_component("clippy"),
            Self::OtherTargets => install_other_targets(),
            Self::Tools => install_tools(apt),
            Self::Newer => newer::install(apt),
        }
    }

    /// What the user has to install on a machine where we install nothing.
    fn by_hand(self) -> String {
        match self {
            Self::RustSource => "it with `rustup component add rust-src`".to_owned(),
            Self::BpfLinker => {
                let toolchain = Toolchain::find().unwrap_or(Toolchain::Own);
                match toolchain.llvm_major() {
                    Ok(llvm) => format!(
                        "LLVM {llvm} with its development files and Polly, then it with \
                         `LLVM_PREFIX=DIRECTORY {}`, where DIRECTORY is what \
                         `llvm-config --prefix` of LLVM {llvm} prints",
                        command::line(&cargo_install(llvm))
                    ),
                    Err(_) => "bpf-linker 0.13, built with the LLVM of your rustc".to_owned(),
                }
            }
            Self::Rustfmt => "it with `rustup component add rustfmt`".to_owned(),
            Self::Clippy => "it with `rustup component add clippy`".to_owned(),
            Self::OtherTargets => {
                let targets: Vec<_> = other_targets().collect();
                format!("it with `rustup target add {}`", targets.join(" "))
            }
            Self::Tools => {
                let programs = TOOLS.iter().map(|&(_, program)| program);
                let missing = programs.filter(|program| !is_there(program));
                missing.collect::<Vec<_>>().join(", ")
            }
            Self::Newer => newer::by_hand(),
        }
    }
}

fn install_rust_source(apt: &mut Apt) -> Result<String> {
    let Err(rustup) = add_component("rust-src") else {
        return Ok("with rustup".to_owned());
    };
    eprintln!("xtask: {rustup:#}; trying Debian's own Rust");
    let installed =
        install(apt, &["rustc-web", "cargo-web", "rust-web-src"]).with_context(|| {
            format!("neither rustup ({rustup:#}) nor Debian has the standard library's source")
        })?;
    if Toolchain::find().is_none() {
        bail!("{installed} have no source of the standard library where the build looks for it");
    }
    Ok(installed)
}

/// Builds bpf-linker: no package has it, and it must be built with the same LLVM as the compiler.
fn install_bpf_linker(apt: &mut Apt) -> Result<String> {
    let toolchain = Toolchain::find().context("install rust-src first")?;
    let llvm = toolchain.llvm_major()?;
    let (development, polly) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    let packages = [&development, &polly, "gcc", "libc6-dev", "zlib1g-dev", "libzstd-dev"];
    apt.install(&debian::missing(&packages)?)
        .with_context(|| format!("bpf-linker is built with LLVM {llvm}, as rustc is"))?;
    // Without this variable, the build of bpf-linker links with another LLVM, or fails.
    command::run(cargo_install(llvm).env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}")))?;
    if !Item::BpfLinker.is_present() {
        bail!("`bpf-linker --version` fails after its installation: is cargo's bin on PATH?");
    }
    Ok(format!("with LLVM {llvm}"))
}

fn cargo_install(llvm: u32) -> Command {
    let mut install = cargo(&["install", "bpf-linker", "--locked", "--version", "^0.13"]);
    install.args(["--no-default-features", "--features"]).arg(format!("llvm-{llvm}"));
    install
}

fn add_component(name: &str) -> Result<String> {
    if which::which("rustup").is_err() {
        bail!("there is no rustup to add the component {name} with");
    }
    command::run(Command::new("rustup").args(["component", "add", name]))?;
    Ok("with rustup".to_owned())
}

/// The targets of architectures that are not this machine's.
fn other_targets() -> impl Iterator<Item = &'static str> {
    Architecture::ALL.into_iter().filter_map(Architecture::target)
}

fn install_other_targets() -> Result<String> {
    if which::which("rustup").is_err() {
        bail!("there is no rustup to add a target with");
    }
    let targets: Vec<_> = other_targets().collect();
    command::run(Command::new("rustup").args(["target", "add"]).args(&targets))?;
    Ok(targets.join(", "))
}

fn install(apt: &mut Apt, packages: &[&str]) -> Result<String> {
    apt.install(packages)?;
    Ok(packages.join(", "))
}

/// Installs the test tools. Installing a package may remove another one: Debian's qemu-system-x86
/// removes a qemu-utils of another version. So we look again afterwards for what is missing.
fn install_tools(apt: &mut Apt) -> Result<String> {
    const ROUNDS: usize = 3;
    let mut installed = Vec::new();
    for _ in 0..ROUNDS {
        let missing = missing_tools()?;
        if missing.is_empty() {
            return Ok(installed.join(", "));
        }
        installed.push(install(apt, &missing)?);
    }
    match missing_tools()?[..] {
        [] => Ok(installed.join(", ")),
        ref missing => bail!(
            "installing the other packages removes {} again: they conflict; remove one of them",
            missing.join(", ")
        ),
    }
}

/// Whether a program is on PATH, or a file exists.
fn is_there(program: &str) -> bool {
    if program.starts_with('/') {
        Path::new(program).exists()
    } else {
        which::which(program).is_ok()
    }
}

fn missing_tools() -> Result<Vec<&'static str>> {
    debian::missing(&TOOLS.map(|(package, _)| package))
}

/// Whether Debian builds the probes and its clippy is missing: clippy must be of the same
/// toolchain.
fn lacks_debian_clippy() -> bool {
    Toolchain::find() == Some(Toolchain::Debian) && !probes::debian_clippy().exists()
}
