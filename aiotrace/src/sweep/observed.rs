//! What is read from the trace of one run: its lines of JSON.

use std::{
    collections::BTreeMap,
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
    /// Records were lost.
    pub lost_records: u64,
    /// Faults that were made, or delays.
    pub made: u64,
    /// Faults that could not be made.
    pub missed: u64,
    /// Verdicts, by their kind.
    pub verdicts: BTreeMap<String, u64>,
    /// Completions that failed, and whose requests were never made again.
    pub given_up: u64,
    /// Contexts that ended otherwise than by io_destroy, or not at all.
    pub undestroyed: u64,
    /// The verdicts in words.
    pub messages: Vec<String>,
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
            if let Some(bytes) = iocb["nbytes"].as_u64()
                && matches!(op, "pread" | "pwrite")
            {
                it.fewest_bytes = Some(it.fewest_bytes.map_or(bytes, |fewest| fewest.min(bytes)));
            }
        }
    }

    fn report(&mut self, line: &Value) {
        self.is_whole = true;
        self.lost_records = line["lost"].as_u64().unwrap_or(0);
        let rows = line["contexts"].as_array().into_iter().flatten();
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
            if row["call"] == "complete" {
                self.given_up += row["verdicts"]["gave_up"].as_u64().unwrap_or(0);
            }
            self.messages.extend(row["message"].as_str().map(str::to_owned));
        }
    }

    /// How many verdicts are of this kind.
    pub fn verdicts_of(&self, kind: &str) -> u64 {
        self.verdicts.get(kind).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_was_cut_short_says_what_it_has() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"v":1,"event":"start"}
{"event":"io_submit","site":{"id":"0000000a","name":"io_submit from f"},"iocbs":[{"op":"pwrite","nbytes":4096},null,{"op":"fsync","nbytes":0}]}
{"event":"io_pgetevents","site":{"id":"0000000b","name":"io_pgetevents from f"}}
{"event":"io_destroy","site":null}
{"event":"rep"#;
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        let it = Observed::read(file.path()).unwrap();
        let site = &it.sites["0000000a"];
        assert_eq!((site.most_requests, site.fewest_bytes, site.hits), (3, Some(4096), 1));
        assert!(site.writes && site.syncs && !site.reads);
        assert_eq!(it.sites["0000000b"].call, "io_getevents");
        assert!(it.without_site == 1 && !it.is_whole);
    }
}
