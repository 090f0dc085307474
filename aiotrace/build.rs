//! Builds the probes (`aiotrace-ebpf`) for the bpf target with the stable toolchain, and embeds the
//! objects. Without bpf-linker or the standard library's source, the program is built without the
//! probes: everything except tracing works then, `cargo test` included, and `aiotrace` says what to
//! do. The package of the crate has the objects in it, and no sources of the probes.
//!
//! aya-build runs the nested build; stable rustc takes `-Z build-std` with RUSTC_BOOTSTRAP=1.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};

/// Where Debian's own toolchain is (packages rustc-web, cargo-web, rust-web-src). It is used where
/// rustup cannot add the component rust-src.
const DEBIAN_BIN: &str = "/usr/bin";

fn main() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR")?).join("..");
    for dependency in ["aiotrace-common/src", "aiotrace-ebpf/src", "aiotrace-ebpf/Cargo.toml"] {
        // A path that is not there would make cargo run this again at each build.
        let path = root.join(dependency);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    let code = match build(&root).or_else(|reason| prebuilt(&out, reason)) {
        Ok(()) => {
            "Objects {
                probes: Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/aiotrace-ebpf\"))),
                list: Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/aiotrace-ebpf-list\"))),
            }"
        }
        Err(reason) if env::var_os("AIOTRACE_REQUIRE_EBPF").is_some() => return Err(reason),
        Err(reason) => {
            println!("cargo:warning=building without the BPF probes: {reason:#}");
            println!("cargo:warning=in a checkout, `cargo xtask setup` installs what is missing");
            "Objects { probes: None, list: None }"
        }
    };
    println!("cargo:rerun-if-env-changed=AIOTRACE_REQUIRE_EBPF");
    println!("cargo:rustc-env=AIOTRACE_VERSION={}", version()?);
    fs::write(out.join("object.rs"), code).context("cannot write object.rs")
}

/// The version, with the commit in brackets if this is the build of a release: `cargo xtask dist` says which it is, and
/// cargo writes it into the package of a crate. (A build of a developer does not ask git: each commit would make all of
/// it anew.)
fn version() -> Result<String> {
    println!("cargo:rerun-if-env-changed=AIOTRACE_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").context("CARGO_PKG_VERSION")?;
    let packaged = || {
        let about = fs::read_to_string(".cargo_vcs_info.json").ok()?;
        Some(about.split("\"sha1\": \"").nth(1)?.split('"').next()?.to_owned())
    };
    let commit = env::var("AIOTRACE_COMMIT").ok().or_else(packaged);
    let short = commit.as_deref().and_then(|it| it.get(..12));
    Ok(short.map_or_else(|| version.clone(), |it| format!("{version} ({it})")))
}

/// The variable with which cargo and other tools tell aya-build not to build the objects.
const SKIP: &str = "AYA_BUILD_SKIP";

fn build(root: &Path) -> Result<()> {
    println!("cargo:rerun-if-env-changed={SKIP}");
    if !Path::new(SOURCES).exists() {
        return Err(anyhow!("the sources of the probes are not here"));
    }
    if env::var_os(SKIP).is_some_and(|it| it == "1" || it.eq_ignore_ascii_case("true")) {
        return Err(anyhow!("{SKIP} is set"));
    }
    let linker = which::which("bpf-linker").map_err(|_| {
        // A file that does not exist makes cargo run this script again at the next build.
        if let Some(home) = env::var_os("CARGO_HOME").map(PathBuf::from) {
            println!("cargo:rerun-if-changed={}", home.join("bin/bpf-linker").display());
        }
        anyhow!("bpf-linker is not installed")
    })?;
    let rustc = env::var_os("RUSTC").context("RUSTC")?;
    if !has_source(Path::new(&rustc)) {
        if !has_source(&Path::new(DEBIAN_BIN).join("rustc")) {
            return Err(anyhow!("the component rust-src is not installed"));
        }
        // SAFETY: a build script has one thread, so nobody reads the environment meanwhile.
        unsafe {
            env::set_var("PATH", DEBIAN_BIN);
            env::set_var("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker);
        }
    }
    // SAFETY: a build script has one thread, so nobody reads the environment meanwhile.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // aya-build would pass cargo's progress on as warnings.
        env::set_var("CARGO_TERM_QUIET", "true");
        // The BTF names sources. Without the paths of this machine it is the same on every machine.
        env::set_var("CARGO_UNSTABLE_TRIM_PATHS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all");
    }
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".into());
    let directory = root.join("aiotrace-ebpf");
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "aiotrace-ebpf",
            root_dir: directory.to_str().context("the path of the sources is not UTF-8")?,
            ..Default::default()
        }],
        aya_build::Toolchain::Custom(&toolchain),
    )?;
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    OBJECTS.iter().try_for_each(|name| strip(&out.join(name)))
}

/// Takes the objects that are in the package of the crate, which has no sources of the probes; else gives `reason`.
fn prebuilt(out: &Path, reason: anyhow::Error) -> Result<()> {
    let architecture = env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH")?;
    let directory = Path::new(PREBUILT).join(architecture);
    if Path::new(SOURCES).exists() || !directory.exists() {
        return Err(reason);
    }
    for name in OBJECTS {
        let from = directory.join(name);
        fs::copy(&from, out.join(name)).with_context(|| from.display().to_string())?;
    }
    Ok(())
}

/// Where `cargo xtask dist` puts the objects for the package, a directory for each architecture.
const PREBUILT: &str = "prebuilt";
/// The sources of the probes, in a repository: they are preferred.
const SOURCES: &str = "../aiotrace-ebpf/Cargo.toml";

/// The objects that are embedded.
const OBJECTS: [&str; 2] = ["aiotrace-ebpf", "aiotrace-ebpf-list"];

/// Removes the DWARF of an object, nine tenths of it, which nobody reads: the kernel and the loader have the BTF.
fn strip(path: &Path) -> Result<()> {
    let name = path.display();
    let data = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let mut object =
        object::build::elf::Builder::read(&*data).with_context(|| format!("cannot read {name}"))?;
    for section in &mut object.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    object.delete_orphans();
    // LLVM keeps the names of sections and those of symbols in one place, and the writer in two.
    let names = object.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = object::build::elf::SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped).with_context(|| format!("cannot strip {name}"))?;
    fs::write(path, stripped).with_context(|| format!("cannot write {name}"))
}

/// Whether the toolchain of this compiler has the source of the standard library.
fn has_source(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else {
        return false;
    };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let source = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if !source.exists() {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    source.exists()
}
