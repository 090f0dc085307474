//! What came of one fault: joined from the verdict on the program's AIO, its status, and the check.

use serde::{Deserialize, Serialize};

use super::observed::Observed;
use crate::words::signal::is_own;

/// What came of one fault, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The check failed.
    Corrupt,
    /// Requests were never done, and the program ended as if all were well.
    Lost,
    /// The program crashed.
    Died,
    /// The program did not end in time; twice.
    Hung,
    /// A context was never destroyed, and the program ended as if all were well.
    Leaked,
    /// Tried again, the same fault had another outcome.
    Flaky,
    /// aiotrace did not see enough to say.
    Unsure,
    /// The fault could not be made.
    NotMade,
    /// The program did not come to the site.
    NotReached,
    /// The program said that it failed, and the check passed.
    Reported,
    /// The program ended as without the fault, and the check passed.
    Recovered,
}

impl Outcome {
    /// All.
    pub const ALL: [Self; 11] = [
        Self::Corrupt,
        Self::Lost,
        Self::Died,
        Self::Hung,
        Self::Leaked,
        Self::Flaky,
        Self::Unsure,
        Self::NotMade,
        Self::NotReached,
        Self::Reported,
        Self::Recovered,
    ];

    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Lost => "lost",
            Self::Died => "died",
            Self::Hung => "hung",
            Self::Leaked => "leaked",
            Self::Flaky => "flaky",
            Self::Unsure => "unsure",
            Self::NotMade => "not made",
            Self::NotReached => "not reached",
            Self::Reported => "reported",
            Self::Recovered => "recovered",
        }
    }

    /// As it is in the table.
    pub fn letter(self) -> char {
        match self {
            Self::Corrupt => 'C',
            Self::Lost => 'L',
            Self::Died => 'D',
            Self::Hung => 'H',
            Self::Leaked => 'K',
            Self::Flaky => '~',
            Self::Unsure => '?',
            Self::NotMade => '!',
            Self::NotReached => '-',
            Self::Reported => 'r',
            Self::Recovered => 'R',
        }
    }

    /// The outcome of this name, as text has it or as JSON: `not made` or `not_made`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.replace('_', " ");
        Self::ALL.into_iter().find(|it| it.text() == text)
    }
}

/// How a run ended, beside its trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The status: 128 plus the signal, if one ended it.
    pub status: i32,
    /// It was ended because it took too long.
    pub timed_out: bool,
    /// Whether the check passed, if there is one.
    pub check: Option<bool>,
    /// The check did not end in time.
    pub is_check_late: bool,
    /// A sanitizer said something that it does not say without a fault.
    pub sanitizer: Option<String>,
}

/// What is so without a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    /// The status.
    pub status: i32,
    /// Contexts that are not destroyed.
    pub undestroyed: u64,
}

/// The outcome of a run, and whether the run showed enough for it: something that was not seen may tell otherwise.
pub fn judge(ended: &Ended, observed: &Observed, usual: Usual) -> (Outcome, bool) {
    let outcome = outcome(ended, observed, usual);
    let is_sure = match outcome {
        // A program that reaps from the ring was faster, this time.
        Outcome::NotMade | Outcome::Unsure => false,
        Outcome::NotReached | Outcome::Recovered => !observed.is_doubtful(),
        _ => true,
    };
    (outcome, is_sure)
}

