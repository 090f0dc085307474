//! The metrics: their names, kinds, labels and what they mean. docs/reference/metrics.md is made from this table.

/// The kind of a metric, which decides how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that goes up and down.
    Gauge,
    /// A number that only grows; `_total` is added to its name.
    Counter,
    /// Durations by bucket.
    Histogram,
    /// Facts in labels; `_info` is added to its name.
    Info,
}

/// Where the values of a metric come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// The list of contexts, at each scrape.
    List,
    /// What the kernel counts.
    Count,
    /// aiotrace itself.
    Own,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, without what its kind adds.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Where its values come from.
    pub tier: Tier,
    /// Whether it is told for each label set of processes.
    pub by_process: bool,
    /// Its further labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

impl Metric {
    /// The name of its samples; of a histogram, without what the samples add.
    pub fn full_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{suffix}", self.name)
    }
}

macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident $tier:ident $by:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: &Metric = &Metric {
                name: $name,
                kind: Kind::$kind,
                tier: Tier::$tier,
                by_process: $by,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All metrics, in the order in which they are written.
        pub const ALL: &[&Metric] = &[$($constant),*];
    };
}

metrics! {
    AIO_NR = "aiotrace_aio_nr" Gauge List false []
        "fs.aio-nr: what all contexts of the machine take from the limit";
    AIO_MAX_NR = "aiotrace_aio_max_nr" Gauge List false []
        "fs.aio-max-nr: the limit of the machine";
    UNACCOUNTED = "aiotrace_unaccounted_charge" Gauge List false []
        "fs.aio-nr less the charge of all listed contexts: other pid namespaces, or contexts that came or went meanwhile";
    CHARGE = "aiotrace_charge" Gauge List true []
        "What the contexts of these processes take from fs.aio-nr";
    CONTEXTS = "aiotrace_contexts" Gauge List true []
        "AIO contexts";
    UNREAPED = "aiotrace_unreaped_completions" Gauge List true []
        "Completions that are in rings and not reaped, in the rings that could be read";
    UNREAD_RINGS = "aiotrace_unread_rings" Gauge List true []
        "Contexts whose ring is not mapped or could not be read: what is unreaped there is unknown";
    IN_FLIGHT = "aiotrace_requests_in_flight" Gauge List true []
        "Requests in flight; absent where the kernel does not tell the number";
    OLDEST_IDLE = "aiotrace_oldest_idle_context_seconds" Gauge Count true []
        "For how long no call was made on the context that was idle longest; at least so long, if it was idle before aiotrace began";
    UNLISTED = "aiotrace_unlisted_contexts" Gauge List false []
        "Contexts that could not be listed";
    UNKNOWN_PROCESSES = "aiotrace_unknown_processes" Gauge List false []
        "Processes that could not be looked at without BPF: their contexts are not counted";
    CALLS = "aiotrace_calls" Counter Count true ["call"]
        "Calls that returned";
    CALL_ERRORS = "aiotrace_call_errors" Counter Count true ["call", "errno"]
        "Calls that returned an error";
    REQUESTS = "aiotrace_requests" Counter Count true ["op"]
        "Requests that io_submit accepted";
    REQUEST_BYTES = "aiotrace_request_bytes" Counter Count true ["op"]
        "Bytes that accepted pread and pwrite requests asked for; unknown for vectors";
    REQUEST_ERRORS = "aiotrace_request_errors" Counter Count true ["errno"]
        "Requests that resulted in an error";
    CALL_DURATION = "aiotrace_call_duration_seconds" Histogram Count false ["call"]
        "How long calls took";
    REQUEST_DURATION = "aiotrace_request_duration_seconds" Histogram Count false ["op"]
        "How long requests took, from io_submit to the return of the io_getevents that reaped them";
    PROCESS_CALL_DURATION = "aiotrace_process_call_duration_seconds" Histogram Count true ["call"]
        "How long calls took, by process (--histograms)";
    PROCESS_REQUEST_DURATION = "aiotrace_process_request_duration_seconds" Histogram Count true ["op"]
        "How long requests took, by process (--histograms)";
    FINDINGS = "aiotrace_findings" Counter Count true ["name", "severity"]
        "Findings";
    LOST = "aiotrace_lost_events" Counter Count false ["cause"]
        "Events that were lost, and looks without an answer: what was counted is too low by them";
    PROBE_RUNS = "aiotrace_probe_runs" Counter Count false []
        "How often the probes ran; absent unless kernel.bpf_stats_enabled is 1";
    PROBE_SECONDS = "aiotrace_probe_seconds" Counter Count false []
        "How long the probes ran, on all processors together; absent unless kernel.bpf_stats_enabled is 1";
    BUILD = "aiotrace_build" Info Own false ["version", "revision"]
        "The version of aiotrace, and the commit it was built of";
    SOURCE = "aiotrace_source" Info Own false ["tier", "probes", "lacks"]
        "Where the values come from, and what is missing";
    SERIES_DROPPED = "aiotrace_series_dropped" Gauge Own false []
        "Label sets of processes that were met in the last 5 minutes and did not fit (--max-series): they are counted as the process other";
    LAST_READ = "aiotrace_last_read_timestamp_seconds" Gauge Own false ["tier"]
        "When the list and the counters were last read, seconds since 1970";
    REFUSED = "aiotrace_http_connections_refused" Counter Own false []
        "Connections that were closed at once, because too many were open";
    CPU = "process_cpu_seconds" Counter Own false []
        "Processor time that aiotrace has taken, without its probes";
    MEMORY = "process_resident_memory_bytes" Gauge Own false []
        "Memory of aiotrace";
    STARTED = "process_start_time_seconds" Gauge Own false []
        "When aiotrace began, seconds since 1970";
}

/// The labels by which a sample names processes, as the documents show them.
pub const OF_PROCESSES: [&str; 1] = ["process"];

/// The table of docs/reference/metrics.md.
pub fn table() -> String {
    let mut table =
        String::from("| metric | kind | tier | labels | what it says |\n|---|---|---|---|---|\n");
    for it in ALL {
        let kind = format!("{:?}", it.kind).to_lowercase();
        let tier = match it.tier {
            Tier::List => "list",
            Tier::Count => "count",
            Tier::Own => "own",
        };
        let of_processes = OF_PROCESSES.iter().filter(|_| it.by_process);
        let labels: Vec<String> =
            of_processes.chain(it.labels).map(|it| format!("`{it}`")).collect();
        let (name, help) = (it.full_name(), it.help);
        table.push_str(&format!(
            "| `{name}` | {kind} | {tier} | {} | {help} |\n",
            labels.join(", ")
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_those_that_prometheus_takes() {
        let mut names = BTreeSet::new();
        for it in ALL {
            let is_plain = |it: &str| it.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
            assert!(is_plain(it.name) && it.labels.iter().all(|it| is_plain(it)), "{}", it.name);
            assert!(names.insert(it.name), "{} is there twice", it.name);
            // The encoder adds these, and panics if they are there.
            assert!(!it.name.ends_with("_total") && !it.name.ends_with("_info"), "{}", it.name);
            assert!(!it.help.is_empty() && !it.help.contains('\n'), "{}", it.name);
        }
    }
}
