//! The tables of recordings: what they say is what the reports say. DuckDB asks the questions of
//! docs/how-to/many-machines.md, where Python has it (`pip install duckdb`); otherwise the test says so.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use aiotrace::{
    event::Event,
    source::recording::{Item, Reader, Writer},
};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, Row},
};
use serde_json::Value;

const SEEDS: [&str; 6] = ["pairs", "short", "pending", "faults", "arm64", "closed"];

fn aiotrace(arguments: &[&str], files: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aiotrace")).args(arguments).args(files).output().unwrap()
}

/// A seed of the fuzz targets.
fn seed(name: &str) -> Vec<u8> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/recording");
    let hex = fs::read_to_string(seeds.join(name).with_extension("hex")).unwrap();
    let digits: Vec<u32> = hex.chars().filter_map(|it| it.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// A seed as if it had been made on another host, this many seconds later.
fn on(name: &str, host: &str, seconds: i64) -> Vec<u8> {
    let mut reader = Reader::new(Cursor::new(seed(name))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes).unwrap();
    while let Ok(Some(mut item)) = reader.next_item() {
        if let Item::Start(start, _) = &mut item {
            start.machine.host = Some(host.to_owned());
            start.machine.boot_id = Some("0f3c2a91-0000-0000-0000-000000000000".to_owned());
            start.clock.to_wall += seconds * 1_000_000_000;
        }
        write(&mut writer, item);
    }
    writer.flush().unwrap();
    drop(writer);
    bytes
}

fn write(writer: &mut Writer<&mut Vec<u8>>, item: Item<Event>) {
    let item: Item<&Event> = match &item {
        Item::Event(event) => Item::Event(event),
        Item::Start(start, settings) => Item::Start(start.clone(), *settings),
        Item::Time(now) => Item::Time(*now),
        Item::Path { pid, fd, path } => Item::Path { pid: *pid, fd: *fd, path: path.clone() },
        Item::Report(ended) => Item::Report(ended.clone()),
        Item::End(ended) => Item::End(ended.clone()),
        Item::TimedOut(now) => Item::TimedOut(*now),
        Item::Process { pid, executable, cgroup } => {
            Item::Process { pid: *pid, executable: executable.clone(), cgroup: cgroup.clone() }
        }
        // What they say is in no table.
        _ => return,
    };
    writer.item(&item).unwrap();
}

struct Fleet {
    directory: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Fleet {
    fn new(recordings: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |(index, bytes): (usize, Vec<u8>)| {
            let path = directory.path().join(format!("{index:03}.aiotrace"));
            fs::write(&path, bytes).unwrap();
            path
        };
        let files = recordings.into_iter().enumerate().map(file).collect();
        Self { directory, files }
    }

    fn tables(&self) -> PathBuf {
        self.directory.path().join("tables")
    }

    /// Writes the tables; gives the status, and what was said.
    fn write(&self) -> (Option<i32>, String) {
        let tables = self.tables();
        let options = ["report", "--format", "parquet", "-o", tables.to_str().unwrap()];
        let output = aiotrace(&options, &self.files);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// The report of a recording.
    fn report(&self, index: usize) -> Value {
        let file = &self.files[index..=index];
        let output = aiotrace(&["report", "-q", "--format", "json"], file);
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }

    /// The rows of a table.
    fn rows(&self, table: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for file in files_below(&self.tables().join(table)) {
            let reader = SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap();
            rows.extend(reader.get_row_iter(None).unwrap().map(Result::unwrap));
        }
        rows
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn column(row: &Row, name: &str) -> Field {
    let found = row.get_column_iter().find(|it| it.0 == name);
    found.unwrap_or_else(|| panic!("no column {name}")).1.clone()
}

fn number(row: &Row, name: &str) -> u64 {
    match column(row, name) {
        Field::Long(it) => u64::try_from(it).unwrap(),
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn the_tables_have_what_the_reports_have() {
    for name in SEEDS {
        let fleet = Fleet::new([on(name, "db1", 0)]);
        let (status, said) = fleet.write();
        assert_eq!(status, Some(0), "{name}: {said}");
        assert!(said.contains("the tables of 1 of 1 recordings are in "), "{said}");
        let report = fleet.report(0);
        let sums = &report["sums"];
        let requests = fleet.rows("requests");
        let is = |row: &Row, what: &str| column(row, "end") == Field::Str(what.to_owned());
        let accepted = requests.iter().filter(|row| !is(row, "refused")).count() as u64;
        assert_eq!(Some(accepted), sums["accepted"].as_u64(), "{name}: {sums:#}");
        let done = |row: &&Row| !is(row, "refused") && column(row, "completed") != Field::Null;
        let completed = requests.iter().filter(done).count() as u64;
        assert_eq!(Some(completed), sums["completed"].as_u64(), "{name}: {sums:#}");
        let recordings = fleet.rows("recordings");
        assert_eq!(recordings.len(), 1);
        assert_eq!(Some(number(&recordings[0], "events")), report["events"].as_u64());
        assert_eq!(number(&recordings[0], "left_out"), 0);
        let length = |it: &str| report[it].as_array().unwrap().len();
        assert_eq!(fleet.rows("findings").len(), length("findings"), "{name}");
        assert_eq!(fleet.rows("contexts").len(), length("contexts"), "{name}");
        let faults = report["faults"].as_array().unwrap().iter();
        let verdicts: u64 = faults
            .filter_map(|it| {
                Some(it["verdicts"].as_object()?.values().filter_map(Value::as_u64).sum::<u64>())
            })
            .sum();
        assert!(fleet.rows("faults").len() as u64 >= verdicts, "{name}");
        let output = aiotrace(&["report", "--format", "json"], &fleet.files);
        let text = String::from_utf8(output.stdout).unwrap();
        let calls = text.lines().filter(|it| it.contains(r#""duration_ns":"#)).count();
        assert_eq!(fleet.rows("calls").len(), calls, "{name}");
        for table in ["calls", "requests", "recordings"] {
            for row in fleet.rows(table) {
                assert_eq!(column(&row, "host"), Field::Str("db1".into()));
            }
        }
    }
}

/// A hundred recordings of ten hosts. One is damaged in its middle, one is no recording, one ends early, one is a copy.
#[test]
fn a_damaged_recording_in_a_hundred_is_said_and_left_out() {
    let mut all: Vec<Vec<u8>> = (0..100)
        .map(|at| on(SEEDS[at % SEEDS.len()], &format!("db{}", at % 10), 60 * at as i64))
        .collect();
    let middle = all[50].len() / 2;
    all[50][middle] ^= 0x55;
    all[51] = b"this is no recording".to_vec();
    all[53] = all[52].clone();
    let fleet = Fleet::new(all);
    let (status, said) = fleet.write();
    assert_eq!(status, Some(1), "{said}");
    for file in ["050", "051", "053"] {
        let line = said.lines().find(|it| it.contains(&format!("{file}.aiotrace is left out: ")));
        assert!(line.is_some(), "{file}: {said}");
    }
    assert!(said.contains("it is a copy of one that was read before"), "{said}");
    assert!(said.contains("the tables of 97 of 100 recordings"), "{said}");
    assert_eq!(fleet.rows("recordings").len(), 97);
    let files = files_below(&fleet.tables());
    assert!(files.iter().all(|it| it.extension().is_some_and(|it| it == "parquet")), "{files:?}");
    assert_eq!(files.len(), 6 * 97);
    // Written again, they are replaced.
    fleet.write();
    assert_eq!(files_below(&fleet.tables()), files);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fleet = Fleet::new([seed("pairs"), seed("short")]);
    let said = |options: &[&str]| {
        let output = aiotrace(&[&["report"], options].concat(), &fleet.files);
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["--format", "parquet"]).contains("name a directory for them: -o DIRECTORY"));
    assert!(
        said(&["--format", "parquet", "-c", "-o", "x"]).contains("-c and -q do not go with it")
    );
    assert!(said(&[]).contains("2 recordings at a time"));
    let output = aiotrace(&["run", "--format", "parquet", "--", "true"], &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("--format parquet is for recordings") && text.contains("--record"),
        "{text}"
    );
    let nothing = Fleet::new([b"nothing".to_vec()]);
    let (status, text) = nothing.write();
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("none of the recordings could be read"), "{text}");
}

/// The blocks of SQL in the guide.
fn questions() -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/how-to/many-machines.md");
    let text = fs::read_to_string(guide).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let text = lines.join("\n");
    let blocks = text.split("\n```sql\n").skip(1);
    blocks.map(|it| it.split("\n```").next().unwrap().to_owned()).collect()
}

const ASK: &str = r#"
import json, sys, duckdb
views, *questions = json.load(sys.stdin)
duckdb.sql("set timezone = 'UTC'")
duckdb.execute(views)
answers = []
for it in questions:
    answer = duckdb.sql(it)
    answers.append({"columns": answer.columns, "rows": [[str(v) for v in row] for row in answer.fetchall()]})
json.dump(answers, sys.stdout)
"#;

/// Asks DuckDB; `None`: it is not there.
fn ask(below: &Path, questions: &[String]) -> Option<Vec<Value>> {
    use std::io::Write as _;
    let known = Command::new("python3").args(["-c", "import duckdb"]).output();
    if !known.is_ok_and(|it| it.status.success()) {
        eprintln!("DuckDB is missing (`pip install duckdb`): the questions were not asked");
        return None;
    }
    let mut python = Command::new("python3")
        .args(["-c", ASK])
        .current_dir(below)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(questions).unwrap();
    python.stdin.take().unwrap().write_all(&input).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_question_of_the_guide_has_an_answer() {
    let all =
        (0..30).map(|at| on(SEEDS[at % SEEDS.len()], &format!("db{}", at % 10), 60 * at as i64));
    let fleet = Fleet::new(all);
    assert_eq!(fleet.write().0, Some(0));
    let mut questions = questions();
    assert_eq!(questions.len(), 1 + 10, "the views, and ten questions");
    questions.extend(
        [
            "select count(*), count(distinct host) from requests",
            "select count(*), count(distinct date) from calls",
            "select sum(events) from recordings",
            "select typeof(submitted), typeof(nbytes), typeof(path) from requests limit 1",
        ]
        .map(str::to_owned),
    );
    let Some(answers) = ask(fleet.directory.path(), &questions) else { return };
    let rows = |at: usize| answers[at]["rows"].as_array().unwrap();
    let first = |at: usize| rows(at)[0].as_array().unwrap().clone();
    for (at, question) in questions[1..=10].iter().enumerate() {
        // These recordings have neither leaks nor calls that block, and lost nothing.
        let may_be_empty = ["context-leak", "duration_ns > 10000000", "lost > 0"];
        let is_allowed = may_be_empty.iter().any(|it| question.contains(it));
        assert!(is_allowed || !rows(at).is_empty(), "no answer to {question}");
    }
    let number =
        |at: usize, column: usize| first(at)[column].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!((number(10, 0), number(10, 1)), (fleet.rows("requests").len() as u64, 10));
    assert_eq!(number(11, 0), fleet.rows("calls").len() as u64);
    let events: u64 = (0..30).map(|it| fleet.report(it)["events"].as_u64().unwrap()).sum();
    assert_eq!(number(12, 0), events);
    let types: Vec<String> = first(13).iter().map(|it| it.as_str().unwrap().to_owned()).collect();
    assert!(types[0].starts_with("TIMESTAMP"), "{types:?}");
    assert_eq!(types[1..], ["UBIGINT", "VARCHAR"]);
}
