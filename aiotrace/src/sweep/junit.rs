//! JUnit, which each CI reads: a suite for each call, a case for each fault at a site.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{
    Settings,
    outcome::Outcome,
    plan::{Plan, Point},
    reproduce::from_anywhere,
    summary::Summary,
    told::Told,
};
use crate::{failure::Result, output::junit::serialized};

/// The document.
pub fn document(settings: &Settings, plan: &Plan, summary: &Summary<'_>) -> Result<Vec<u8>> {
    let mut report = Report::new("aiotrace sweep");
    for call in ["io_setup", "io_submit", "io_getevents", "io_cancel", "io_destroy"] {
        let mut suite = TestSuite::new(call);
        let is_of = |id: &str| plan.site(id).is_some_and(|site| site.call == call);
        for it in summary.told.iter().filter(|it| is_of(&it.site)) {
            suite.add_test_case(case(settings, plan, it));
        }
        let suspected = summary.suspected.iter().map(|it| (it, "seen once, to be run again"));
        let untried = summary.untried.iter().map(|it| (it, "not tried"));
        for (point, why) in suspected.chain(untried).filter(|it| is_of(&it.0.site)) {
            suite.add_test_case(skipped(plan, point, why));
        }
        if suite.tests > 0 {
            report.add_test_suite(suite);
        }
    }
    serialized(&report)
}

fn case(settings: &Settings, plan: &Plan, it: &Told) -> TestCase {
    let status = match it.outcome {
        bad if settings.is_bad(bad) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(bad.text()).set_message(&it.evidence);
            status
        }
        Outcome::Reported | Outcome::Recovered => TestCaseStatus::success(),
        other => {
            let mut status = TestCaseStatus::skipped();
            status.set_type(other.text()).set_message(&it.evidence);
            status
        }
    };
    let mut case = TestCase::new(format!("{}: {} {}", it.name, it.fault, it.mode.text()), status);
    case.set_classname(format!("site {}", it.site));
    case.set_time(Duration::from_millis(it.duration_ms));
    case.set_system_out(from_anywhere(&plan.asked.directory, &it.reproducer));
    case
}

/// A point without an outcome.
fn skipped(plan: &Plan, point: &Point, why: &str) -> TestCase {
    let mut status = TestCaseStatus::skipped();
    status.set_type(why);
    let name = format!("{}: {} {}", plan.name(point), point.fault, point.mode.text());
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("site {}", point.site));
    case
}
