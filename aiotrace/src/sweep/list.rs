//! The plan in words: what `--list` shows, how long it takes, and which faults have no place in it.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{Mode, Settings, plan::Plan, told::lines};
use crate::{
    failure::Result,
    words::{duration::in_words, number::thousands},
};

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

/// A point that is planned: a line of `--list --format json`, with fields of `outcomes.jsonl` and the rule.
#[derive(Serialize)]
struct Planned<'a> {
    v: u32,
    point: usize,
    site: &'a str,
    name: &'a str,
    fault: &'a str,
    mode: Mode,
    rule: &'a str,
}

/// The plan, for `--list --format json`.
pub fn json(settings: &Settings, plan: &Plan) -> Result<String> {
    let points = plan.shard(settings.shard);
    let planned: Vec<_> = points
        .iter()
        .map(|it| Planned {
            v: 1,
            point: it.number,
            site: &it.site,
            name: plan.name(it),
            fault: &it.fault,
            mode: it.mode,
            rule: &it.rule,
        })
        .collect();
    lines::<Planned<'_>, _>(&planned)
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

/// The faults that are made nowhere in the program, a line each.
pub fn nowhere(settings: &Settings, plan: &Plan) -> String {
    let is_planned = |name: &str| plan.points.iter().any(|it| it.fault == name);
    let mut text = String::new();
    for fault in settings.faults.faults().filter(|it| !is_planned(it.name)) {
        let (name, needs) = (fault.name, fault.needs);
        let _ = match settings.modes.iter().any(|it| settings.faults.has(fault, *it)) {
            true => writeln!(text, "{name} has no place here: it needs {needs}"),
            false => writeln!(text, "{name} is made only once, unless --faults names it"),
        };
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{baseline::Baseline, observed::Site};

    fn plan(settings: &Settings) -> Plan {
        let (id, call) = ("0000000a".to_owned(), "io_getevents".to_owned());
        let site = Site { id, call, name: "io_getevents from reap".into(), ..Site::default() };
        Plan::make(settings, Baseline { sites: vec![site], ..Baseline::default() }).unwrap()
    }

    #[test]
    fn a_list_in_json_has_a_line_for_each_point_and_no_prose() {
        let settings = Settings { modes: vec![Mode::Once], ..Settings::default() };
        let text = json(&settings, &plan(&settings)).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        let rule = "io_getevents,io_pgetevents:error=EINTR:site=0000000a:max=1";
        assert_eq!((&lines[0]["fault"], &lines[0]["rule"]), (&"EINTR".into(), &rule.into()));
    }

    #[test]
    fn why_a_fault_is_not_made_is_said() {
        let settings = Settings { modes: vec![Mode::Always], ..Settings::default() };
        let text = nowhere(&settings, &plan(&settings));
        assert!(text.contains("EINTR is made only once, unless --faults names it"), "{text}");
        assert!(text.contains("short has no place here: it needs a read or write"), "{text}");
    }
}
