//! What shows an outcome, in words.

use std::time::Duration;

use super::{
    told::Run,
    trial::{Done, LATE_CHECK},
};
use crate::words::{duration::in_words, number::thousands};

/// What a run showed. `undestroyed`: contexts that are left without a fault; `timeout`: how long a run may take.
pub fn of_run(done: &Done, undestroyed: u64, timeout: Duration) -> String {
    let Done { ended, observed, .. } = done;
    let mut parts: Vec<String> = observed.messages.clone();
    if let Some(why) = observed.why.as_ref().filter(|_| observed.verdicts_of("unsure") > 0) {
        parts.push(format!("unsure: {why}"));
    }
    if observed.unseen > 0 {
        parts.push("aiotrace did not see all of it".to_owned());
    }
    if let Some(lasted) = observed.lasted() {
        let (made, lasted) = (thousands(observed.made), in_words(lasted));
        parts.push(format!("the last of {made} faults came {lasted} after the first"));
    }
    if observed.is_whole && observed.made + observed.missed == 0 {
        parts.push("the fault was not made".to_owned());
    }
    parts.push(match ended.timed_out {
        true => format!("it did not end within {}", in_words(timeout.as_nanos() as u64)),
        false => format!("status {}", ended.status),
    });
    if observed.undestroyed > undestroyed && !ended.timed_out {
        let left = observed.undestroyed;
        parts.push(format!("contexts not destroyed: {left}, without the fault {undestroyed}"));
    }
    parts.extend(ended.sanitizer.clone());
    parts.extend(match ended.check {
        _ if ended.is_check_late => Some(LATE_CHECK.to_owned()),
        Some(true) => Some("check passed".to_owned()),
        Some(false) => Some("check failed".to_owned()),
        None => None,
    });
    if !observed.is_whole {
        parts.push("the trace has no end".to_owned());
    }
    parts.join("; ")
}

/// What shows that an outcome is another one each time: `first lost, then recovered`, and the run that was bad.
pub fn of_flaky(runs: &[Run], bad: &Run) -> String {
    let outcomes: Vec<&str> = runs.iter().map(|it| it.told.outcome.text()).collect();
    let outcome = bad.told.outcome.text();
    format!("first {}; when it was {outcome}: {}", outcomes.join(", then "), bad.told.evidence)
}
