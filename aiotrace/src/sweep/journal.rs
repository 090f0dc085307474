//! What a sweep has found out so far. Each run and each outcome is in a file before anybody sees it, so a sweep that was
//! interrupted, in whatever way, can be resumed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Settings,
    directory::{Directory, Place},
    plan::{Asked, Plan},
    told::{Run, Told, lines},
};
use crate::failure::{Context as _, Failure, Hint as _, Result, bail};

/// What is known of a sweep.
pub struct Journal {
    place: Place,
    outcomes: Lines<Told>,
    runs: Lines<Run>,
    /// What `--iterate` tries again, as it was told before.
    before: Vec<Told>,
}

impl Journal {
    /// Opens the directory; and if the sweep there is to be gone on with, its plan.
    pub fn open(settings: &Settings) -> Result<(Self, Option<Plan>)> {
        if !settings.resume && !settings.iterate {
            let place = Place::of_new(&settings.output, !settings.list)?;
            return Ok((Self::new(place, Vec::new(), Vec::new(), Vec::new())?, None));
        }
        let place = Place::of_older(&settings.output)?;
        let plan = read_plan(&place)?;
        if let Some(difference) = plan.asked.difference(&Asked::of(settings)?) {
            return Err(Failure::new(difference)
                .with_hint("give it the same, or begin anew: leave out --resume and --iterate"));
        }
        let root = place.directory().root();
        let (mut outcomes, mut runs): (Vec<Told>, Vec<Run>) =
            (read(root, "outcomes.jsonl")?, read(root, "runs.jsonl")?);
        let mut before: Vec<Told> = read(root, "iterated.jsonl")?;
        if settings.iterate {
            let (kept, again) = iterated(outcomes, &before, |it| settings.is_shown(it));
            // The other runs are of the program as it was.
            runs.retain(|it| kept.iter().any(|told| told.point == it.told.point));
            (outcomes, before) = (kept, again);
            // First of all: what is not known to have been bad would be good if it is not reached any more.
            write(root, "iterated.jsonl", lines::<Told, _>(&before)?.as_bytes())?;
        }
        Ok((Self::new(place, outcomes, runs, before)?, Some(plan)))
    }

    fn new(place: Place, outcomes: Vec<Told>, runs: Vec<Run>, before: Vec<Told>) -> Result<Self> {
        let root = place.directory().root();
        let runs = Lines::open(root, "runs.jsonl", runs)?;
        let outcomes = Lines::open(root, "outcomes.jsonl", outcomes)?;
        Ok(Self { place, outcomes, runs, before })
    }

    /// Writes the plan, before the first fault; the sweep takes the place of an older one. A list does not.
    pub fn begin(&mut self, plan: &Plan, settings: &Settings) -> Result<()> {
        self.write("plan.json", &serde_json::to_vec_pretty(plan)?)?;
        if settings.list { Ok(()) } else { self.place.settle() }
    }

    /// Writes a file into the directory, whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write(self.place.directory().root(), name, bytes)
    }

    /// Writes down what came of a point.
    pub fn tell(&mut self, told: Told) -> Result<()> {
        self.outcomes.add(told)
    }

    /// Writes down a run that is not enough to tell what came of its point.
    pub fn add(&mut self, run: Run) -> Result<()> {
        self.runs.add(run)
    }

    /// Where the files are.
    pub fn directory(&self) -> &Directory {
        self.place.directory()
    }

    /// What was told so far.
    pub fn outcomes(&self) -> &[Told] {
        &self.outcomes.all
    }

    /// What was told of a point.
    pub fn told(&self, point: usize) -> Option<&Told> {
        self.outcomes.all.iter().find(|it| it.point == point)
    }

    /// The runs of a point that were made so far.
    pub fn runs(&self, point: usize) -> Vec<Run> {
        self.runs.all.iter().filter(|it| it.told.point == point).cloned().collect()
    }

    /// What was told of the points that `--iterate` tries again.
    pub fn before(&self) -> &[Told] {
        &self.before
    }

    /// Removes what a list has made beside an older sweep.
    pub fn discard(&mut self) -> Result<()> {
        self.place.discard()
    }
}

/// What stays, and what is tried again: what is bad, and what was bad and could not be made since, or was not tried.
fn iterated(
    outcomes: Vec<Told>,
    before: &[Told],
    is_shown: impl Fn(&Told) -> bool,
) -> (Vec<Told>, Vec<Told>) {
    let (bad, others): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(is_shown);
    let is_repaired = |old: &Told| others.iter().any(|it| it.point == old.point && it.made > 0);
    let is_bad = |old: &Told| bad.iter().any(|it| it.point == old.point);
    let open: Vec<Told> =
        before.iter().filter(|it| !is_repaired(it) && !is_bad(it)).cloned().collect();
    let kept = others.into_iter().filter(|it| open.iter().all(|old| old.point != it.point));
    let kept = kept.collect();
    (kept, bad.into_iter().chain(open).collect())
}

/// A file to which lines of JSON are added.
struct Lines<T> {
    all: Vec<T>,
    file: File,
}

