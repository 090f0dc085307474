//! Compares the model with a small reference of fs/aio.c: random calls of several processes and threads, reported as
//! a source reports them, with and without losses.

mod again;
mod concluded;
mod covered;
mod endless;
mod found;
mod garbage;
mod generate;
mod memory;
mod oracle;
mod other_ways;
mod promises;
mod reaping;
mod reference;
mod sharers;
mod silent;
mod told;
mod unread;
mod verdicts;
mod whose;

use generate::{Op, Rules, World};
use proptest::{prelude::*, test_runner::RngSeed};

/// Number of runs for each property.
const CASES: u32 = if cfg!(debug_assertions) { 100 } else { 1000 };
/// Number of steps of a run.
const STEPS: std::ops::Range<usize> = 1..120;

/// The cases are the same in each run, so that a failure comes from a change; PROPTEST_RNG_SEED=N and `cargo xtask
/// fuzz model` give others.
#[expect(clippy::disallowed_methods, reason = "the crate itself asks nobody")]
fn config() -> ProptestConfig {
    let mut config =
        ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) };
    let seed = std::env::var_os("PROPTEST_RNG_SEED");
    if seed.is_none() {
        config.rng_seed = RngSeed::Fixed(1);
    }
    config
}

fn run(rules: Rules, ops: &[Op]) {
    let mut world = World::new(rules);
    for op in ops {
        world.step(op);
    }
    world.end();
}

proptest! {
    #![proptest_config(config())]

    /// Contexts, requests in flight, unreaped and done, and the charge, equal the reference's after each step; and a
    /// program without defects has no bad finding.
    #[test]
    fn a_program_without_a_fault_is_followed_exactly(
        exact in any::<bool>(),
        ops in prop::collection::vec(generate::op(), STEPS),
    ) {
        run(Rules { exact, faults: false, losses: false }, &ops);
    }

    /// The same for programs with defects: what is wrong is found, and nothing else.
    #[test]
    fn the_faults_of_a_program_are_found_and_no_others(
        exact in any::<bool>(),
        ops in prop::collection::vec(generate::op(), STEPS),
    ) {
        run(Rules { exact, faults: true, losses: false }, &ops);
    }

    /// Where events were lost, no finding is an error; other processes are followed exactly all the same.
    #[test]
    fn a_loss_makes_unsure_whoever_lost_something_and_nobody_else(
        exact in any::<bool>(),
        faults in any::<bool>(),
        ops in prop::collection::vec(generate::op(), STEPS),
    ) {
        run(Rules { exact, faults, losses: true }, &ops);
    }
}
