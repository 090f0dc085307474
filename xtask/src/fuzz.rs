//! `cargo xtask fuzz`: runs the fuzz targets with cargo-fuzz, beginning with the seeds in
//! fuzz/seeds. (The tests replay the seeds: aiotrace/tests/fuzz.rs.) It also compares the model
//! with its reference in new cases each time; the tests do so in the same cases each time.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::command;

/// The targets in fuzz/fuzz_targets.
const TARGETS: [&str; 7] = ["records", "recording", "rules", "elf", "unwind", "proc", "rings"];
/// Targets that run code of other projects which relies on integer overflow to wrap: they are built
/// without overflow checks, as in the binary that users get.
const AS_SHIPPED: [&str; 2] = ["elf", "unwind"];
/// The property tests of the model: aiotrace-model/tests/model.
const MODEL: &str = "model";

/// Run the fuzz targets (needs `cargo install cargo-fuzz`)
#[derive(Debug, Args)]
pub struct Options {
    /// The target; without it, all of them, one after the other
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(TARGETS.into_iter().chain([MODEL])))]
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let is_wanted = |target| options.target.as_deref().is_none_or(|it| it == target);
    if is_wanted(MODEL) {
        compare(Duration::from_secs(options.seconds))?;
    }
    for target in TARGETS.into_iter().filter(|it| is_wanted(it)) {
        let corpus = Path::new("fuzz/corpus").join(target);
        seed(&Path::new("fuzz/seeds").join(target), &corpus)?;
        // The sanitizer needs an unstable option, and this variable makes the stable compiler take
        // it.
        command::run(
            Command::new("cargo")
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["fuzz", "run", target])
                .args(AS_SHIPPED.contains(&target).then_some("--release"))
                .args(["--", "-rss_limit_mb=1024"])
                .arg(format!("-max_total_time={}", options.seconds)),
        )?;
    }
    Ok(())
}

/// Runs the property tests of the model, with one seed after the other until the time is over.
fn compare(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    let mut seed = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    while Instant::now() < until {
        command::run(Command::new("cargo").env("PROPTEST_RNG_SEED", seed.to_string()).args([
            "test",
            "--quiet",
            "--release",
            "-p",
            "aiotrace-model",
            "--test",
            MODEL,
        ]))
        .with_context(|| format!("PROPTEST_RNG_SEED={seed}"))?;
        seed += 1;
    }
    Ok(())
}

/// Copies the seeds into the corpus. They are kept as text: `.hex` files hold hexadecimal, others
/// the bytes themselves.
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