impl<T: Serialize> Lines<T> {
    /// Written anew, without the line that was perhaps cut short.
    fn open(root: &Path, name: &str, all: Vec<T>) -> Result<Self> {
        write(root, name, lines::<T, _>(&all)?.as_bytes())?;
        let path = root.join(name);
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { all, file })
    }

    fn add(&mut self, it: T) -> Result<()> {
        let text = lines::<T, _>(&[&it])?;
        let whole = self.file.metadata()?.len();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // No half of a line may stay, to which the next one would be added.
            let _ = self.file.set_len(whole);
        }
        written
            .context("cannot write down an outcome")
            .hint("make room, and go on with --resume: what was told before is kept")?;
        self.all.push(it);
        Ok(())
    }
}

fn write(root: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let written = || -> io::Result<()> {
        let new: PathBuf = root.join(format!("{name}.new"));
        fs::write(&new, bytes)?;
        fs::rename(&new, root.join(name))
    };
    written().with_context(|| format!("cannot write {name} in {}", root.display()))
}

fn read<T: DeserializeOwned>(root: &Path, name: &str) -> Result<Vec<T>> {
    let bytes = match fs::read(root.join(name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
    };
    // The last line may have been cut short.
    let lines = bytes.split(|it| *it == b'\n');
    Ok(lines.filter_map(|it| serde_json::from_slice(it).ok()).collect())
}

fn read_plan(place: &Place) -> Result<Plan> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    let path = place.directory().root().join("plan.json");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let Version { v } = serde_json::from_slice(&bytes).context("plan.json is damaged")?;
    if v != Plan::VERSION {
        bail!("the plan has version {v}, this aiotrace reads version {}", Plan::VERSION);
    }
    serde_json::from_slice(&bytes).context("plan.json is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::{Mode, Outcome, plan::Point};

    fn told(number: usize, outcome: Outcome, made: u64) -> Told {
        let (site, fault) = ("0000000a".to_owned(), "EAGAIN".to_owned());
        let point = Point { number, site, fault, mode: Mode::Once, rule: String::new() };
        Told { made, ..Told::of(&point, outcome) }
    }

    fn settings(root: &Path) -> Settings {
        Settings { output: root.join("out"), command: vec!["db".into()], ..Settings::default() }
    }

    fn plan(settings: &Settings) -> Plan {
        Plan::make(settings, Default::default()).unwrap()
    }

    #[test]
    fn what_was_told_and_what_was_suspected_is_there_after_an_interruption() {
        let root = tempfile::tempdir().unwrap();
        let mut settings = settings(root.path());
        let (mut journal, none) = Journal::open(&settings).unwrap();
        assert!(none.is_none());
        journal.begin(&plan(&settings), &settings).unwrap();
        let run = Run { sure: true, alone: false, told: told(2, Outcome::Lost, 1) };
        journal.tell(told(1, Outcome::Recovered, 1)).unwrap();
        journal.add(run.clone()).unwrap();
        drop(journal);
        let path = settings.output.join("outcomes.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{{\"v\":1,\"poi")).unwrap();
        settings.resume = true;
        let (journal, plan) = Journal::open(&settings).unwrap();
        assert!(plan.is_some() && journal.outcomes().len() == 1);
        assert_eq!(journal.runs(2), [run]);
        drop(journal);
        let other = Settings { check: Some("true".into()), ..settings.clone() };
        let failure = Journal::open(&other).err().unwrap();
        assert!(failure.text().contains("--check"), "{}", failure.text());
    }

    #[test]
    fn a_list_leaves_the_sweep_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        let (mut journal, _) = Journal::open(&settings).unwrap();
        journal.begin(&plan(&settings), &settings).unwrap();
        journal.tell(told(1, Outcome::Lost, 1)).unwrap();
        drop(journal);
        let list = Settings { list: true, ..settings.clone() };
        let (mut journal, _) = Journal::open(&list).unwrap();
        journal.begin(&plan(&list), &list).unwrap();
        journal.discard().unwrap();
        let names = fs::read_dir(root.path()).unwrap().map(|it| it.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["out"]);
        let again = Settings { resume: true, ..settings };
        assert_eq!(Journal::open(&again).unwrap().0.outcomes().len(), 1);
    }

    #[test]
    fn what_was_bad_is_tried_until_it_is_made_again() {
        let is_bad = |it: &Told| it.outcome == Outcome::Lost;
        let first = vec![told(1, Outcome::Lost, 1), told(2, Outcome::NotReached, 0)];
        let (kept, again) = iterated(first.clone(), &[], is_bad);
        assert_eq!((kept, again.clone()), (vec![first[1].clone()], vec![first[0].clone()]));
        let renamed = told(1, Outcome::NotReached, 0);
        let (kept, again) = iterated(vec![first[1].clone(), renamed], &again, is_bad);
        assert_eq!((kept.len(), &again), (1, &vec![first[0].clone()]), "as it was bad");
        let (kept, again) = iterated(Vec::new(), &again, is_bad);
        assert_eq!((kept.len(), &again), (0, &vec![first[0].clone()]), "not tried yet");
        let repaired = told(1, Outcome::Recovered, 1);
        assert_eq!(iterated(vec![repaired.clone()], &again, is_bad), (vec![repaired], vec![]));
    }
}
