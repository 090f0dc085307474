//! `cargo xtask dist`: what a release consists of, in `target/dist`: a static binary as tar.xz, .deb, .rpm and OCI
//! image, its symbols, a list of what is in it, the packages of the crates, and the checksums.
//!
//! Packages are made by the distributions' own tools, dpkg-deb and rpmbuild: Debian has both, and nothing needs to be
//! compiled for them. Whoever builds the same commit with the same toolchain gets the same bytes (`--check`).

mod archive;
mod binary;
mod check;
mod components;
mod crates;
mod deb;
mod image;
mod notices;
mod rpm;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    binaries, build, command,
    debian::{self, Apt},
    setup,
};

/// Build everything that a release consists of, into target/dist
#[derive(Debug, Args)]
pub struct Options {
    /// For which machines
    #[arg(long, value_enum, default_value_t)]
    target: Target,
    /// Check the result, too: build it a second time elsewhere and compare, install the packages, run what is in them.
    /// With a text, only the checks whose names contain it
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "", require_equals = true)]
    check: Option<String>,
    /// Build nothing: check what was built before
    #[arg(long, requires = "check")]
    made: bool,
}

/// An architecture. One more takes one more variant, with its names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Target {
    #[default]
    #[value(name = "x86_64")]
    X86,
}

impl Target {
    /// The name of rustc's target.
    fn triple(self) -> &'static str {
        match self {
            Self::X86 => "x86_64-unknown-linux-musl",
        }
    }

    /// The name that the kernel, rpm and our files have for it.
    fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
        }
    }

    /// What makes the linker give the program a build id.
    fn wants_build_id(self) -> &'static str {
        match self {
            Self::X86 => "-Clink-arg=-Wl,--build-id=sha1",
        }
    }

    /// Debian's and Go's name for it.
    fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
        }
    }
}

/// What is released: of this commit, for this machine.
pub(super) struct Release {
    target: Target,
    version: String,
    commit: String,
    /// When the commit was made; all files have this time.
    epoch: String,
    /// The sources.
    root: PathBuf,
    /// Where cargo builds.
    target_directory: PathBuf,
    /// Where the result goes.
    out: PathBuf,
    /// For what is needed on the way.
    work: PathBuf,
}

impl Release {
    fn of(root: &Path, target: Target, target_directory: PathBuf) -> Result<Self> {
        let out = target_directory.join("dist");
        let git = |arguments: &[&str]| -> Result<String> {
            let mut git = Command::new("git");
            let text = command::output(git.arg("-C").arg(root).args(arguments))?;
            if text.trim().is_empty() {
                bail!(
                    "`{}` says nothing: a release is made from a git repository",
                    command::line(&git)
                );
            }
            Ok(text.trim().to_owned())
        };
        Ok(Self {
            target,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: git(&["rev-parse", "HEAD"])?,
            epoch: git(&["log", "-1", "--format=%ct"])?,
            root: root.to_owned(),
            work: out.with_extension("work"),
            out,
            target_directory,
        })
    }

    /// The beginning of the names of all files.
    fn stem(&self) -> String {
        format!("aiotrace-{}-{}", self.version, self.target.name())
    }

    fn make(&self) -> Result<()> {
        for directory in [&self.out, &self.work] {
            if directory.exists() {
                fs::remove_dir_all(directory)?;
            }
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        let binary = binary::build(self)?;
        notices::write(self)?;
        let tree = tree::make(self, &binary)?;
        archive::make(self, &tree, &binary)?;
        deb::make(self, &tree)?;
        rpm::make(self, &tree)?;
        image::make(self, &binary)?;
        components::write(self)?;
        crates::make(self)?;
        archive::sums(&self.out)
    }

    /// A command that makes files with the time of the release.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOURCE_DATE_EPOCH", &self.epoch).env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}

/// Packages of Debian that are needed, beside those of `cargo xtask setup`.
const PACKAGES: [&str; 5] = ["rpm", "xz-utils", "gcc", "libc6-dev", "git"];
/// Packages that only the checks need.
const CHECKS: [&str; 8] = [
    "lintian",
    "rpmlint",
    "debootstrap",
    "cpio",
    "binutils",
    "jq",
    "qemu-system-x86",
    "util-linux",
];

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    // SAFETY: the call changes nothing but the rights of new files, here and in what we run.
    unsafe { libc::umask(0o022) };
    setup::run(&setup::Options { build_only: true })?;
    let checks = options.check.as_ref().map(|_| CHECKS).into_iter().flatten();
    let packages: Vec<&str> = PACKAGES.into_iter().chain(checks).collect();
    match debian::is_here() {
        true => Apt::default().install(&debian::missing(&packages)?)?,
        // A command that is missing fails, and says so.
        false => eprintln!("xtask: this is not Debian; needed are {}", packages.join(", ")),
    }
    add_target(options.target)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let release = Release::of(&root, options.target, binaries::target_directory()?)?;
    if !options.made {
        release.make()?;
    }
    if let Some(only) = &options.check {
        check::all(&release, only)?;
    }
    println!("\n{}:", release.out.display());
    print!("{}", fs::read_to_string(release.out.join(archive::SUMS))?);
    Ok(())
}

fn add_target(target: Target) -> Result<()> {
    if build::has_target(target.triple()) {
        return Ok(());
    }
    command::run(Command::new("rustup").args(["target", "add", target.triple()]))
        .context("the standard library for static binaries is needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// docs/dev/release.md lists these places.
    #[test]
    fn all_versions_are_that_of_the_workspace() {
        let version = env!("CARGO_PKG_VERSION");
        let manifest = read("Cargo.toml");
        let is_ours = |it: &&str| it.starts_with("aiotrace") && it.contains("path = ");
        let pins: Vec<&str> = manifest.lines().filter(is_ours).collect();
        assert_eq!(pins.len(), 2, "{pins:?}");
        for pin in pins {
            assert!(pin.contains(&format!("version = \"{version}\"")), "{pin}");
        }
        let places = [
            ("contrib/kubernetes/kustomization.yaml", format!("newTag: {version}\n")),
            ("docs/how-to/fleet.md", format!("/aiotrace:{version}")),
            ("README.md", format!("aiotrace-{version}-x86_64.tar.xz")),
            ("README.md", format!("aiotrace_{version}_amd64.deb")),
            ("README.md", format!("aiotrace-{version}-1.x86_64.rpm")),
        ];
        for (name, text) in places {
            assert!(read(name).contains(&text), "{name} has no {text}");
        }
    }

    #[test]
    fn releases_are_built_with_the_version_of_rust_that_is_asked_for() {
        let manifest = read("Cargo.toml");
        let rust = manifest.lines().find_map(|it| it.strip_prefix("rust-version = "));
        let rust = rust.unwrap().trim_matches('"');
        let workflow = read(".github/workflows/release.yml");
        assert!(workflow.contains(&format!("--default-toolchain {rust}")), "{rust}");
    }
}
