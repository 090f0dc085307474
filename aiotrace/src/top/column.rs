//! The columns of the tables: their titles, what they show of a row, and how they sort.

use super::snapshot::{Flags, Numbers, Row};
use crate::{model::Severity, words::duration};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The process.
    Pid,
    /// Its name.
    Name,
    /// The context, or the descriptor.
    What,
    /// How many contexts it has.
    Contexts,
    /// What it takes from fs.aio-nr.
    Charge,
    /// The part of fs.aio-max-nr that it takes, in percent.
    Max,
    /// Requests accepted, per second.
    Requests,
    /// MB moved, per second.
    Megabytes,
    /// Requests in flight.
    InFlight,
    /// Unreaped completions.
    Unreaped,
    /// Half of its requests take no longer.
    P50,
    /// One in a hundred of its requests takes longer.
    P99,
    /// Errors, per second.
    Errors,
    /// Its findings.
    Findings,
    /// Completions reaped by io_getevents, per second.
    Reaped,
    /// io_submit that returned EAGAIN, per second.
    Eagain,
    /// How long its context that was not used for the longest time was not used.
    Idle,
    /// Its container or cgroup.
    Unit,
}

/// What a column needs besides the row.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The time in which [`Row::now`] or [`Row::all`] was counted, nanoseconds.
    pub length: u64,
    /// What was counted since the start is shown, as numbers instead of rates.
    pub is_sum: bool,
    /// Requests were counted, and not only contexts listed.
    pub counted: bool,
    /// fs.aio-max-nr, if it is known.
    pub most: Option<u64>,
}

/// What a row is sorted by.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Key {
    /// Unknown: behind what is known.
    Unknown,
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

use Column::*;

impl Column {
    /// All columns, in the order of the table.
    pub const ALL: [Self; 18] = [
        Pid, Name, What, Contexts, Charge, Max, Requests, Megabytes, InFlight, Unreaped, P50, P99,
        Errors, Findings, Reaped, Eagain, Idle, Unit,
    ];
    /// The columns of the table of processes that fit into 80 columns.
    pub const PROCESSES: [Self; 13] = [
        Pid, Name, Contexts, Charge, Max, Requests, Megabytes, InFlight, Unreaped, P50, P99,
        Errors, Findings,
    ];
    /// Those of contexts.
    pub const CONTEXTS: [Self; 11] =
        [Pid, Name, What, Charge, Requests, Megabytes, InFlight, Unreaped, P50, P99, Findings];
    /// Those of descriptors.
    pub const DESCRIPTORS: [Self; 8] = [Pid, Name, Requests, Megabytes, P50, P99, Errors, What];
    /// Those that are known where nothing is counted.
    pub const LISTED: [Self; 5] = [Pid, Name, Contexts, Unreaped, Unit];
    /// Those that are added where there is room.
    pub const WIDE: [Self; 4] = [Reaped, Eagain, Idle, Unit];

