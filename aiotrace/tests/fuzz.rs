//! Runs the seeds of the fuzz targets (fuzz/seeds; `.hex` in hexadecimal, others as text), as they are, and changed
//! in many places that are the same in each run. `cargo xtask fuzz` goes further.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::path::{Path, PathBuf};

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), bytes(&path, std::fs::read_to_string(&path).unwrap())))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    seeds
}

fn bytes(path: &Path, text: String) -> Vec<u8> {
    if path.extension().is_none_or(|it| it != "hex") {
        return text.into_bytes();
    }
    let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The generator xorshift64*, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

fn changed(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at.max(1)),
            _ => bytes.insert(at, [0, 0xff, 0x7f, 0x80][random.below(4)]),
        }
    }
    bytes
}

fn replay(target: &str, run: fn(&[u8]) -> u64) {
    for (path, seed) in seeds(target) {
        assert!(run(&seed) > 3, "{} is a good one", path.display());
        let mut random = Random(0x1234_5678_9abc_def1);
        for _ in 0..3000 {
            run(&changed(&seed, &mut random));
        }
    }
}

#[test]
fn records_of_all_kinds_and_what_is_no_record() {
    replay("records", aiotrace::fuzz::records);
}

#[test]
fn recordings_and_what_is_no_recording() {
    replay("recording", aiotrace::fuzz::recording);
}

#[test]
fn rules_and_what_is_no_rule() {
    replay("rules", aiotrace::fuzz::rules);
}

#[test]
fn files_with_code_and_what_is_none() {
    replay("elf", aiotrace::fuzz::elf);
}

#[test]
fn tables_for_unwinding_and_what_is_none() {
    replay("unwind", aiotrace::fuzz::unwind);
}

#[test]
fn files_of_proc_and_what_is_none() {
    replay("proc", aiotrace::fuzz::proc);
}

#[test]
fn rings_and_what_is_none() {
    replay("rings", aiotrace::fuzz::rings);
}
