//! Faults that are made on purpose: the decision whether a rule acts, for sources that see the
//! calls in user space, and the mechanisms that can deliver faults. (Rules are parsed by
//! [`aiotrace_model::fault`].)
//!
//! Nothing here makes a fault: a mechanism in a source does. The probes use the same decision,
//! [`aiotrace_common::fault`].

mod judge;
pub mod mechanism;

pub use aiotrace_model::fault::{
    Acts, Glob, MOST_RULES, Mistake, Only, Rule, action, complete_only, complete_rule, what,
};

pub use self::{
    judge::{Case, Judge, MOST_COUNTERS, Verdict},
    mechanism::Mechanism,
};

/// Parses a rule that is the value of an option. A mistake is shown on lines of its own, so that
/// its mark is in the right place.
pub fn argument(text: &str) -> Result<Rule, String> {
    Rule::parse(text).map_err(|mistake| format!("\n{mistake}"))
}

/// Parses the value of `--only` in the same way.
pub fn only_argument(text: &str) -> Result<Only, String> {
    Only::parse(text).map_err(|mistake| format!("\n{mistake}"))
}

/// Whether the rules are few enough to be in force at the same time.
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
