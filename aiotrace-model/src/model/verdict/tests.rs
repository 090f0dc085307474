use super::*;
use crate::words::signal::{SIGABRT, SIGBUS, SIGSEGV};

#[test]
fn the_worse_half_decides() {
    let code = |code| Some(Going::Ended(ExitStatus::Code(code)));
    let died = |number| Some(Going::Ended(ExitStatus::Signal(number)));
    let cases = [
        (Half::Retried, code(0), Outcome::Retried),
        (Half::Retried, code(14), Outcome::Exited),
        (Half::Retried, Some(Going::Running), Outcome::Retried),
        (Half::Retried, None, Outcome::Retried),
        (Half::GaveUp, died(SIGABRT), Outcome::Died),
        (Half::GaveUp, died(crate::words::signal::SIGTERM), Outcome::GaveUp),
        (Half::Done, code(0), Outcome::Done),
        (Half::Lost, code(0), Outcome::Lost),
        (Half::Lost, Some(Going::Running), Outcome::Lost),
        (Half::Lost, Some(Going::Exec), Outcome::Lost),
        (Half::Lost, code(1), Outcome::Reported),
        (Half::Lost, died(SIGSEGV), Outcome::Died),
        (Half::Leaked, code(0), Outcome::Leaked),
        (Half::Open, Some(Going::Running), Outcome::Undecided),
        (Half::Open, Some(Going::Hung), Outcome::Hung),
        (Half::Retried, Some(Going::TimedOut(Doing::Calls)), Outcome::Hung),
        (Half::Unsure, code(1), Outcome::Unsure),
        (Half::Unsure, died(SIGBUS), Outcome::Died),
    ];
    for (half, going, outcome) in cases {
        assert_eq!(Outcome::of(half, going), outcome, "{half:?} {going:?}");
    }
}

#[test]
fn of_processes_that_stood_still_for_different_times_the_shortest_is_a_bound() {
    let row = |times: &[u64]| {
        let mut row = FaultRow::new(1, Cause::Call(Syscall::Submit), Some(-11));
        for it in times {
            let going = Going::TimedOut(Doing::Nothing(it * 1_000_000_000));
            row.count((Outcome::Hung, Half::Open, Some(going)), 0, true);
            row.made += 1;
        }
        row.in_words()
    };
    let one = row(&[9, 9]);
    assert!(
        one.ends_with("; hung: it had made no AIO call for 9.00s when --timeout ended it"),
        "{one}"
    );
    let several = row(&[9, 5, 7]);
    let bound = "; hung: it had made no AIO call for at least 5.00s when --timeout ended it";
    assert!(several.ends_with(bound), "{several}");
}
