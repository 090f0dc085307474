//! What is read from the trace of one run: its lines of JSON.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Context as _, Result};

/// A call site, and what is done there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The id.
    pub id: String,
    /// The call; io_pgetevents counts as io_getevents.
    pub call: String,
    /// For people.
    pub name: String,
    /// How often the call was made there.
    pub hits: u64,
    /// It was not reached in each of the baseline's runs.
    pub is_unstable: bool,
    /// io_submit: the most requests in one call.
    pub most_requests: u64,
    /// io_submit: the fewest bytes of a request that reads or writes.
    pub fewest_bytes: Option<u64>,
    /// io_submit: there are requests that read,
    pub reads: bool,
    /// that write,
    pub writes: bool,
    /// and that sync.
    pub syncs: bool,
}

/// What the trace of a run says.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The sites, by id; only with `--stacks`.
    pub sites: BTreeMap<String, Site>,
    /// Calls whose site is not known.
    pub without_site: u64,
    /// The trace has its last line.
    pub is_whole: bool,
    /// Records that were lost, and looks at processes without an answer: a rule may have missed calls then, and a
    /// call its site.
    pub unseen: u64,
    /// Faults that were made, or delays.
    pub made: u64,
    /// Faults that could not be made.
    pub missed: u64,
    /// Verdicts, by their kind.
    pub verdicts: BTreeMap<String, u64>,
    /// Contexts that ended otherwise than by io_destroy, or not at all.
    pub undestroyed: u64,
    /// The verdicts in words.
    pub messages: Vec<String>,
    /// Why a verdict is unsure; the last one.
    pub why: Option<String>,
    /// When the program got its first fault and its last one, nanoseconds.
    pub(super) between: Option<(u64, u64)>,
    /// Requests that were submitted and have not completed, by context and iocb. Of those with vectors, the site: how
    /// long they are only their completions tell.
    pub(super) in_flight: HashMap<(String, String), Option<String>>,
    /// What completed before its io_submit returned.
    pub(super) early: HashMap<(String, String), u64>,
}

/// Most requests that are followed at a time.
const MOST_FOLLOWED: usize = 65_536;

impl Site {
    /// There is a request of so many bytes.
    fn has_bytes(&mut self, bytes: u64) {
        self.fewest_bytes = Some(self.fewest_bytes.map_or(bytes, |fewest| fewest.min(bytes)));
    }
}

/// What a request is known by.
fn request(ctx: &Value, iocb: &Value) -> Option<(String, String)> {
    Some((ctx.as_str()?.to_owned(), iocb.as_str()?.to_owned()))
}

