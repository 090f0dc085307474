//! What aiotrace may cost, and whether this run kept to it. A missed target is no failure: machines
//! differ.

use super::{table::Row, workload::Workload};

/// A line of the table.
struct Target {
    what: &'static str,
    wanted: String,
    measured: Option<String>,
    verdict: Verdict,
}

enum Verdict {
    Met,
    Missed,
    /// The rounds differ by more than the target.
    Noise,
}

impl Verdict {
    const fn of(is_met: bool) -> Self {
        if is_met { Self::Met } else { Self::Missed }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Noise => "lost in noise",
        }
    }
}

/// The table of all targets.
pub fn table(rows: &[Row]) -> String {
    let find = |workload: Workload, name: &str| {
        rows.iter().find(|it| it.workload == workload && it.tracer.name == name)
    };
    let ratio = |workload, name| find(workload, name).and_then(Row::ratio);
    let full = ratio(Workload::Pair, "aiotrace, text");
    let lost = find(Workload::Pair, "aiotrace, text").and_then(Row::lost);
    let dry = ratio(Workload::Pair, "aiotrace, text, --dry-run");
    let traced = |name| find(Workload::Pair, name).and_then(|it| it.median(|it| it.traced));
    let memory = rows
        .iter()
        .filter(|it| it.tracer.is_ours())
        .flat_map(|it| &it.samples)
        .filter_map(|it| it.cost.map(|it| it.memory))
        .reduce(f64::max);
    let most = |what, most: f64, unit: &str, measured: Option<f64>| Target {
        what,
        wanted: format!("<= {most}{unit}"),
        measured: measured.map(|it| format!("{it:.3}{unit}")),
        verdict: Verdict::of(measured.is_some_and(|it| it <= most)),
    };
    let targets = [
        most("pair, every call as text, of untraced", 2.3, "x", full),
        Target {
            what: "and events lost",
            wanted: "0".to_owned(),
            measured: lost.map(|it| it.to_string()),
            verdict: Verdict::of(lost == Some(0)),
        },
        most(
            "pair, counted only (-c), of untraced",
            1.75,
            "x",
            ratio(Workload::Pair, "aiotrace -c"),
        ),
        most(
            "pairs of another process, of untraced",
            1.4,
            "x",
            ratio(Workload::Other, "aiotrace, text"),
        ),
        most(
            "pair, a rule that never fires (--dry-run), on top of tracing",
            0.1,
            "x",
            dry.zip(full).map(|(dry, full)| dry - full),
        ),
        slower_disk(find(Workload::Disk, "aiotrace, text")),
        most(
            "pair, --source ptrace, of strace's time",
            0.8,
            "x",
            traced("aiotrace --source ptrace").zip(traced("strace")).map(|(us, it)| us / it),
        ),
        Target {
            what: "memory of aiotrace, without names of functions",
            wanted: "< 64 MiB".to_owned(),
            measured: memory.map(|it| format!("{it:.2} MiB")),
            verdict: Verdict::of(memory.is_some_and(|it| it < 64.0)),
        },
    ];
    let mut out = "| target | wanted | measured | in this run |\n|---|--:|--:|---|\n".to_owned();
    for target in targets {
        let (measured, met) = match &target.measured {
            None => ("-", "not measured"),
            Some(measured) => (measured.as_str(), target.verdict.name()),
        };
        out.push_str(&format!("| {} | {} | {measured} | {met} |\n", target.what, target.wanted));
    }
    out
}

/// The target for fio, shown with the quartiles of the rounds: the speed of a disk that others use
/// may vary by more than the target.
fn slower_disk(row: Option<&Row>) -> Target {
    const MOST: f64 = 2.0;
    let fewer = |ratio: f64| (1.0 - ratio) * 100.0;
    let samples = row.into_iter().flat_map(|it| &it.samples);
    let mut each: Vec<f64> = samples.map(|it| fewer(it.traced / it.untraced)).collect();
    each.sort_by(f64::total_cmp);
    let quartile = |number: usize| each.get(each.len() * number / 4).copied().unwrap_or_default();
    let (low, high) = (quartile(1), quartile(3));
    let median = row.and_then(Row::ratio).map(fewer);
    Target {
        what: "fio on a disk, every call as text, fewer IOPS",
        wanted: format!("<= {MOST} %"),
        measured: median.map(|it| format!("{it:.1} % ({low:.1} to {high:.1})")),
        verdict: match median {
            Some(_) if low <= MOST && high > MOST => Verdict::Noise,
            _ => Verdict::of(median.is_some_and(|it| it <= MOST)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{measure::Sample, tracer::TRACERS};

    #[test]
    fn targets_are_met_or_missed_or_not_measured() {
        let sample =
            Sample { untraced: 1000.0, traced: 2200.0, own: None, lost: Some(3), cost: None };
        let row = Row {
            workload: Workload::Pair,
            tracer: TRACERS.iter().find(|it| it.name == "aiotrace, text").expect("it is there"),
            samples: vec![sample],
            problem: None,
        };
        let table = table(&[row]);
        assert!(table.contains("of untraced | <= 2.3x | 2.200x | met |"), "{table}");
        assert!(table.contains("| and events lost | 0 | 3 | missed |"), "{table}");
        assert!(table.contains("(-c), of untraced | <= 1.75x | - | not measured |"), "{table}");
    }

    #[test]
    fn a_disk_that_differs_from_itself_says_nothing() {
        let tracer = TRACERS.iter().find(|it| it.name == "aiotrace, text").expect("it is there");
        let row = |traced: &[f64]| {
            let sample = |traced: &f64| Sample {
                untraced: 1000.0,
                traced: *traced,
                own: None,
                lost: Some(0),
                cost: None,
            };
            let samples = traced.iter().map(sample).collect();
            Row { workload: Workload::Disk, tracer, samples, problem: None }
        };
        let line = |traced: &[f64]| {
            let table = table(&[row(traced)]);
            table.lines().find(|it| it.contains("fio")).expect("a line").to_owned()
        };
        assert!(line(&[990.0, 995.0, 1010.0]).ends_with("| 0.5 % (-1.0 to 1.0) | met |"));
        assert!(line(&[970.0, 960.0]).ends_with("(3.0 to 4.0) | missed |"));
        assert!(
            line(&[970.0, 1200.0, 990.0]).ends_with("| 1.0 % (-20.0 to 3.0) | lost in noise |")
        );
    }

    #[test]
    fn the_tools_that_targets_are_about_are_there() {
        for name in [
            "aiotrace, text",
            "aiotrace -c",
            "aiotrace, text, --dry-run",
            "aiotrace --source ptrace",
            "strace",
        ] {
            let tracer = TRACERS.iter().find(|it| it.name == name).expect(name);
            assert!(tracer.on.contains(&Workload::Pair));
        }
    }
}
