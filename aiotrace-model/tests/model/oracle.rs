//! Programs with faults, refusals and losses run on the reference of fs/aio.c, which knows what became of each
//! request; the model gets what a source sees of them. A wrong verdict, or an error that is none, fails.
//!
//! ```text
//!  Plan (random, or one of the two below) -> Player -> Kernel (crate::reference)
//!                                              |---> Truth: what became of each request
//!                                              `---> Model -> verdicts, findings -> Judge <- Truth
//! ```

mod completions;
mod deals;
mod doubts;
mod ends;
mod fate;
mod judge;
mod looks;
mod plan;
mod play;
mod synchronous;
mod truth;
mod works;
mod world;

use std::cell::Cell;

use aiotrace_model::model::{Doubt, Half, Verdict};
use plan::{Around, By, Deal, End, Iocbs, Looks, Made, Plan, Step, busy_plan, dropped_log, plan};
use play::Player;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestRunner},
};

use crate::config;

/// Number of busy plays.
const CASES: u64 = crate::CASES as u64 * 25;
/// Seeds of plays that found something.
const KEPT: [u64; 39] = [
    1_051_461,
    1_052_294,
    16_778_035,
    19_923_145,
    242_221_668,
    214_958_196,
    217_056_122,
    229_639_791,
    248_513_725,
    251_659_303,
    24_118_846,
    26_216_281,
    51_381_872,
    52_430_939,
    216_007_016,
    229_638_582,
    6_293_645,
    33_554_591,
    40_895_107,
    16_778_901,
    83_887_212,
    155_190_117,
    167_773_850,
    184_550_274,
    195_036_392,
    199_231_786,
    202_376_094,
    242_221_752,
    245_367_137,
    282_068_717,
    298_845_738,
    311_427_699,
    201_327_595,
    111_150_292,
    448_791_366,
    461_374_834,
    466_617_012,
    553_648_803,
    614_467_871,
];

/// Runs a plan, judges the verdicts, and returns the last verdict on each fault.
fn play(plan: &Plan) -> Vec<Verdict> {
    let mut player = Player::new(plan);
    player.play();
    judge::judge(player)
}

proptest! {
    #![proptest_config(config())]

    /// The source sees everything, synchronous calls too: the verdicts are the whole truth.
    #[test]
    fn verdicts_are_the_truth(plan in plan()) {
        play(&Plan { watches: true, losses: Vec::new(), ..plan });
    }

    /// The source does not see synchronous calls: no verdict is that a request was lost.
    #[test]
    fn what_may_have_been_done_otherwise_is_unsure(plan in plan()) {
        play(&Plan { watches: false, losses: Vec::new(), ..plan });
    }

    /// A log writes its header anew with each record, and never tries anything again.
    #[test]
    fn a_log_that_drops_what_fails_has_not_retried(plan in dropped_log()) {
        for verdict in play(&plan) {
            prop_assert!(verdict.half != Half::Retried, "{}: {verdict:?}", verdict.message());
        }
    }

    /// Records are lost: what is told is the truth, or unsure.
    #[test]
    fn after_losses_verdicts_are_the_truth_or_unsure(plan in plan(), watches in any::<bool>()) {
        play(&Plan { watches, ..plan });
    }
}

/// Plays one plan for each seed.
fn plays(
    seeds: impl Iterator<Item = u64>,
    plans: impl Strategy<Value = Plan>,
    test: impl Fn(&Plan),
) {
    for seed in seeds {
        let rng_seed = RngSeed::Fixed(seed);
        let config = ProptestConfig { cases: 1, rng_seed, ..config() };
        let played = TestRunner::new(config).run(&plans, |plan| {
            test(&plan);
            Ok(())
        });
        played.unwrap_or_else(|it| panic!("seed {seed}: {it}"));
    }
}

/// What is left is done in all the ways that there are, while other things happen, and the model hears of them late: what it
/// tells for sure is the truth.
#[test]
fn what_is_sure_is_true_whatever_happens_meanwhile() {
    let first = match config().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => 0,
    };
    let seeds = (0..CASES).map(|it| (first << 20) + it);
    plays(KEPT.into_iter().chain(seeds), busy_plan(), |plan| drop(play(plan)));
}