impl Observed {
    /// Reads a trace. A last line that is not whole is left out.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut it = Self::default();
        for line in BufReader::new(file).split(b'\n') {
            let line = line.with_context(|| format!("cannot read {}", path.display()))?;
            if let Ok(line) = serde_json::from_slice(&line) {
                it.line(&line);
            }
        }
        Ok(it)
    }

    fn line(&mut self, line: &Value) {
        let event = line["event"].as_str().unwrap_or_default();
        match event {
            "report" => self.report(line),
            "completion" => self.completion(line),
            "fault" => self.fault(line),
            call if call.starts_with("io_") => self.call(call, line),
            _ => (),
        }
    }

    fn call(&mut self, call: &str, line: &Value) {
        let call = if call == "io_pgetevents" { "io_getevents" } else { call };
        let site = &line["site"];
        let (Some(id), Some(name)) = (site["id"].as_str(), site["name"].as_str()) else {
            self.without_site += 1;
            return;
        };
        let it = self.sites.entry(id.to_owned()).or_insert_with(|| Site {
            id: id.to_owned(),
            call: call.to_owned(),
            name: name.to_owned(),
            ..Site::default()
        });
        it.hits += 1;
        let Some(iocbs) = line["iocbs"].as_array() else { return };
        it.most_requests = it.most_requests.max(iocbs.len() as u64);
        for iocb in iocbs {
            let op = iocb["op"].as_str().unwrap_or_default();
            let (reads, writes) = (op.starts_with("pread"), op.starts_with("pwrite"));
            it.reads |= reads;
            it.writes |= writes;
            it.syncs |= matches!(op, "fsync" | "fdsync");
            // Of a vector, nbytes is the number of its pieces.
            let is_vector = matches!(op, "preadv" | "pwritev");
            if matches!(op, "pread" | "pwrite")
                && let Some(bytes) = iocb["nbytes"].as_u64()
            {
                it.has_bytes(bytes);
            }
            let Some(key) = request(&line["args"]["ctx"], &iocb["address"]) else { continue };
            match self.early.remove(&key) {
                Some(bytes) if is_vector && bytes > 0 => it.has_bytes(bytes),
                None if self.in_flight.len() < MOST_FOLLOWED => {
                    self.in_flight.insert(key, is_vector.then(|| id.to_owned()));
                }
                Some(_) | None => (),
            }
        }
    }

    fn completion(&mut self, line: &Value) {
        let Some(key) = request(&line["ctx"], &line["obj"]) else { return };
        let bytes = line["res"].as_u64().unwrap_or(0);
        match self.in_flight.remove(&key) {
            Some(id) => {
                let site = id.and_then(|id| self.sites.get_mut(&id)).filter(|_| bytes > 0);
                site.into_iter().for_each(|it| it.has_bytes(bytes));
            }
            None if self.early.len() < MOST_FOLLOWED => drop(self.early.insert(key, bytes)),
            None => (),
        }
    }

    fn fault(&mut self, line: &Value) {
        if let Some(why) = line["why"].as_str() {
            self.why = Some(why.to_owned());
        }
        let Some(time) = line["ts"].as_str().and_then(|it| it.parse().ok()) else { return };
        let (first, last) = self.between.unwrap_or((time, time));
        self.between = Some((first.min(time), last.max(time)));
    }

    /// How long after its first fault the program got its last one; nanoseconds.
    pub fn lasted(&self) -> Option<u64> {
        self.between.map(|(first, last)| last - first).filter(|it| *it > 0)
    }

    fn report(&mut self, line: &Value) {
        self.is_whole = true;
        self.unseen = line["lost"].as_u64().unwrap_or(0);
        // Contexts beyond the rows of the report are one row, which says `several` if not all ended alike; then all count,
        // in the baseline, too.
        let rows = line["contexts"].as_array().into_iter().flatten();
        let rows = rows.chain(Some(&line["other_contexts"]));
        let rows = rows.filter(|it| it["end"] != "destroyed");
        self.undestroyed = rows.filter_map(|it| it["contexts"].as_u64()).sum();
        let rows = line["faults"].as_array();
        for row in rows.into_iter().flatten() {
            let number = |name: &str| row[name].as_u64().unwrap_or(0);
            self.made += number("made") + number("delayed");
            self.missed += number("missed");
            let verdicts = row["verdicts"].as_object();
            for (kind, count) in verdicts.into_iter().flatten() {
                *self.verdicts.entry(kind.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
            self.messages.extend(row["message"].as_str().map(str::to_owned));
        }
    }

    /// Something that was not seen may tell otherwise.
    pub fn is_doubtful(&self) -> bool {
        self.unseen > 0 || self.verdicts_of("unsure") > 0 || self.verdicts_of("undecided") > 0
    }

    /// How many verdicts are of this kind.
    pub fn verdicts_of(&self, kind: &str) -> u64 {
        self.verdicts.get(kind).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Observed {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        Observed::read(file.path()).unwrap()
    }

    #[test]
    fn how_long_a_vector_is_its_completion_tells() {
        let submit = r#"{"event":"io_submit","args":{"ctx":"0x1000"},"site":{"id":"0000000a","name":"io_submit from f"},"iocbs":[{"address":"0x10","op":"pwritev","nbytes":3}]}"#;
        let completion = |res: i64| {
            format!(r#"{{"event":"completion","ctx":"0x1000","obj":"0x10","res":{res}}}"#)
        };
        let of = |lines: &[String]| read(&lines.join("\n")).sites["0000000a"].clone();
        assert_eq!(of(&[submit.to_owned()]).fewest_bytes, None);
        assert_eq!(of(&[submit.to_owned(), completion(-5)]).fewest_bytes, None);
        let twice = [submit.to_owned(), completion(8192), submit.to_owned(), completion(4096)];
        assert_eq!(of(&twice).fewest_bytes, Some(4096));
        let other = [submit.to_owned(), completion(8192), completion(1)];
        assert_eq!(of(&other).fewest_bytes, Some(8192), "another request");
        let early = [completion(8192), submit.to_owned()];
        assert_eq!(of(&early).fewest_bytes, Some(8192), "before io_submit returned");
        let other = [submit.replace("pwritev", "fsync"), completion(1), submit.to_owned()];
        assert_eq!(of(&other).fewest_bytes, None, "of the request before");
    }

    #[test]
    fn the_time_between_the_first_and_the_last_fault_is_known() {
        let fault = |ts: u64| format!(r#"{{"event":"fault","ts":"{ts}"}}"#);
        assert_eq!(read(&fault(7)).lasted(), None);
        assert_eq!(read(&[fault(9), fault(5), fault(6)].join("\n")).lasted(), Some(4));
    }

    #[test]
    fn contexts_without_a_row_of_their_own_are_counted_too() {
        let of = |others: &str| {
            let row = r#"{"contexts":1,"end":"exit"},{"contexts":1,"end":"destroyed"}"#;
            let line =
                format!(r#"{{"event":"report","contexts":[{row}],"other_contexts":{others}}}"#);
            read(&line).undestroyed
        };
        assert_eq!(of("null"), 1);
        assert_eq!(of(r#"{"contexts":40,"end":"leaked"}"#), 41);
        assert_eq!(of(r#"{"contexts":40,"end":"destroyed"}"#), 1);
    }

    #[test]
    fn a_trace_that_was_cut_short_says_what_it_has() {
        let text = r#"{"v":1,"event":"start"}
{"event":"io_submit","site":{"id":"0000000a","name":"io_submit from f"},"iocbs":[{"op":"pwrite","nbytes":4096},null,{"op":"fsync","nbytes":0}]}
{"event":"io_pgetevents","site":{"id":"0000000b","name":"io_pgetevents from f"}}
{"event":"io_destroy","site":null}
{"event":"rep"#;
        let it = read(text);
        let site = &it.sites["0000000a"];
        assert_eq!((site.most_requests, site.fewest_bytes, site.hits), (3, Some(4096), 1));
        assert!(site.writes && site.syncs && !site.reads);
        assert_eq!(it.sites["0000000b"].call, "io_getevents");
        assert!(it.without_site == 1 && !it.is_whole);
    }
}
