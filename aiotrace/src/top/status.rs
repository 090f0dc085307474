//! The first two lines: the machine in one line, and how all this is known in another.

use super::{
    column::{Scale, short, time},
    snapshot::{Own, Snapshot},
};
use crate::words::number::thousands;

/// How a part of a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// As the rest.
    #[default]
    Plain,
    /// It may soon be a problem.
    Warning,
    /// It is a problem.
    Bad,
}

/// A part of a line. Where there is little room, the last parts are left out.
pub type Part = (String, Look);

/// How full fs.aio-nr is, in percent.
pub fn percent((used, most): (u64, u64)) -> Option<f64> {
    (most > 0).then(|| used as f64 * 100.0 / most as f64)
}

/// How a part of fs.aio-max-nr looks.
pub fn look(percent: f64) -> Look {
    match percent {
        95.0.. => Look::Bad,
        80.0.. => Look::Warning,
        _ => Look::Plain,
    }
}

/// The machine: fs.aio-nr, and all processes together.
pub fn machine(it: &Snapshot) -> Vec<Part> {
    let total = it.total();
    let scale = Scale { length: it.length, is_sum: false, counted: true, most: None };
    let rate = |number: u64| short(scale.rate(number as f64));
    let mut parts = Vec::new();
    match it.limit {
        Some(limit) => {
            let (used, most) = (thousands(limit.0), thousands(limit.1));
            let percent = percent(limit);
            let shown = percent.map_or_else(|| "-".to_owned(), |it| format!("{it:.0}%"));
            let look = percent.map(look).unwrap_or_default();
            parts.push((format!("fs.aio-nr {used} of {most} {shown}"), look));
        }
        None => parts.push(("fs.aio-nr unknown".to_owned(), Look::Plain)),
    }
    if it.counted {
        parts.push((format!("{} req/s", rate(total.requests)), Look::Plain));
        let at_least = if total.bytes_unknown { ">=" } else { "" };
        let bytes = short(scale.rate(total.bytes as f64) / 1e6);
        parts.push((format!("{at_least}{bytes} MB/s"), Look::Plain));
    }
    let in_flight = it.in_flight().map_or_else(|| "?".to_owned(), |it| short(it as f64));
    parts.push((format!("in flight {in_flight}"), Look::Plain));
    if it.counted {
        let look = if total.errors > 0 { Look::Warning } else { Look::Plain };
        parts.push((format!("errors {}/s", rate(total.errors)), look));
    }
    parts
}

/// How all this is known, and what that costs.
pub fn source(it: &Snapshot) -> Vec<Part> {
    let mut parts = vec![(it.source.clone(), Look::Plain)];
    if it.counted {
        parts.push(match it.lost {
            0 => ("none lost".to_owned(), Look::Plain),
            count => (format!("{} LOST", thousands(count)), Look::Bad),
        });
    }
    if it.every > it.asked {
        let text = format!("every {}, as looking takes long", time(it.every));
        parts.push((text, Look::Warning));
    } else {
        parts.push((format!("every {}", time(it.every)), Look::Plain));
    }
    if let Some(Own { cpu, memory, each_call }) = it.own {
        let memory = memory.div_ceil(1 << 20);
        parts.push((format!("aiotrace {cpu:.1}% CPU {memory} MiB"), Look::Plain));
        if let Some(nanos) = each_call {
            parts.push((format!("{} a call", time(nanos)), Look::Plain));
        }
    }
    parts
}

/// The parts in one line, as many as there is room for.
pub fn line(parts: &[Part], width: usize) -> String {
    let mut line = String::new();
    for (text, _) in parts {
        let separator = if line.is_empty() { "" } else { "  " };
        if line.len() + separator.len() + text.len() > width && !line.is_empty() {
            break;
        }
        line.push_str(separator);
        line.push_str(text);
    }
    line
}
