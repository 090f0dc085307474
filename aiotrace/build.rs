//! Builds the probes (`aiotrace-ebpf`) for the bpf target with the stable toolchain, and embeds the
//! objects. Without bpf-linker or the standard library's source, the program is built without the
//! probes: everything except tracing works then, `cargo test` included, and `aiotrace` says what to
//! do.
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
        println!("cargo:rerun-if-changed={}", root.join(dependency).display());
    }
    let code = match build(&root) {
        Ok(()) => {
            "Objects {
                probes: Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/aiotrace-ebpf\"))),
                list: Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/aiotrace-ebpf-list\"))),
            }"
        }
        Err(reason) if env::var_os("AIOTRACE_REQUIRE_EBPF").is_some() => return Err(reason),
        Err(reason) => {
            println!("cargo:warning=building without the BPF probes: {reason:#}");
            println!("cargo:warning=`cargo xtask setup` installs what is missing");
            "Objects { probes: None, list: None }"
        }
    };
    println!("cargo:rerun-if-env-changed=AIOTRACE_REQUIRE_EBPF");
    fs::write(out.join("object.rs"), code).context("cannot write object.rs")
}

/// The variable with which cargo and other tools tell aya-build not to build the objects.
const SKIP: &str = "AYA_BUILD_SKIP";

fn build(root: &Path) -> Result<()> {
    println!("cargo:rerun-if-env-changed={SKIP}");
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
    )
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