fn outcome(ended: &Ended, observed: &Observed, usual: Usual) -> Outcome {
    if !observed.is_whole && !ended.timed_out {
        return Outcome::Unsure;
    }
    let is_well = ended.status == usual.status;
    let has = |kind| observed.verdicts_of(kind) > 0;
    let is_crash = has("died")
        || !is_well && ended.status.checked_sub(128).is_some_and(is_own)
        || ended.sanitizer.is_some();
    // These say that something is wrong, also if the program did not come to the fault.
    if ended.check == Some(false) {
        return Outcome::Corrupt;
    }
    if is_well && has("lost") {
        return Outcome::Lost;
    }
    if ended.timed_out {
        return Outcome::Hung;
    }
    if is_crash {
        return Outcome::Died;
    }
    if observed.made == 0 {
        return match (observed.missed, observed.unseen) {
            (1.., _) => Outcome::NotMade,
            (0, 0) => Outcome::NotReached,
            // It may have come there without being seen.
            (0, _) => Outcome::Unsure,
        };
    }
    if is_well && (has("leaked") || observed.undestroyed > usual.undestroyed) {
        Outcome::Leaked
    } else if !is_well {
        Outcome::Reported
    } else if observed.unseen > 0 || observed.is_doubtful() && ended.check.is_none() {
        // A check that passed knows more than the trace.
        Outcome::Unsure
    } else {
        Outcome::Recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(verdict: &str) -> Observed {
        let verdicts = [(verdict.to_owned(), 1)].into();
        Observed { is_whole: true, made: 1, verdicts, ..Observed::default() }
    }

    #[test]
    fn verdict_status_and_check_are_joined() {
        let ended = |status| Ended { status, ..Ended::default() };
        let checked = |status, passes| Ended { check: Some(passes), ..ended(status) };
        let late = Ended { timed_out: true, ..ended(124) };
        let insane = Ended { sanitizer: Some("AddressSanitizer".into()), ..ended(1) };
        let cases = [
            (ended(0), "retried", Outcome::Recovered),
            (ended(0), "lost", Outcome::Lost),
            (checked(0, true), "lost", Outcome::Lost),
            (checked(0, false), "retried", Outcome::Corrupt),
            (ended(1), "reported", Outcome::Reported),
            (ended(0), "leaked", Outcome::Leaked),
            (ended(139), "died", Outcome::Died),
            (ended(134), "gave_up", Outcome::Died),
            (insane, "gave_up", Outcome::Died),
            (late, "hung", Outcome::Hung),
            (ended(0), "unsure", Outcome::Unsure),
            (checked(0, true), "unsure", Outcome::Recovered),
            (ended(3), "unsure", Outcome::Reported),
        ];
        for (ended, verdict, outcome) in cases {
            let judged = judge(&ended, &observed(verdict), Usual::default()).0;
            assert_eq!(judged, outcome, "{ended:?} {verdict}");
        }
    }

    #[test]
    fn what_was_given_up_without_a_loss_is_no_loss() {
        // io_setup failed, and the program goes on without AIO.
        let without = observed("gave_up");
        let judged = judge(&Ended::default(), &without, Usual::default());
        assert_eq!(judged, (Outcome::Recovered, true));
    }

    #[test]
    fn contexts_leak_if_more_are_left_than_without_the_fault() {
        let left = Observed { undestroyed: 2, ..observed("done") };
        let usual = |undestroyed| Usual { status: 0, undestroyed };
        assert_eq!(judge(&Ended::default(), &left, usual(1)).0, Outcome::Leaked);
        assert_eq!(judge(&Ended::default(), &left, usual(2)).0, Outcome::Recovered);
        let ended = Ended { status: 1, ..Ended::default() };
        assert_eq!(judge(&ended, &left, usual(0)).0, Outcome::Reported);
    }

    #[test]
    fn what_was_not_made_is_neither_good_nor_bad() {
        let ended = Ended::default();
        let never = Observed { is_whole: true, ..Observed::default() };
        let of = |ended: &Ended, it: &Observed| judge(ended, it, Usual::default());
        assert_eq!(of(&ended, &never), (Outcome::NotReached, true));
        let missed = Observed { missed: 1, ..never.clone() };
        assert_eq!(of(&ended, &missed), (Outcome::NotMade, false));
        assert_eq!(of(&ended, &Observed::default()), (Outcome::Unsure, false), "no trace");
        // But what went wrong before the fault was to be made did go wrong.
        let wrong = |it: Ended| of(&it, &never).0;
        assert_eq!(wrong(Ended { status: 139, ..Ended::default() }), Outcome::Died);
        assert_eq!(wrong(Ended { check: Some(false), ..Ended::default() }), Outcome::Corrupt);
        let late = Ended { timed_out: true, status: 124, ..Ended::default() };
        assert_eq!(wrong(late.clone()), Outcome::Hung);
        assert_eq!(of(&late, &Observed::default()).0, Outcome::Hung, "it was killed");
        assert_eq!(wrong(Ended { check: Some(true), ..Ended::default() }), Outcome::NotReached);
        assert_eq!(wrong(Ended { status: 1, ..Ended::default() }), Outcome::NotReached);
    }

    #[test]
    fn a_key_of_the_terminal_is_no_crash() {
        let ended = |signal| Ended { status: 128 + signal, ..Ended::default() };
        let judged = |signal| judge(&ended(signal), &observed("gave_up"), Usual::default()).0;
        assert_eq!(
            [3, 6, 11, 15].map(judged),
            [Outcome::Reported, Outcome::Died, Outcome::Died, Outcome::Reported]
        );
    }

    #[test]
    fn where_not_all_was_seen_nothing_good_is_concluded() {
        let ended = Ended::default();
        let blind = |it: Observed| Observed { unseen: 1, ..it };
        let is = |it, outcome| assert_eq!(judge(&ended, &it, Usual::default()).0, outcome);
        is(blind(observed("retried")), Outcome::Unsure);
        is(blind(observed("lost")), Outcome::Lost);
        is(blind(Observed { is_whole: true, ..Observed::default() }), Outcome::Unsure);
    }

    #[test]
    fn each_outcome_has_a_letter_and_a_name_of_its_own() {
        for it in Outcome::ALL {
            assert_eq!(Outcome::parse(it.text()), Some(it));
            let json = serde_json::to_value(it).unwrap();
            assert_eq!(Outcome::parse(json.as_str().unwrap()), Some(it));
            assert_eq!(
                Outcome::ALL.iter().filter(|other| other.letter() == it.letter()).count(),
                1
            );
        }
    }
}
