//! The real Prometheus scrapes `aiotrace serve` beside fio and a program that leaks, and answers what the dashboard
//! asks; the real node_exporter reads the file.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Answer, Named, Server, answer, value};
use crate::{
    harness::Need,
    support::{PATIENCE, aiotrace, await_that},
};

/// A program that runs beside the test; it is killed by its id when this value is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(
            child
                .unwrap_or_else(|error| panic!("{name}: {error}: `cargo xtask setup` installs it")),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address at which nobody listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    use std::io::Write as _;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    Some(answer(&mut stream))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|it| match it {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(it).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// What Prometheus answers to an expression: the samples.
fn query(address: SocketAddr, expression: &str) -> Vec<Value> {
    let answer = get(address, &format!("/api/v1/query?query={}", encoded(expression))).unwrap();
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["status"], "success", "{expression}: {json}");
    json["data"]["result"].as_array().unwrap().clone()
}

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus").canonicalize().unwrap()
}

/// All expressions of the dashboard, with all instances and processes.
fn expressions() -> Vec<String> {
    let text = std::fs::read_to_string(contrib().join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|it| it["targets"].as_array()).flatten();
    let asked = targets.map(|it| it["expr"].as_str().unwrap());
    asked
        .map(|it| {
            it.replace("$instance", ".+")
                .replace("$process", ".+")
                .replace("$__rate_interval", "10s")
        })
        .collect()
}

fn fio(file: &Path) -> Command {
    let mut fio = Command::new("fio");
    fio.arg(format!("--filename={}", file.display()));
    fio.args([
        "--name=x",
        "--size=16M",
        "--rw=randrw",
        "--bs=4k",
        "--ioengine=libaio",
        "--iodepth=16",
    ]);
    fio.args(["--direct=1", "--rate_iops=200", "--time_based", "--runtime=120"]);
    fio
}

fn prometheus_answers_what_the_dashboard_asks() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--count", "--interval", "500ms"]);
    let _fio = Running::start(&mut fio(&directory.path().join("f")));
    let named = Named::new("holder2");
    let _held = named.ready(&["hold", "900"]);
    let _leaky = Running::start(named.command().arg("bad-context-growth"));
    let config = directory.path().join("prometheus.yml");
    let rules = contrib().join("alerts.yaml");
    let text = format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files:\n  - {}\nscrape_configs:\n  \
         - job_name: aiotrace\n    static_configs:\n      - targets: ['{}']\n",
        rules.display(),
        server.address
    );
    std::fs::write(&config, text).unwrap();
    let address = free_address();
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
    prometheus.arg(format!("--web.listen-address={address}"));
    let _prometheus = Running::start(&mut prometheus);
    await_that("Prometheus is ready", || {
        get(address, "/-/ready").is_some_and(|it| it.status == 200)
    });
    await_that("it has scraped", || {
        query(address, "count_over_time(up{job=\"aiotrace\"}[1m])")
            .first()
            .is_some_and(|it| it["value"][1].as_str().unwrap().parse::<f64>().unwrap() >= 8.0)
    });
    assert_eq!(query(address, "up{job=\"aiotrace\"}")[0]["value"][1], "1");
    let all = expressions();
    assert!(all.len() > 20, "{all:?}");
    let empty: Vec<&String> = all.iter().filter(|it| query(address, it).is_empty()).collect();
    assert!(empty.is_empty(), "nothing is answered to {empty:#?}; {}", server.scrape());
    let holders = query(address, "topk(5, aiotrace_charge)");
    let is_it = |it: &Value| it["metric"]["process"] == "holder2";
    assert!(holders.iter().any(is_it), "{holders:?}");
    // The rules are those that Prometheus has loaded, and none of them fails.
    let rules: Value = serde_json::from_str(&get(address, "/api/v1/rules").unwrap().body).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 8 && rules.iter().all(|it| it["health"] == "ok"), "{rules:#?}");
}

