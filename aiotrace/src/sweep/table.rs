//! The table of a sweep: sites by faults, a letter for each outcome, and what is bad in detail.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Settings, list,
    outcome::Outcome,
    plan::{Mode, Plan, Point},
    summary::Summary,
    told::Told,
};
use crate::words::number::thousands;

/// A column: a fault, and how often it is made.
pub type Column = (String, Mode);

/// The columns of the points, in the order of the plan's faults.
pub fn columns(plan: &Plan) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let known = super::fault::ALL.iter().map(|it| it.name);
    for name in known {
        for mode in [Mode::Once, Mode::Always] {
            if plan.points.iter().any(|it| it.fault == name && it.mode == mode) {
                columns.push((name.to_owned(), mode));
            }
        }
    }
    columns
}

/// A row: the name of its sites, how many they are, and a letter for each column.
pub struct Row {
    /// The name of the sites.
    pub name: String,
    /// Their ids.
    pub sites: Vec<String>,
    /// A letter for each column: `.` does not apply, a space was not tried.
    pub cells: Vec<char>,
}

/// The rows of the table. Sites with the same name and the same outcomes are one row.
pub fn rows(plan: &Plan, told: &[&Told]) -> Vec<Row> {
    let columns = columns(plan);
    let outcomes: BTreeMap<usize, Outcome> = told.iter().map(|it| (it.point, it.outcome)).collect();
    let mut rows: Vec<Row> = Vec::new();
    for site in &plan.baseline.sites {
        let cell = |(fault, mode): &Column| {
            let is_here =
                |it: &&Point| it.site == site.id && it.fault == *fault && it.mode == *mode;
            match plan.points.iter().find(is_here) {
                None => '.',
                Some(point) => outcomes.get(&point.number).map_or(' ', |it| it.letter()),
            }
        };
        let cells: Vec<char> = columns.iter().map(cell).collect();
        if cells.iter().all(|it| *it == '.') {
            continue;
        }
        match rows.iter_mut().find(|it| it.name == site.name && it.cells == cells) {
            Some(row) => row.sites.push(site.id.clone()),
            None => rows.push(Row { name: site.name.clone(), sites: vec![site.id.clone()], cells }),
        }
    }
    rows
}

/// The table, the bad outcomes, and a line that sums up.
pub fn text(settings: &Settings, plan: &Plan, summary: &Summary<'_>) -> String {
    let told = &summary.told;
    let mut text = grid(plan, told);
    let letters = Outcome::ALL.map(|it| format!("{} {}", it.letter(), it.text())).join("  ");
    let _ = writeln!(text, "{letters}  . does not apply\n");
    for it in told.iter().filter(|it| settings.is_shown(it)) {
        let Told { fault, mode, name, outcome, .. } = it;
        let (letter, mode) = (outcome.letter(), mode.text());
        let _ = writeln!(text, "{letter} {fault} {mode} at {name}: {}", outcome.text());
        let _ = writeln!(text, "  {}", it.evidence);
        let _ = writeln!(text, "  {}", it.reproducer);
        let files = [Some(&it.log), it.recording.as_ref()];
        let files: Vec<_> = files.into_iter().flatten().map(String::as_str).collect();
        let _ = writeln!(text, "  {}\n", files.join("  "));
    }
    let counts = counts(told);
    let [tried, all] = [told.len(), summary.wanted].map(|it| thousands(it as u64));
    let _ = writeln!(text, "{tried} of {all} points: {counts}");
    text.push_str(&list::nowhere(settings, plan));
    let _ = writeln!(
        text,
        "all of it is in {}: index.html, junit.xml, outcomes.jsonl",
        settings.output.display()
    );
    text.push_str(&open(plan, summary));
    text
}

