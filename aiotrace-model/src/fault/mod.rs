//! Fault rules: what one says. docs/reference/faults.md has the grammar. The model reads them, too: what a program makes of a fault
//! depends on what the rule does.
//!
//! Whether a rule acts is decided elsewhere, in the probes and by ptrace alike: [`aiotrace_common::fault`].

mod about;
mod complete;
mod glob;
mod mistake;
mod only;
mod piece;
mod rule;
mod value;
mod words;

pub use aiotrace_common::fault::{MOST_RULES, action, what};

pub use self::{
    complete::{complete_only, complete_rule},
    glob::{Callers, Glob},
    mistake::Mistake,
    only::Only,
    rule::{Acts, Rule},
};
