//! JUnit, which each CI reads: a suite for each call, a case for each fault at a site.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{journal::Told, outcome::Outcome, plan::Plan};
use crate::failure::Result;

/// The document.
pub fn document(plan: &Plan, told: &[&Told]) -> Result<Vec<u8>> {
    let mut report = Report::new("aiotrace sweep");
    for call in ["io_setup", "io_submit", "io_getevents", "io_cancel", "io_destroy"] {
        let mut suite = TestSuite::new(call);
        let is_of = |it: &&&Told| plan.site(&it.site).is_some_and(|site| site.call == call);
        for it in told.iter().filter(is_of) {
            suite.add_test_case(case(it));
        }
        if suite.tests > 0 {
            report.add_test_suite(suite);
        }
    }
    let mut bytes = Vec::new();
    report.serialize(&mut bytes)?;
    Ok(bytes)
}

fn case(it: &Told) -> TestCase {
    let status = match it.outcome {
        Outcome::Reported | Outcome::Recovered => TestCaseStatus::success(),
        bad if bad.is_bad() => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(bad.text()).set_message(&it.evidence);
            status
        }
        other => {
            let mut status = TestCaseStatus::skipped();
            status.set_type(other.text()).set_message(&it.evidence);
            status
        }
    };
    let mut case = TestCase::new(format!("{}: {} {}", it.name, it.fault, it.mode.text()), status);
    case.set_classname(format!("site {}", it.site));
    case.set_time(Duration::from_millis(it.duration_ms));
    case.set_system_out(&it.reproducer);
    case
}
