//! Faults, made on purpose: what a rule says (docs/faults.md has the grammar), the decision whether one
//! acts, for whoever sees the calls in user space, and by what faults can be delivered.
//!
//! Nothing here makes a fault: a mechanism does, in a source. The decision itself is that of the probes,
//! [`aiotrace_common::fault`].

mod about;
mod glob;
mod judge;
pub mod mechanism;
mod mistake;
mod only;
mod piece;
mod rule;
mod value;
mod words;

pub use aiotrace_common::fault::{MOST_RULES, action, what};

pub use self::{
    glob::Glob,
    judge::{Case, Judge, MOST_COUNTERS, Verdict},
    mechanism::Mechanism,
    mistake::Mistake,
    only::Only,
    rule::Rule,
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
