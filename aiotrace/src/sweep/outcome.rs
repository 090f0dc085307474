//! What came of one fault: joined from the verdict on the program's AIO, its status, and the check.

use serde::{Deserialize, Serialize};

use super::observed::Observed;

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

    /// Those that are bad by default.
    pub const BAD: [Self; 5] = [Self::Corrupt, Self::Lost, Self::Died, Self::Hung, Self::Leaked];

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

    /// The outcome of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.text() == text)
    }

    /// Whether it is bad by default.
    pub fn is_bad(self) -> bool {
        Self::BAD.contains(&self)
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
    /// A sanitizer said something.
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

/// The statuses of programs that crashed: SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
const CRASHED: [i32; 8] = [131, 132, 133, 134, 135, 136, 139, 159];

/// The outcome of a run.
pub fn judge(ended: &Ended, observed: &Observed, usual: Usual) -> Outcome {
    if !observed.is_whole && !ended.timed_out {
        return Outcome::Unsure;
    }
    if observed.made == 0 {
        return match (observed.missed, observed.unseen) {
            (1.., _) => Outcome::NotMade,
            (0, 0) => Outcome::NotReached,
            // It may have come there without being seen.
            (0, _) => Outcome::Unsure,
        };
    }
    let is_well = ended.status == usual.status;
    let has = |kind| observed.verdicts_of(kind) > 0;
    if ended.check == Some(false) {
        Outcome::Corrupt
    } else if is_well && has("lost") {
        Outcome::Lost
    } else if !ended.timed_out
        && (has("died") || !is_well && CRASHED.contains(&ended.status) || ended.sanitizer.is_some())
    {
        Outcome::Died
    } else if ended.timed_out {
        Outcome::Hung
    } else if is_well && (has("leaked") || observed.undestroyed > usual.undestroyed) {
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
            assert_eq!(
                judge(&ended, &observed(verdict), Usual::default()),
                outcome,
                "{ended:?} {verdict}"
            );
        }
    }

    #[test]
    fn what_was_given_up_without_a_loss_is_no_loss() {
        // io_setup failed, and the program goes on without AIO.
        let without = observed("gave_up");
        assert_eq!(judge(&Ended::default(), &without, Usual::default()), Outcome::Recovered);
    }

    #[test]
    fn contexts_leak_if_more_are_left_than_without_the_fault() {
        let left = Observed { undestroyed: 2, ..observed("done") };
        let usual = |undestroyed| Usual { status: 0, undestroyed };
        assert_eq!(judge(&Ended::default(), &left, usual(1)), Outcome::Leaked);
        assert_eq!(judge(&Ended::default(), &left, usual(2)), Outcome::Recovered);
        let ended = Ended { status: 1, ..Ended::default() };
        assert_eq!(judge(&ended, &left, usual(0)), Outcome::Reported);
    }

    #[test]
    fn what_was_not_made_is_neither_good_nor_bad() {
        let ended = Ended::default();
        let never = Observed { is_whole: true, ..Observed::default() };
        assert_eq!(judge(&ended, &never, Usual::default()), Outcome::NotReached);
        assert_eq!(
            judge(&ended, &Observed { missed: 1, ..never }, Usual::default()),
            Outcome::NotMade
        );
        assert_eq!(
            judge(&ended, &Observed::default(), Usual::default()),
            Outcome::Unsure,
            "no trace"
        );
    }

    #[test]
    fn where_not_all_was_seen_nothing_good_is_concluded() {
        let ended = Ended::default();
        let blind = |it: Observed| Observed { unseen: 1, ..it };
        let is = |it, outcome| assert_eq!(judge(&ended, &it, Usual::default()), outcome);
        is(blind(observed("retried")), Outcome::Unsure);
        is(blind(observed("lost")), Outcome::Lost);
        is(blind(Observed { is_whole: true, ..Observed::default() }), Outcome::Unsure);
    }

    #[test]
    fn each_outcome_has_a_letter_and_a_name_of_its_own() {
        for it in Outcome::ALL {
            assert_eq!(Outcome::parse(it.text()), Some(it));
            assert_eq!(
                Outcome::ALL.iter().filter(|other| other.letter() == it.letter()).count(),
                1
            );
        }
    }
}