    /// The name by which `--sort` and `--columns` know it.
    pub fn name(self) -> &'static str {
        match self {
            Pid => "pid",
            Name => "name",
            What => "what",
            Contexts => "ctx",
            Charge => "charge",
            Max => "max",
            Requests => "req",
            Megabytes => "mb",
            InFlight => "infl",
            Unreaped => "unrp",
            P50 => "p50",
            P99 => "p99",
            Errors => "err",
            Findings => "f",
            Reaped => "reap",
            Eagain => "eagain",
            Idle => "idle",
            Unit => "unit",
        }
    }

    /// The column of this name.
    ///
    /// # Errors
    /// If there is none; the error names all.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no column is named {name:?}; the columns are {names}")
        })
    }

    /// Its title; `is_sum`: numbers since the start are shown, not rates.
    pub fn title(self, is_sum: bool) -> &'static str {
        match (self, is_sum) {
            (Pid, _) => "PID",
            (Name, _) => "NAME",
            (What, _) => "WHAT",
            (Contexts, _) => "CTX",
            (Charge, _) => "CHARGE",
            (Max, _) => "%MAX",
            (Requests, false) => "REQ/s",
            (Requests, true) => "REQS",
            (Megabytes, false) => "MB/s",
            (Megabytes, true) => "MB",
            (InFlight, _) => "INFL",
            (Unreaped, _) => "UNRP",
            (P50, _) => "p50",
            (P99, _) => "p99",
            (Errors, false) => "ERR/s",
            (Errors, true) => "ERRS",
            (Findings, _) => "F",
            (Reaped, false) => "REAP/s",
            (Reaped, true) => "REAPED",
            (Eagain, false) => "EAGAIN/s",
            (Eagain, true) => "EAGAIN",
            (Idle, _) => "IDLE",
            (Unit, _) => "UNIT",
        }
    }

    /// Its width.
    pub fn width(self) -> usize {
        match self {
            Pid => 7,
            Name => 12,
            What => 20,
            Contexts => 3,
            Charge | Requests | Reaped | Idle => 6,
            Max | InFlight | Unreaped => 4,
            Megabytes | P50 | P99 | Errors => 5,
            Findings => 2,
            Eagain => 8,
            Unit => 24,
        }
    }

    /// Whether it holds text, which begins on the left.
    pub fn is_text(self) -> bool {
        matches!(self, Name | What | Unit)
    }

    /// What it shows of a row.
    pub fn text(self, row: &Row, scale: Scale) -> String {
        let numbers = scale.numbers(row);
        let count = |it: Option<u64>| it.map_or_else(|| "?".to_owned(), |it| short(it as f64));
        let rate = |it: u64| match scale.counted {
            true => short(scale.rate(it as f64)),
            false => "?".to_owned(),
        };
        match self {
            Pid if row.pid == 0 => "-".to_owned(),
            Pid => row.pid.to_string(),
            Name => row.name.clone(),
            What => row.what.clone(),
            Contexts => count(row.contexts),
            Charge => row.charge.map_or_else(|| "?".to_owned(), charge),
            Max => scale.percent(row).map_or_else(|| "?".to_owned(), percent),
            Requests => rate(numbers.requests),
            Megabytes if numbers.bytes_unknown || !scale.counted => "?".to_owned(),
            Megabytes => short(scale.rate(numbers.bytes as f64) / 1e6),
            InFlight => count(row.in_flight),
            Unreaped => count(row.unreaped),
            P50 => quantile(row, numbers, 0.5),
            P99 => quantile(row, numbers, 0.99),
            Errors => rate(numbers.errors),
            Findings => flag(row.flags),
            Reaped => rate(numbers.reaped),
            Eagain => rate(numbers.eagain),
            Idle => row.idle.map_or_else(
                || "-".to_owned(),
                |it| format!("{}{}", if row.idle_at_least { ">" } else { "" }, time(it)),
            ),
            Unit => row.unit.clone().unwrap_or_else(|| "-".to_owned()),
        }
    }

    /// What it sorts by.
    pub fn key(self, row: &Row, scale: Scale) -> Key {
        let numbers = scale.numbers(row);
        let number = |it: Option<u64>| it.map_or(Key::Unknown, |it| Key::Number(it as f64));
        let known = |it: u64| Key::Number(it as f64);
        match self {
            Pid => known(row.pid.into()),
            Name => Key::Text(row.name.clone()),
            What => Key::Text(row.what.clone()),
            Unit => row.unit.clone().map_or(Key::Unknown, Key::Text),
            Contexts => number(row.contexts),
            Charge | Max => number(row.charge),
            Requests => known(numbers.requests),
            Megabytes => known(numbers.bytes),
            InFlight => number(row.in_flight),
            Unreaped => number(row.unreaped),
            P50 => number(latency(row, numbers, 0.5)),
            P99 => number(latency(row, numbers, 0.99)),
            Errors => known(numbers.errors),
            Eagain => known(numbers.eagain),
            Reaped => known(numbers.reaped),
            Idle => number(row.idle),
            Findings => Key::Number(match row.flags.worst() {
                None => 0.0,
                Some((Severity::Info, count)) => 1e-9 * count as f64,
                Some((Severity::Warning, count)) => count as f64,
                Some((Severity::Error, count)) => 1e9 * count as f64,
            }),
        }
    }
}

impl Scale {
    /// The numbers of a row that are shown.
    pub fn numbers(self, row: &Row) -> &Numbers {
        if self.is_sum { &row.all } else { &row.now }
    }

    /// A number per second, or the number itself.
    pub fn rate(self, number: f64) -> f64 {
        if self.is_sum { number } else { number * 1e9 / self.length.max(1) as f64 }
    }

    /// The part of fs.aio-max-nr that a row takes.
    pub fn percent(self, row: &Row) -> Option<f64> {
        let most = self.most.filter(|it| *it > 0)?;
        Some(row.charge? as f64 * 100.0 / most as f64)
    }
}