/// How many of the verdicts on such plays are sure, in percent.
fn sure(plans: impl Strategy<Value = Plan>) -> u64 {
    let (sure, all) = (Cell::new(0), Cell::new(0));
    plays(0..200, plans, |plan| {
        let verdicts = play(plan);
        let unsure = verdicts.iter().filter(|it| it.half == Half::Unsure).count() as u64;
        all.set(all.get() + verdicts.len() as u64);
        sure.set(sure.get() + verdicts.len() as u64 - unsure);
    });
    sure.get() * 100 / all.get()
}

/// A model that is never sure is never wrong either.
#[test]
fn where_nothing_else_happens_verdicts_are_sure() {
    let dealt = |deals: Vec<Deal>| {
        let plans = busy_plan();
        sure(plans.prop_map(move |plan| clean(plan, deals.clone())))
    };
    let shares = [
        dealt(vec![Deal::Drop]),
        dealt(vec![Deal::AtOnce]),
        dealt(vec![Deal::OneByOne]),
        dealt(vec![Deal::Synchronously { pieces: 3 }]),
        dealt((0..5).map(|which| Deal::Through { which, by: By::Calls, pieces: 3 }).collect()),
    ];
    assert!(shares.iter().all(|it| *it >= 80), "{shares:?}");
}

/// The same plan, if all looks came in time, and nothing else happened.
fn clean(plan: Plan, deals: Vec<Deal>) -> Plan {
    let is_clean = |it: &Step| {
        let by_hand = matches!(it, Step::Reap { from_ring: true, .. });
        !by_hand && !matches!(it, Step::Meanwhile(_))
    };
    let once = |step: Step| match step {
        Step::Submit { opcodes, inline, bad, .. } => {
            Step::Submit { opcodes, inline, bad, again: None }
        }
        step => step,
    };
    let steps = plan.steps.into_iter().filter(is_clean).map(once).collect();
    Plan {
        watches: true,
        looks: Looks::IN_TIME,
        around: Around::default(),
        before: Vec::new(),
        after: Vec::new(),
        steps,
        deals,
        ..plan
    }
}

/// Fifty writes, one after the other, with one iocb; the tenth io_submit fails.
fn fifty_writes(exact: bool, dealt: Deal) -> Plan {
    let write = Step::Submit { opcodes: vec![1], inline: !exact, bad: false, again: None };
    Plan {
        exact,
        watches: true,
        looks: Looks::IN_TIME,
        around: Around::default(),
        iocbs: Iocbs::Stack,
        steps: vec![write; 50],
        submits: vec![(9, Made::Error)],
        completions: Vec::new(),
        getevents: Vec::new(),
        deals: vec![dealt],
        before: Vec::new(),
        after: Vec::new(),
        losses: Vec::new(),
        end: End::Exit(0),
        destroys: true,
    }
}

/// The programs `drop-reuse` and `sync-fallback` make the same AIO calls. One loses a block, the other does not.
#[test]
fn who_drops_a_request_and_who_writes_it_at_once_are_told_apart() {
    for exact in [false, true] {
        let dropped = play(&fifty_writes(exact, Deal::Drop));
        let done = play(&fifty_writes(exact, Deal::Synchronously { pieces: 1 }));
        let kinds = |of: &[Verdict]| of.iter().map(|it| (it.half, it.lost)).collect::<Vec<_>>();
        assert_eq!(kinds(&dropped), [(Half::Lost, 1)]);
        assert_eq!(kinds(&done), [(Half::Done, 0)]);
    }
}

/// In the programs `retry-pool` and `fault-retry` the request comes again, in another iocb or in the same one.
#[test]
fn who_makes_a_request_again_in_whatever_iocb_has_retried_it() {
    for exact in [false, true] {
        for dealt in [
            Deal::AtOnce,
            Deal::OneByOne,
            Deal::Elsewhere { after: 0 },
            Deal::Elsewhere { after: 3 },
        ] {
            for plan in [
                fifty_writes(exact, dealt),
                Plan {
                    submits: Vec::new(),
                    completions: vec![(9, Made::Error)],
                    ..fifty_writes(exact, dealt)
                },
            ] {
                let verdicts = play(&plan);
                assert_eq!(verdicts.len(), 1, "{verdicts:?}");
                let told = (verdicts[0].half, verdicts[0].doubt, verdicts[0].succeeded);
                // After others it may have been made for another reason.
                let expected = match dealt {
                    Deal::Elsewhere { after: 3 } => (Half::Unsure, Some(Doubt::Submitted), true),
                    _ => (Half::Retried, None, true),
                };
                assert_eq!(told, expected, "{dealt:?}");
            }
        }
    }
}
