//! `cargo xtask fuzz`: the fuzz targets, with cargo-fuzz, from the seeds in fuzz/seeds on. (The tests replay
//! the seeds: aiotrace/tests/fuzz.rs.)

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::command;

/// The targets in fuzz/fuzz_targets.
const TARGETS: [&str; 3] = ["records", "recording", "rules"];

/// Run the fuzz targets (needs `cargo install cargo-fuzz`)
#[derive(Debug, Args)]
pub struct Options {
    /// Which; without it, all, one after the other
    target: Option<String>,
    /// Seconds for each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    for target in TARGETS {
        if options.target.as_deref().is_some_and(|it| it != target) {
            continue;
        }
        let corpus = Path::new("fuzz/corpus").join(target);
        seed(&Path::new("fuzz/seeds").join(target), &corpus)?;
        // The sanitizer needs it; the compiler is the stable one.
        command::run(
            Command::new("cargo")
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["fuzz", "run", target, "--", "-rss_limit_mb=1024"])
                .arg(format!("-max_total_time={}", options.seconds)),
        )?;
    }
    Ok(())
}

/// Seeds are kept as text: `.hex` in hexadecimal, others as they are.
fn seed(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let to = to.join(path.file_stem().unwrap_or_default());
        if path.extension().is_none_or(|it| it != "hex") {
            fs::write(to, text)?;
            continue;
        }
        let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(16)).collect();
        let bytes: Vec<u8> = digits.chunks_exact(2).map(|it| (it[0] << 4 | it[1]) as u8).collect();
        fs::write(to, bytes)?;
    }
    Ok(())
}
