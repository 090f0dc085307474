//! JUnit of a trace with faults, which each CI reads: a case for each kind of fault, and for each rule that never acted.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::{
    failure::Result,
    model::{FaultRow, Outcome, RuleRow},
};

/// What became of the faults of a trace.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The faults, by rule, call and what the program was given.
    pub rows: Vec<FaultRow>,
    /// The rules, also those that never acted.
    pub rules: Vec<RuleRow>,
}

/// When a case fails.
#[derive(Clone, Debug)]
pub struct Fails {
    /// If a verdict is one of these.
    pub on: Vec<Outcome>,
    /// If a rule never acted; else it is skipped.
    pub unfired: bool,
}

impl Fails {
    /// What fails without `--fail-on-fault`.
    pub const USUAL: [Outcome; 4] = [Outcome::Lost, Outcome::Leaked, Outcome::Hung, Outcome::Died];
}

/// The document. `program`: the command; `took`: how long it ran.
pub fn document(program: &str, faults: &Faults, fails: &Fails, took: Duration) -> Result<Vec<u8>> {
    let mut suite = TestSuite::new(program);
    suite.set_time(took);
    for row in &faults.rows {
        let text = faults.rules.iter().find(|it| it.rule == row.rule).map(|it| it.text.as_str());
        let mut case = TestCase::new(row.cause.with(row.ret), status(row, fails));
        case.set_classname(format!("rule {} {}", row.rule, text.unwrap_or_default()));
        case.set_time(took).set_system_out(row.in_words());
        suite.add_test_case(case);
    }
    for rule in faults.rules.iter().filter(|it| it.acted == 0) {
        let mut status = match fails.unfired {
            true => TestCaseStatus::non_success(NonSuccessKind::Failure),
            false => TestCaseStatus::skipped(),
        };
        status.set_type("never acted").set_message(rule.in_words());
        let mut case = TestCase::new("never acted", status);
        case.set_classname(format!("rule {} {}", rule.rule, rule.text)).set_time(took);
        suite.add_test_case(case);
    }
    let mut report = Report::new("aiotrace run");
    report.set_time(took).add_test_suite(suite);
    serialized(&report)
}

/// The document as the schema of Jenkins (junit-10.xsd) has it: how many cases were skipped stands in each suite, and
/// nowhere else.
pub fn serialized(report: &Report) -> Result<Vec<u8>> {
    let text = report.to_string()?;
    let Some((before, rest)) = text.split_once("<testsuites ") else { return Ok(text.into()) };
    let Some((attributes, rest)) = rest.split_once('>') else { return Ok(text.into()) };
    let kept: Vec<&str> =
        attributes.split("\" ").filter(|it| !it.starts_with("skipped=")).collect();
    Ok(format!("{before}<testsuites {}>{rest}", kept.join("\" ")).into())
}

fn status(row: &FaultRow, fails: &Fails) -> TestCaseStatus {
    let bad: Vec<&str> = row
        .outcomes
        .iter()
        .filter(|(outcome, count)| *count > 0 && fails.on.contains(outcome))
        .map(|(outcome, _)| outcome.text())
        .collect();
    let is_unknown = row.made == 0
        || row.outcomes.iter().any(|it| matches!(it.0, Outcome::Unsure | Outcome::Undecided));
    let (mut status, kind) = match (bad.is_empty(), is_unknown) {
        (false, _) => (TestCaseStatus::non_success(NonSuccessKind::Failure), bad.join(", ")),
        (true, true) => (TestCaseStatus::skipped(), "unsure".to_owned()),
        (true, false) => return TestCaseStatus::success(),
    };
    status.set_type(kind).set_message(row.in_words());
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Syscall, model::Cause};

    fn row(outcome: Outcome) -> FaultRow {
        let mut row = FaultRow::new(1, Cause::Call(Syscall::Submit), Some(-11));
        (row.made, row.outcomes) = (1, vec![(outcome, 1)]);
        row
    }

    #[test]
    fn a_case_fails_by_its_verdict_and_a_rule_that_never_acted_is_no_success() {
        let rule = |acted| RuleRow {
            rule: 1,
            text: "io_submit:error=EAGAIN:when=3".to_owned(),
            asked: 7,
            described: 7,
            acted,
            why: None,
        };
        let of = |rows: Vec<FaultRow>, acted, unfired| {
            let faults = Faults { rows, rules: vec![rule(acted)] };
            let fails = Fails { on: Fails::USUAL.into(), unfired };
            let bytes = document("db <1>", &faults, &fails, Duration::from_secs(1)).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let lost = of(vec![row(Outcome::Lost)], 1, false);
        assert!(
            lost.contains(r#"name="io_submit EAGAIN""#) && lost.contains(r#"type="lost""#),
            "{lost}"
        );
        assert!(lost.contains(r#"failures="1""#) && lost.contains("db &lt;1"), "{lost}");
        let head =
            r#"<testsuites name="aiotrace run" tests="1" failures="1" errors="0" time="1.000">"#;
        assert!(lost.contains(head), "{lost}");
        let retried = of(vec![row(Outcome::Retried)], 1, true);
        assert!(!retried.contains("<failure") && !retried.contains("<skipped"), "{retried}");
        assert!(of(vec![row(Outcome::Unsure)], 1, true).contains("<skipped"));
        let never = of(Vec::new(), 0, false);
        assert!(
            never.contains("<skipped") && never.contains("never acted: asked about 7"),
            "{never}"
        );
        assert!(of(Vec::new(), 0, true).contains("<failure"));
    }
}