/// A charge: as exact as there is room.
fn charge(it: u64) -> String {
    if it < 1_000_000 { it.to_string() } else { short(it as f64) }
}

fn percent(it: f64) -> String {
    if it < 99.95 { format!("{it:.1}") } else { format!("{it:.0}") }
}

fn latency(row: &Row, numbers: &Numbers, part: f64) -> Option<u64> {
    let counted = (numbers.latency.count() > 0).then(|| numbers.latency.quantile(part));
    counted.or_else(|| row.since_start.map(|it| if part < 0.9 { it.0 } else { it.1 }))
}

fn quantile(row: &Row, numbers: &Numbers, part: f64) -> String {
    latency(row, numbers, part).map_or_else(|| "-".to_owned(), time)
}

/// The worst severity and how many findings have it: `E2`.
fn flag(flags: Flags) -> String {
    match flags.worst() {
        None => "-".to_owned(),
        Some((severity, count)) => {
            let letter = match severity {
                Severity::Error => "E",
                Severity::Warning => "W",
                Severity::Info => "i",
            };
            let count = if count > 9 { "+".to_owned() } else { count.to_string() };
            format!("{letter}{count}")
        }
    }
}

/// A time in five characters: `870ns`, `2.1ms`, `180us`, `12s`, `90m`.
pub fn time(nanos: u64) -> String {
    const MINUTE: u64 = 60_000_000_000;
    if nanos >= 6000 * MINUTE {
        return format!("{}h", nanos / (60 * MINUTE));
    }
    if nanos >= 10 * MINUTE {
        return format!("{}m", nanos / MINUTE);
    }
    let text = duration::in_words(nanos);
    let Some((whole, rest)) = text.split_once('.') else { return text };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, unit) = rest.split_at(digits);
    if whole.len() == 1 {
        format!("{whole}.{}{unit}", &fraction[..1])
    } else {
        format!("{whole}{unit}")
    }
}

/// A number in four characters: `0`, `0.5`, `900`, `8.1k`, `12k`, `1.2M`.
pub fn short(number: f64) -> String {
    if !number.is_finite() || number < 0.0 {
        return "?".to_owned();
    }
    if number > 0.0 && number < 0.05 {
        return "<0.1".to_owned();
    }
    if number < 9.95 && number.fract() >= 0.05 {
        return format!("{number:.1}");
    }
    let mut value = number;
    for unit in ["", "k", "M", "G", "T", "P", "E"] {
        if value < 999.5 {
            let is_small = value < 9.95 && !unit.is_empty();
            return format!("{value:.*}{unit}", usize::from(is_small));
        }
        value /= 1000.0;
    }
    "?".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::snapshot::Identity;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.01, "<0.1"),
            (0.5, "0.5"),
            (7.0, "7"),
            (900.4, "900"),
            (999.7, "1.0k"),
            (8123.0, "8.1k"),
            (12_345.0, "12k"),
            (123_456.0, "123k"),
            (1.25e6, "1.2M"),
            (f64::NAN, "?"),
            (f64::INFINITY, "?"),
            (1e300, "?"),
        ];
        for (number, text) in cases {
            assert_eq!(short(number), text, "{number}");
        }
        for power in 0..19 {
            let text = short(10f64.powi(power) * 0.9996);
            assert!(text.len() <= 4, "{text}");
        }
        let times = [999, 2_190_000, 12_345, 180_000, 61_000_000_000, 7_200_000_000_000, u64::MAX];
        let texts = ["999ns", "2.1ms", "12us", "180us", "61s", "120m", "5124095h"];
        assert_eq!(times.map(time), texts);
    }

    #[test]
    fn what_is_unknown_is_not_zero() {
        let row = Row::new(Identity::Process(7, 1), 7, "fio");
        let scale = Scale { length: 1_000_000_000, is_sum: false, counted: true, most: None };
        for column in [Contexts, Charge, Max, InFlight, Unreaped] {
            assert_eq!(column.text(&row, scale), "?", "{column:?}");
        }
        assert_eq!(P50.text(&row, scale), "-");
        assert!(Key::Unknown < Key::Number(0.0));
    }

    #[test]
    fn each_column_is_found_by_its_name() {
        for column in Column::ALL {
            assert_eq!(Column::parse(column.name()), Ok(column));
        }
        assert!(Column::parse("cpu").unwrap_err().contains("the columns are pid, name"));
    }
}
