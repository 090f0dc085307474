//! The tables and their columns. docs/reference/parquet.md has them from here.

/// What a column holds. Every value may be null, which stands for unknown, or for what there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8, escaped as in JSON.
    Text,
    /// A signed number of 64 bits.
    Number,
    /// An unsigned number of 64 bits.
    Unsigned,
    /// Nanoseconds since 1970 UTC.
    Time,
    /// Yes or no.
    Bool,
}

impl Kind {
    /// How the schema of Parquet writes it.
    pub fn schema(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("BYTE_ARRAY", " (UTF8)"),
            Self::Number => ("INT64", ""),
            Self::Unsigned => ("INT64", " (INTEGER(64,false))"),
            Self::Time => ("INT64", " (TIMESTAMP(NANOS,true))"),
            Self::Bool => ("BOOLEAN", ""),
        }
    }

    /// The word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Unsigned => "unsigned number",
            Self::Time => "time",
            Self::Bool => "boolean",
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it says.
    pub about: &'static str,
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name, which is that of its directory.
    pub name: &'static str,
    /// What a row is.
    pub about: &'static str,
    /// Its columns, behind those that all tables have.
    pub columns: &'static [Column],
}

const fn column(name: &'static str, kind: Kind, about: &'static str) -> Column {
    Column { name, kind, about }
}

use Kind::{Bool, Number, Text, Time, Unsigned};

/// The first columns of every table.
pub const FIRST: &[Column] = &[
    column("host", Text, "the name of the machine; `unknown` if the recording has none"),
    column("boot_id", Text, "the run of the machine: the same until it boots again"),
    column(
        "recording",
        Text,
        "the recording, by the beginning of `boot_id` and the time when it began: the same in all tables",
    ),
];

/// Who a process is: the columns of the tables that name one.
const PID: Column = column("pid", Number, "the process");
const PROCESS: Column = column("process", Text, "its name");
const UNIT: Column = column("unit", Text, "its systemd unit");
const CONTAINER: Column =
    column("container", Text, "its container: the name, or the beginning of the id");
const POD: Column = column("pod", Text, "its pod, `NAMESPACE/POD`");
const CONTEXT: Column = column("context", Text, "the context's handle");

/// What a row of the table of calls is.
pub const CALLS: Table = Table {
    name: "calls",
    about: "A call that returned.",
    columns: &[
        PID,
        PROCESS,
        UNIT,
        CONTAINER,
        POD,
        column("tid", Number, "the thread"),
        CONTEXT,
        column("call", Text, "its name"),
        column("entered", Time, "when it was entered; null if that was not seen"),
        column("returned", Time, "when it returned"),
        column("duration_ns", Number, "the time between"),
        column(
            "nr",
            Number,
            "requests asked for (io_setup), given (io_submit), or events there is room for (io_getevents)",
        ),
        column("ret", Number, "what it returned; negative: an errno"),
        column("errno", Text, "the name of the errno in `ret`"),
        column("rule", Number, "the fault rule that acted on it"),
    ],
};

/// What a row of the table of requests is.
pub const REQUESTS: Table = Table {
    name: "requests",
    about: "A request that was submitted, and what became of it.",
    columns: &[
        PID,
        PROCESS,
        UNIT,
        CONTAINER,
        POD,
        CONTEXT,
        column("op", Text, "the operation; null if the iocb could not be read"),
        column("fd", Number, "the descriptor"),
        column("path", Text, "what the descriptor led to when it was looked up, a moment later"),
        column("offset", Number, "the offset in the file, as the program gave it"),
        column("nbytes", Unsigned, "bytes, or the number of iovecs, as the program gave it"),
        column("submitted", Time, "when its io_submit was entered"),
        column("completed", Time, "when it completed, or was seen to have"),
        column(
            "completed_after",
            Time,
            "`completed` is a bound: it completed after this time; 1970 if not even that is known",
        ),
        column("latency_ns", Number, "from `submitted` to `completed`"),
        column("reaped", Time, "when it was reaped, or its end was seen"),
        column(
            "end",
            Text,
            "`reaped` by io_getevents, `ring`: by the program itself, at this time or before, `destroyed`, `exit`, `exec`: its context ended, `refused` by io_submit, `open`: the trace ended before",
        ),
        column("res", Number, "its result; negative: an errno"),
        column("errno", Text, "the name of the errno in `res`"),
        column("rule", Number, "the fault rule that changed its result"),
    ],
};