/// The p99 of fio's reads, wherever a report has its contexts; nanoseconds.
fn of_fio(report: &Value) -> Option<f64> {
    let p99 = report["ops"]["pread"]["latency_ns"]["p99"].as_f64();
    match report {
        Value::Object(_) if report["name"] == "fio" && p99.is_some() => p99,
        Value::Object(all) => all.values().find_map(of_fio),
        Value::Array(all) => all.iter().find_map(of_fio),
        _ => None,
    }
}

/// The p99 of Prometheus and that of the report are in the same bucket, or in neighbouring ones.
fn the_quantiles_are_those_of_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--count", "--interval", "500ms"]);
    let mut fio = fio(&directory.path().join("f"));
    let _fio = Running::start(&mut fio);
    std::thread::sleep(Duration::from_secs(3));
    let before = server.scrape_counted();
    let mut attach = aiotrace();
    attach.args(["attach", "-c", "--requests", "--format", "json", "-a", "--duration", "4s"]);
    let output = attach.output().unwrap();
    let after = server.scrape_counted();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = text
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap())
        .find(|it| it["event"] == "report")
        .unwrap_or_else(|| panic!("{text}"));
    let p99 = of_fio(&report).unwrap_or_else(|| panic!("{report:#}")) / 1e9;
    let bucket = |text: &str, le: f64| {
        let lines = text.lines().filter_map(|it| {
            let rest = it.strip_prefix("aiotrace_request_duration_seconds_bucket{")?;
            let (labels, count) = rest.rsplit_once("} ")?;
            let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
            let bound = if bound == "+Inf" { f64::MAX } else { bound.parse().ok()? };
            let is_it = labels.contains("op=\"pread\"") && (bound - le).abs() < 1e-12 * le.max(1.0);
            is_it.then(|| count.parse::<f64>().unwrap())
        });
        lines.sum::<f64>()
    };
    let bounds: Vec<f64> = (0..13).map(|it| 1.024e-6 * f64::from(4_u32.pow(it))).collect();
    let all = bucket(&after, f64::MAX) - bucket(&before, f64::MAX);
    assert!(all > 100.0, "{after}");
    let place =
        bounds.iter().position(|le| bucket(&after, *le) - bucket(&before, *le) >= 0.99 * all);
    let place = place.expect("a bound");
    let low = if place < 2 { 0.0 } else { bounds[place - 2] };
    let high = bounds.get(place + 1).copied().unwrap_or(f64::MAX);
    assert!((low..=high).contains(&p99), "{p99} {low}..{high}");
}

fn node_exporter_reads_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aiotrace.prom");
    let named = Named::new("holder3");
    let _held = named.ready(&["hold", "5"]);
    let mut command = aiotrace();
    command.args(["serve", "--list-only", "--interval", "200ms", "--textfile"]).arg(&file);
    let mut serve = command.stderr(Stdio::piped()).spawn().unwrap();
    await_that("the file is written", || file.exists());
    let address = free_address();
    let mut exporter = Command::new("prometheus-node-exporter");
    exporter.args(["--collector.disable-defaults", "--collector.textfile"]);
    exporter.arg(format!("--collector.textfile.directory={}", directory.path().display()));
    exporter.arg(format!("--web.listen-address={address}"));
    let _exporter = Running::start(&mut exporter);
    await_that("node_exporter answers", || get(address, "/metrics").is_some());
    let start = Instant::now();
    let mut scrapes = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let text = get(address, "/metrics").unwrap().body;
        assert_eq!(value(&text, "node_textfile_scrape_error"), Some(0.0), "{text}");
        assert_eq!(value(&text, "aiotrace_contexts{process=\"holder3\"}"), Some(5.0), "{text}");
        scrapes += 1;
    }
    assert!(scrapes > 10, "it is never half written");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(serve.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(serve.wait().unwrap().success());
    assert!(!file.exists(), "what it says would be told for ever");
}

const REAL: Need = Need::Native("it needs Prometheus");

tests![
    prometheus_answers_what_the_dashboard_asks if REAL,
    the_quantiles_are_those_of_the_report if REAL,
    node_exporter_reads_the_file if REAL,
];
