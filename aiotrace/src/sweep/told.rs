//! What is told of a point: a line of `outcomes.jsonl`, whose fields docs/reference/sweep.md describes.

use std::borrow::Borrow;

use serde::{Deserialize, Serialize};

use super::{next::Seen, outcome::Outcome, plan::Mode};
use crate::failure::Result;

/// What came of one point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The version of the format: 1.
    pub v: u32,
    /// The number of the point in the plan, from 1.
    pub point: usize,
    /// The id of the call site.
    pub site: String,
    /// Its name, for people.
    pub name: String,
    /// The name of the fault.
    pub fault: String,
    /// `once` or `always`.
    pub mode: Mode,
    /// What came of it.
    pub outcome: Outcome,
    /// What shows it, in words.
    pub evidence: String,
    /// The status of the program: 128 plus the signal, if one ended it; 124 if it took too long.
    pub status: i32,
    /// Whether the check passed; null without one.
    pub check: Option<bool>,
    /// Faults that were made.
    pub made: u64,
    /// How long the run took.
    pub duration_ms: u64,
    /// A command that makes the same fault.
    pub reproducer: String,
    /// What the program wrote; relative to the directory of the sweep.
    pub log: String,
    /// The recording, for `aiotrace report`; null if the run was not bad.
    pub recording: Option<String>,
}

/// One run of a point that had to be run again: a line of `runs.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The run showed enough for its outcome.
    pub sure: bool,
    /// No other run went on at the same time.
    pub alone: bool,
    /// What would be told if this run were all.
    #[serde(flatten)]
    pub told: Told,
}

impl Run {
    /// As [`next`](super::next::next) looks at it.
    pub fn seen(&self) -> Seen {
        Seen { outcome: self.told.outcome, sure: self.sure, alone: self.alone }
    }
}

/// As JSON lines.
pub fn lines<T: Serialize, B: Borrow<T>>(all: &[B]) -> Result<String> {
    let mut text = String::new();
    for it in all {
        text.push_str(&serde_json::to_string(it.borrow())?);
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
impl Told {
    /// With this outcome, and nothing else.
    pub fn of(point: &super::plan::Point, outcome: Outcome) -> Self {
        Self {
            v: 1,
            point: point.number,
            site: point.site.clone(),
            name: String::new(),
            fault: point.fault.clone(),
            mode: point.mode,
            outcome,
            evidence: String::new(),
            status: 0,
            check: None,
            made: 1,
            duration_ms: 0,
            reproducer: String::new(),
            log: String::new(),
            recording: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::plan::Point;

    fn told() -> Told {
        let (site, fault) = ("0000000a".to_owned(), "EAGAIN".to_owned());
        let point = Point { number: 7, site, fault, mode: Mode::Once, rule: String::new() };
        Told::of(&point, Outcome::Lost)
    }

    #[test]
    fn a_run_is_read_again_as_it_was_written() {
        let run = Run { sure: true, alone: false, told: told() };
        let text = lines::<Run, _>(&[&run]).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    }

    /// The table of the manual has these fields, in this order.
    #[test]
    fn the_fields_are_those_of_the_documentation() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/sweep.md");
        let text = std::fs::read_to_string(path).unwrap();
        let section = text.split("\n## ").find(|it| it.starts_with("outcomes.jsonl")).unwrap();
        let rows = section.lines().filter_map(|it| it.strip_prefix("| `"));
        let documented: Vec<&str> = rows.filter_map(|it| it.split('`').next()).collect();
        let text = lines::<Told, _>(&[&told()]).unwrap();
        let mut at = 0;
        for field in &documented {
            let found = text.find(&format!("\"{field}\":"));
            assert!(found >= Some(at), "{field} in {text}");
            at = found.unwrap();
        }
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(documented.len(), value.as_object().unwrap().len(), "{documented:?}");
        let outcomes = section.lines().find(|it| it.starts_with("| `outcome`")).unwrap();
        for it in Outcome::ALL {
            assert!(outcomes.contains(&serde_json::to_string(&it).unwrap().replace('"', "`")));
        }
    }
}