/// What a row of the table of contexts is.
pub const CONTEXTS: Table = Table {
    name: "contexts",
    about: "A context, as in the report: 256 for each recording, and the others as one.",
    columns: &[
        PID,
        PROCESS,
        UNIT,
        CONTAINER,
        POD,
        CONTEXT,
        column("contexts", Number, "how many contexts the row stands for"),
        column("adopted", Bool, "it existed before the trace"),
        column("asked", Number, "its charge: what io_setup was asked for"),
        column("lifetime_ns", Number, "from when it became known to its end"),
        column("end", Text, "`destroyed`, `exit`, `exec`, `leaked`, `several`; null: it was alive"),
        column("requests", Number, "requests that completed"),
        column("bytes", Number, "the bytes that they moved"),
        column("failed", Number, "how many had an errno"),
        column("peak_in_flight", Number, "the most in flight at a time"),
        column("in_flight", Number, "in flight at the end"),
        column("unreaped", Number, "completions that were not reaped; null: unknown"),
        column(
            "p50_ns",
            Number,
            "half of the requests completed in this time; null where times are no exact ones",
        ),
        column("p99_ns", Number, "99 in 100 did"),
        column("max_ns", Number, "all did"),
        column("sure", Bool, "nothing about it was lost"),
    ],
};

/// What a row of the table of findings is.
pub const FINDINGS: Table = Table {
    name: "findings",
    about: "A finding of the report.",
    columns: &[
        PID,
        PROCESS,
        UNIT,
        CONTAINER,
        POD,
        CONTEXT,
        column("name", Text, "its name"),
        column("severity", Text, "`error`, `warning`, `info`"),
        column("unsure", Text, "why it may be wrong; null: it is certain"),
        column("first", Time, "when it was found first"),
        column("last", Time, "when it was found last"),
        column("count", Number, "how often"),
        column("message", Text, "in words"),
    ],
};

/// What a row of the table of faults is.
pub const FAULTS: Table = Table {
    name: "faults",
    about: "The verdict on a fault.",
    columns: &[
        PID,
        PROCESS,
        UNIT,
        CONTAINER,
        POD,
        column("tid", Number, "the thread"),
        column("time", Time, "when the fault was made"),
        column("rule", Number, "the rule"),
        column("call", Text, "what it was about"),
        column("ret", Number, "what the program was given"),
        column("verdict", Text, "what became of it"),
        column("unsure", Text, "why that may be wrong; null: it is certain"),
        column("message", Text, "in words"),
    ],
};

/// What a row of the table of recordings is.
pub const RECORDINGS: Table = Table {
    name: "recordings",
    about: "A recording: what the others come from, and whether it is whole.",
    columns: &[
        column("file", Text, "the file"),
        column("kernel", Text, "the release of the kernel"),
        column("arch", Text, "the architecture"),
        column("probes", Text, "what saw the calls"),
        column("began", Time, "when the trace began"),
        column("ended", Time, "when it ended, or what it has ends"),
        column("reason", Text, "why it ended; `recording_ends`: it was cut short"),
        column("events", Number, "events that reached aiotrace"),
        column(
            "lost",
            Number,
            "records that did not; if it is not 0, what is missing in the other tables may have happened",
        ),
        column("requests", Number, "requests that completed, by the report"),
        column("findings", Number, "findings of the report"),
        column(
            "left_out",
            Number,
            "requests that were too many at a time to be followed: they have no row",
        ),
    ],
};

/// All tables.
pub const ALL: [&Table; 6] = [&CALLS, &REQUESTS, &CONTEXTS, &FINDINGS, &FAULTS, &RECORDINGS];

impl Table {
    /// All its columns.
    pub fn all(&self) -> impl Iterator<Item = &Column> {
        FIRST.iter().chain(self.columns)
    }

    /// Its schema, as Parquet writes it.
    pub fn schema(&self) -> String {
        let mut text = format!("message {} {{\n", self.name);
        for it in self.all() {
            let (physical, logical) = it.kind.schema();
            text += &format!("  OPTIONAL {physical} {}{logical};\n", it.name);
        }
        text + "}\n"
    }

    /// The description for people.
    pub fn described(&self) -> String {
        format!("{}\n\n{}", self.about, described(self.columns))
    }
}

/// Columns in a table for people.
pub fn described(columns: &[Column]) -> String {
    let row = |it: &Column| format!("| `{}` | {} | {} |\n", it.name, it.kind.text(), it.about);
    let rows: String = columns.iter().map(row).collect();
    format!("| column | kind | |\n|---|---|---|\n{rows}")
}
