//! The table of a sweep: sites by faults, a letter for each outcome, and what is bad in detail.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Settings,
    journal::Told,
    outcome::Outcome,
    plan::{Mode, Plan, Point},
};
use crate::words::duration::in_words;

/// The most characters of a site's name.
const WIDEST: usize = 64;

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
pub fn text(settings: &Settings, plan: &Plan, told: &[&Told], wanted: &[&Point]) -> String {
    let mut text = grid(plan, told);
    let letters = Outcome::ALL.map(|it| format!("{} {}", it.letter(), it.text())).join("  ");
    let _ = writeln!(text, "{letters}  . does not apply\n");
    let is_told = |it: &&&Told| {
        settings.fail_on.contains(&it.outcome) || it.outcome == Outcome::Flaky && it.made > 0
    };
    for it in told.iter().filter(is_told) {
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
    let _ = writeln!(text, "{} of {} points: {counts}", told.len(), wanted.len());
    let _ = writeln!(
        text,
        "all of it is in {}: index.html, junit.xml, outcomes.jsonl",
        settings.output.display()
    );
    if told.len() < wanted.len() {
        let _ =
            writeln!(text, "go on with: aiotrace sweep --resume, and the same options and command");
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

fn grid(plan: &Plan, told: &[&Told]) -> String {
    let columns = columns(plan);
    let rows = rows(plan, told);
    let named: Vec<(String, &Row)> = rows
        .iter()
        .map(|row| {
            let times =
                if row.sites.len() > 1 { format!(" x {}", row.sites.len()) } else { String::new() };
            let name: String = row.name.chars().take(WIDEST).collect();
            (format!("{name}{times}"), row)
        })
        .collect();
    let wide = named.iter().map(|it| it.0.chars().count()).max().unwrap_or(0).max(4);
    let width = |(fault, mode): &Column| {
        let modes = columns.iter().filter(|it| it.0 == *fault).count();
        let least = if modes == 2 { fault.len().saturating_sub(7).max(6) } else { fault.len() };
        if *mode == Mode::Once && modes == 2 { 4 } else { least }
    };
    let mut text = format!("{:wide$}", "");
    let mut last = "";
    for column in &columns {
        let shown = if column.0 == last { "" } else { &column.0 };
        last = &column.0;
        let both = columns.iter().filter(|it| it.0 == column.0).count() == 2;
        match (shown.is_empty(), both) {
            (true, _) => (),
            (false, true) => {
                let second = (column.0.clone(), Mode::Always);
                let room = width(column) + 2 + width(&second);
                let _ = write!(text, "  {shown:room$}");
            }
            (false, false) => {
                let room = width(column);
                let _ = write!(text, "  {shown:room$}");
            }
        }
    }
    trim(&mut text);
    let _ = write!(text, "{:wide$}", "site");
    for column in &columns {
        let _ = write!(text, "  {:room$}", column.1.text(), room = width(column));
    }
    trim(&mut text);
    for (name, row) in &named {
        let _ = write!(text, "{name:wide$}");
        for (column, cell) in columns.iter().zip(&row.cells) {
            let _ = write!(text, "  {:room$}", cell, room = width(column));
        }
        trim(&mut text);
    }
    text
}

fn trim(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
}

/// The plan, for `--list`.
pub fn list(settings: &Settings, plan: &Plan) -> String {
    let mut text = String::new();
    let points = plan.shard(settings.shard);
    for site in &plan.baseline.sites {
        let unstable = if site.is_unstable { ", not in each run" } else { "" };
        let _ = writeln!(text, "{} {} ({} calls{unstable})", site.id, site.name, site.hits);
        for point in points.iter().filter(|it| it.site == site.id) {
            let _ = writeln!(
                text,
                "  {:03} {} {}: {}",
                point.number,
                point.fault,
                point.mode.text(),
                point.rule
            );
        }
    }
    if plan.baseline.without_site > 0 {
        let _ = writeln!(
            text,
            "{} calls have no known site, and get no fault",
            plan.baseline.without_site
        );
    }
    let _ = writeln!(text, "{}", expected(settings, plan));
    text
}

/// How long the plan takes, as far as the baseline tells.
pub fn expected(settings: &Settings, plan: &Plan) -> String {
    let points = plan.shard(settings.shard).len();
    let each = plan.baseline.duration_ms;
    let all = in_words(each * points as u64 / settings.jobs as u64 * 1_000_000);
    format!("{points} points, about {all} (a run takes {})", in_words(each * 1_000_000))
}
