//! The plan in words: what `--list` shows, how long it takes, and which faults have no place in it.

use std::{fmt::Write as _, time::Duration};

use super::{Settings, plan::Plan};
use crate::words::{duration::in_words, number::thousands};

/// The plan, for `--list`.
pub fn text(settings: &Settings, plan: &Plan) -> String {
    let mut text = String::new();
    let points = plan.shard(settings.shard);
    for site in &plan.baseline.sites {
        let unstable = if site.is_unstable { ", not in each run" } else { "" };
        let hits = thousands(site.hits);
        let _ = writeln!(text, "{} {} ({hits} calls{unstable})", site.id, site.name);
        for point in points.iter().filter(|it| it.site == site.id) {
            let (number, fault, mode) = (point.number, &point.fault, point.mode.text());
            let _ = writeln!(text, "  {number:03} {fault} {mode}: {}", point.rule);
        }
    }
    if plan.baseline.without_site > 0 {
        let calls = thousands(plan.baseline.without_site);
        let _ = writeln!(text, "{calls} calls have no known site, and get no fault");
    }
    text.push_str(&nowhere(settings, plan));
    let _ = writeln!(text, "{}", expected(settings, plan));
    text
}

/// How long the plan takes, as far as the baseline tells.
pub fn expected(settings: &Settings, plan: &Plan) -> String {
    let points = plan.shard(settings.shard).len() as u64;
    let each = plan.baseline.duration_ms;
    let words = |it: Duration| in_words(it.as_nanos() as u64);
    let all = Duration::from_millis(each * points / settings.jobs.max(1) as u64);
    format!(
        "{} points, at least {} (a run takes {}; what is bad is run twice, and what hangs is ended after {})",
        thousands(points),
        words(all),
        words(Duration::from_millis(each)),
        words(plan.baseline.timeout(settings))
    )
}

/// The faults that can happen nowhere in the program, a line each.
pub fn nowhere(settings: &Settings, plan: &Plan) -> String {
    let is_planned = |name: &str| plan.points.iter().any(|it| it.fault == name);
    let all = settings.faults.faults().filter(|it| !is_planned(it.name));
    all.map(|it| format!("{} has no place here: it needs {}\n", it.name, it.needs)).collect()
}

/// Why there is no point.
pub fn why_nothing(settings: &Settings, plan: &Plan) -> String {
    let mut text = String::from("none of the faults can happen in this program\n");
    let calls = plan.baseline.without_site;
    let what = match (plan.baseline.sites.is_empty(), calls) {
        (false, _) => {
            let names: Vec<&str> = plan.baseline.sites.iter().map(|it| it.name.as_str()).collect();
            format!("its AIO calls: {}\n", names.join(", "))
        }
        (true, 0) => "it made no AIO call (io_setup, io_submit, io_getevents ...)\n".to_owned(),
        (true, _) => format!(
            "it made {} AIO calls, and for none could be found where in the program: `aiotrace run --source ptrace \
             --stacks` shows what is known\n",
            thousands(calls)
        ),
    };
    text.push_str(&what);
    text.push_str(&nowhere(settings, plan));
    text
}
