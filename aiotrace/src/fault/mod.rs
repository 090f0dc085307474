//! Faults, made on purpose: the decision whether a rule acts, for whoever sees the calls in user space, and by what
//! faults can be delivered. (What a rule says is read by [`aiotrace_model::fault`].)
//!
//! Nothing here makes a fault: a mechanism does, in a source. The decision itself is that of the probes,
//! [`aiotrace_common::fault`].

mod judge;
pub mod mechanism;

pub use aiotrace_model::fault::{Acts, Glob, MOST_RULES, Mistake, Only, Rule, action, what};

pub use self::{
    judge::{Case, Judge, MOST_COUNTERS, Verdict},
    mechanism::Mechanism,
};

/// A rule, as a value of an option; the mistake on lines of its own, so that its mark is in the right place.
pub fn argument(text: &str) -> Result<Rule, String> {
    Rule::parse(text).map_err(|mistake| format!("\n{mistake}"))
}

/// The same for `--only`.
pub fn only_argument(text: &str) -> Result<Only, String> {
    Only::parse(text).map_err(|mistake| format!("\n{mistake}"))
}

/// Whether there are too many rules to have them at the same time.
pub fn check(rules: &[Rule]) -> Result<(), String> {
    if rules.len() <= MOST_RULES {
        return Ok(());
    }
    Err(format!(
        "{} rules are too many: {MOST_RULES} at most; one rule can name several calls, as \
         io_setup,io_submit:error=EAGAIN does",
        rules.len()
    ))
}