/// What is not known yet, a line each.
pub fn open(plan: &Plan, summary: &Summary<'_>) -> String {
    let mut text = String::new();
    for it in &summary.gone {
        let Told { fault, mode, name, outcome, .. } = it;
        let (mode, outcome) = (mode.text(), outcome.text());
        let _ = writeln!(text, "not made any more: {fault} {mode} at {name}, which was {outcome}");
    }
    if !summary.gone.is_empty() {
        text.push_str(
            "whether these are repaired is not known: their sites may have other names now; make a new sweep\n",
        );
    }
    for it in &summary.suspected {
        let (fault, mode, name) = (&it.fault, it.mode.text(), plan.name(it));
        let _ = writeln!(text, "bad in one run, and not run again yet: {fault} {mode} at {name}");
    }
    if summary.told.len() < summary.wanted {
        let left = thousands((summary.wanted - summary.told.len()) as u64);
        let _ = writeln!(
            text,
            "{left} points have no outcome; go on with: aiotrace sweep --resume, and the same options and command"
        );
    }
    text
}

/// `2 lost, 5 recovered`
pub fn counts(told: &[&Told]) -> String {
    let count = |outcome| told.iter().filter(|it| it.outcome == outcome).count();
    let all = Outcome::ALL.into_iter().map(|it| (it, count(it))).filter(|it| it.1 > 0);
    let all: Vec<_> = all.map(|(it, count)| format!("{count} {}", it.text())).collect();
    if all.is_empty() { "nothing was tried".to_owned() } else { all.join(", ") }
}

/// The letters, each below its fault; the names of the sites stand last, as they may be long.
fn grid(plan: &Plan, told: &[&Told]) -> String {
    let columns = columns(plan);
    let mut faults = String::new();
    let mut modes = String::new();
    let mut places = Vec::new();
    for group in columns.chunk_by(|a, b| a.0 == b.0) {
        let start = modes.len();
        for (_, mode) in group {
            places.push(modes.len());
            let _ = write!(modes, "{}  ", mode.text());
        }
        let _ = write!(faults, "{:room$}", "", room = start.saturating_sub(faults.len()));
        let _ = write!(faults, "{}  ", group[0].0);
        let room = faults.len().saturating_sub(modes.len());
        let _ = write!(modes, "{:room$}", "");
    }
    let end = modes.len();
    let mut text = faults;
    trim(&mut text);
    let _ = writeln!(text, "{modes}site");
    for row in rows(plan, told) {
        let mut line = String::new();
        for (place, cell) in places.iter().zip(&row.cells) {
            let _ = write!(line, "{:room$}{cell}", "", room = place - line.len());
        }
        let times = match row.sites.len() {
            1 => String::new(),
            count => format!(" x {count}"),
        };
        let _ = writeln!(text, "{line:end$}{}{times}", row.name);
    }
    text
}

fn trim(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{baseline::Baseline, observed::Site};

    #[test]
    fn letters_stand_below_their_faults_and_names_are_whole() {
        let site = |id: &str, call: &str, name: &str| Site {
            id: id.into(),
            call: call.into(),
            name: name.into(),
            most_requests: if call == "io_submit" { 2 } else { 0 },
            ..Site::default()
        };
        let long = "f".repeat(200);
        let sites = vec![
            site("0000000a", "io_setup", "io_setup from main"),
            site("0000000b", "io_submit", &long),
            site("0000000c", "io_submit", &long),
        ];
        let baseline = Baseline { sites, ..Baseline::default() };
        let settings = Settings { modes: vec![Mode::Once, Mode::Always], ..Settings::default() };
        let plan = Plan::make(&settings, baseline).unwrap();
        let shown = grid(&plan, &[]);
        let tried = plan.points.iter().map(|it| Told::of(it, Outcome::Recovered));
        let tried: Vec<Told> = tried.collect();
        let shown_at_end = grid(&plan, &tried.iter().collect::<Vec<_>>());
        assert_eq!(
            shown.lines().take(2).collect::<Vec<_>>(),
            ["EAGAIN        accept=1", "once  always  once  always  site"]
        );
        let rows: Vec<&str> = shown_at_end.lines().skip(2).collect();
        assert_eq!(rows[0], "R     R       .     .       io_setup from main");
        assert_eq!(rows[1], format!("R     R       R     R       {long} x 2"));
        assert_eq!(rows.len(), 2);
    }
}
