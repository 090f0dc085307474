//! What aiotrace's cost is to be, and whether it was so in this run. Nothing fails by that: machines differ.

use super::{table::Row, workload::Workload};

/// A line of the table.
struct Target {
    what: &'static str,
    wanted: String,
    measured: Option<String>,
    is_met: bool,
}

/// The table.
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
        measured: measured.map(|it| format!("{it:.2}{unit}")),
        is_met: measured.is_some_and(|it| it <= most),
    };
    let targets = [
        most("pair, every call as text, of untraced", 2.3, "x", full),
        Target {
            what: "and events lost",
            wanted: "0".to_owned(),
            measured: lost.map(|it| it.to_string()),
            is_met: lost == Some(0),
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
        most(
            "fio on a disk, every call as text, fewer IOPS",
            2.0,
            " %",
            ratio(Workload::Disk, "aiotrace, text").map(|it| (1.0 - it) * 100.0),
        ),
        most(
            "pair, --source ptrace, of strace's time",
            0.8,
            "x",
            traced("aiotrace --source ptrace").zip(traced("strace")).map(|(us, it)| us / it),
        ),
        Target {
            what: "memory of aiotrace, without names of functions",
            wanted: "< 64 MiB".to_owned(),
            measured: memory.map(|it| format!("{it:.0} MiB")),
            is_met: memory.is_some_and(|it| it < 64.0),
        },
    ];
    let mut out = "| target | wanted | measured | in this run |\n|---|--:|--:|---|\n".to_owned();
    for target in targets {
        let (measured, met) = match (&target.measured, target.is_met) {
            (None, _) => ("-", "not measured"),
            (Some(measured), true) => (measured.as_str(), "met"),
            (Some(measured), false) => (measured.as_str(), "missed"),
        };
        out.push_str(&format!("| {} | {} | {measured} | {met} |\n", target.what, target.wanted));
    }
    out
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
        assert!(table.contains("of untraced | <= 2.3x | 2.20x | met |"), "{table}");
        assert!(table.contains("| and events lost | 0 | 3 | missed |"), "{table}");
        assert!(table.contains("(-c), of untraced | <= 1.75x | - | not measured |"), "{table}");
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
