//! Programs with faults, refusals and losses run on the reference of fs/aio.c, which knows what became of each
//! request; the model gets what a source sees of them. A wrong verdict, or an error that is none, fails.
//!
//! ```text
//!  Plan (random, or one of the two below) -> Player -> Kernel (crate::reference)
//!                                              |---> Truth: what became of each request
//!                                              `---> Model -> verdicts, findings -> Judge <- Truth
//! ```

mod judge;
mod plan;
mod play;
mod truth;

use aiotrace_model::model::{Doubt, Half, Verdict};
use plan::{Deal, End, Iocbs, Made, Plan, Step, dropped_log, plan};
use play::Player;
use proptest::prelude::*;

use crate::config;

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

/// Fifty writes, one after the other, with one iocb; the tenth io_submit fails.
fn fifty_writes(exact: bool, dealt: Deal) -> Plan {
    let write = Step::Submit { opcodes: vec![1], inline: !exact, bad: false, again: None };
    Plan {
        exact,
        watches: true,
        looks: true,
        iocbs: Iocbs::Stack,
        steps: vec![write; 50],
        submits: vec![(9, Made::Error)],
        completions: Vec::new(),
        getevents: Vec::new(),
        deals: vec![dealt],
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
