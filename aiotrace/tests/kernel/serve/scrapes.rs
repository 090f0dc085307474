//! What a scrape tells.

use std::{collections::BTreeMap, process::Command};

use super::{Named, Server, ask, sum, value};
use crate::{harness::Need, support::aiotrace};

/// The charge of the contexts of `hold COUNT`.
fn charge(count: u64) -> u64 {
    (0..count).map(|index| 1 + index % 9).sum()
}

fn the_list_tells_who_holds() {
    let holder = Named::new("holder");
    let _held = [holder.ready(&["hold", "45"]), holder.ready(&["hold", "5"])];
    let server = Server::start(&["--list-only"]);
    let text = server.scrape();
    let of = |name: &str| value(&text, &format!("{name}{{process=\"holder\"}}"));
    assert_eq!(of("aiotrace_charge"), Some((charge(45) + charge(5)) as f64), "{text}");
    assert_eq!(of("aiotrace_contexts"), Some(50.0));
    assert_eq!(of("aiotrace_unreaped_completions"), Some(0.0));
    assert_eq!(sum(&text, "aiotrace_charge"), value(&text, "aiotrace_aio_nr").unwrap(), "{text}");
    assert_eq!(value(&text, "aiotrace_unaccounted_charge"), Some(0.0));
    assert!(text.contains("aiotrace_source_info{tier=\"list\",probes=\"none\""), "{text}");
    assert!(!text.contains("aiotrace_calls_total"), "nothing is counted: {text}");
    let (stderr, status) = server.end();
    assert!(status.success(), "{stderr}");
}

fn counters_are_those_of_the_kernel() {
    let server = Server::start(&["--count", "--interval", "200ms", "--histograms"]);
    Named::new("worker").run(&["pairs", "1000"]);
    let text = server.scrape_counted();
    let of = |sample: &str| value(&text, sample);
    let call = |name: &str| format!("aiotrace_calls_total{{process=\"worker\",call=\"{name}\"}}");
    assert_eq!(of(&call("io_submit")), Some(1000.0), "{text}");
    assert_eq!(of(&call("io_getevents")), Some(1000.0), "{text}");
    assert_eq!(of(&call("io_setup")), of(&call("io_destroy")));
    let of_worker = "aiotrace_requests_total{process=\"worker\"";
    let requests: Vec<&str> = text.lines().filter(|it| it.starts_with(of_worker)).collect();
    assert!(requests.len() == 1 && requests[0].ends_with(" 1000"), "{requests:?}");
    let count =
        "aiotrace_process_call_duration_seconds_count{process=\"worker\",call=\"io_submit\"}";
    assert_eq!(of(count), Some(1000.0), "{text}");
    assert!(of("aiotrace_call_duration_seconds_count{call=\"io_submit\"}") >= Some(1000.0));
    assert!(text.contains("aiotrace_source_info{tier=\"count\""), "{text}");
    // The process is gone, and its series are there.
    let again = server.scrape_counted();
    assert_eq!(value(&again, &call("io_submit")), Some(1000.0));
}

/// What a process is called is for it to say.
fn names_of_hostile_processes_stay_in_their_label() {
    let names = ["a\"} 1\nb 2", "\\\\", "\u{e9}{}=,", "other"].map(Named::new);
    let _running = names.each_ref().map(|it| it.ready(&["hold", "2"]));
    let server = Server::start(&["--list-only"]);
    let text = server.scrape();
    for name in [r#"a\"} 1\\x0ab 2"#, r"\\\\\\\\", "\u{e9}{}=,", "other"] {
        let sample = format!("aiotrace_contexts{{process=\"{name}\"}}");
        assert_eq!(value(&text, &sample), Some(2.0), "{sample}: {text}");
    }
    check_metrics(&text);
}

/// promtool, of Debian's package prometheus, finds nothing to complain about.
pub fn check_metrics(text: &str) {
    use std::io::Write as _;
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let mut child = child.expect("promtool is missing: `cargo xtask setup` installs it");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

fn promtool_has_nothing_to_complain_about() {
    let named = Named::new("named");
    let _held = named.ready(&["hold-unreaped"]);
    let server =
        Server::start(&["--count", "--interval", "200ms", "--histograms", "--label", "pid"]);
    named.run(&["pairs", "10"]);
    check_metrics(&server.scrape_counted());
}

fn the_client_chooses_the_format() {
    let server = Server::start(&["--list-only"]);
    let of = |accept: &str| {
        ask(
            server.address,
            &format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"),
        )
    };
    let text = of("text/plain");
    assert!(text.head.contains("text/plain; version=0.0.4") && !text.body.contains("# EOF"));
    let open =
        of("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3");
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
    assert_eq!(server.get("/-/healthy").status, 200);
    assert_eq!(server.get("/-/ready").status, 200);
    assert!(server.get("/").body.contains("href=\"/metrics\""));
    assert_eq!(server.get("/other").status, 404);
    assert_eq!(ask(server.address, "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n").status, 405);
}

fn once_is_what_ls_says() {
    let holder = Named::new("holder1");
    let _held = holder.ready(&["hold", "45"]);
    let output = aiotrace().args(["serve", "--once"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        value(&text, "aiotrace_charge{process=\"holder1\"}"),
        Some(charge(45) as f64),
        "{text}"
    );
    // node_exporter has these of itself.
    assert!(!text.contains("process_cpu_seconds"), "{text}");
    check_metrics(&text);
}

/// What does not fit is `process="other"`; no count goes back, and none is lost.
fn series_are_bounded_and_sums_are_right() {
    let server = Server::start(&["--count", "--interval", "100ms", "--max-series", "3"]);
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    for round in 0..20 {
        Named::new(&format!("worker{round}")).run(&["pairs", "7"]);
        let text = server.scrape();
        let counters = text.lines().filter(|it| it.starts_with("aiotrace_calls_total{"));
        let now: BTreeMap<String, f64> = counters
            .map(|it| it.rsplit_once(' ').unwrap())
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect();
        for (name, count) in &before {
            assert!(now[name] >= *count, "{name} goes back: {} < {count}", now[name]);
        }
        before = now;
    }
    let text = server.scrape_counted();
    let submits =
        |it: &&str| it.starts_with("aiotrace_calls_total{") && it.contains("\"io_submit\"");
    let values = text.lines().filter(submits).map(|it| it.rsplit(' ').next().unwrap());
    let values: Vec<f64> = values.map(|it| it.parse().unwrap()).collect();
    assert!(values.len() <= 4, "{text}");
    // Other programs of the machine may be at work, too.
    assert!(values.iter().sum::<f64>() >= 140.0, "{text}");
    assert!(value(&text, "aiotrace_series_dropped") >= Some(17.0), "{text}");
}

tests![
    the_list_tells_who_holds if Need::SLOW,
    counters_are_those_of_the_kernel if Need::SLOW,
    names_of_hostile_processes_stay_in_their_label if Need::Native("it needs promtool"),
    promtool_has_nothing_to_complain_about if Need::Native("it needs promtool"),
    the_client_chooses_the_format if Need::SAME,
    once_is_what_ls_says if Need::Native("it needs promtool"),
    series_are_bounded_and_sums_are_right if Need::SLOW,
];
