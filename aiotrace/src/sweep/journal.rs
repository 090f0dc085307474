//! The directory of a sweep. What was told is in `outcomes.jsonl` before anybody sees it, so a sweep that was
//! interrupted, in whatever way, can be resumed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde::{Deserialize, Serialize};

use super::{
    Settings,
    outcome::Outcome,
    plan::{Mode, Plan, command},
};
use crate::failure::{Context as _, Failure, Hint as _, Result, bail};

/// What came of one point: a line of `outcomes.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The version of the format: 1.
    pub v: u32,
    /// The number of the point in the plan, from 1.
    pub point: usize,
    /// The id of the call site.
    pub site: String,
    /// Its name, for people.
    pub name: String,
    /// The name of the fault.
    pub fault: String,
    /// `once` or `always`.
    pub mode: Mode,
    /// What came of it.
    pub outcome: Outcome,
    /// What shows it, in words.
    pub evidence: String,
    /// The status of the program: 128 plus the signal, if one ended it; 124 if it took too long.
    pub status: i32,
    /// Whether the check passed; null without one.
    pub check: Option<bool>,
    /// Faults that were made.
    pub made: u64,
    /// How long the run took.
    pub duration_ms: u64,
    /// A command that makes the same fault.
    pub reproducer: String,
    /// What the program wrote; relative to the directory of the sweep.
    pub log: String,
    /// The recording, for `aiotrace report`; null for outcomes that are not bad.
    pub recording: Option<String>,
}

#[cfg(test)]
impl Told {
    /// With this outcome, and nothing else.
    pub fn of(point: &super::plan::Point, outcome: Outcome) -> Self {
        Self {
            v: 1,
            point: point.number,
            site: point.site.clone(),
            name: String::new(),
            fault: point.fault.clone(),
            mode: point.mode,
            outcome,
            evidence: String::new(),
            status: 0,
            check: None,
            made: 1,
            duration_ms: 0,
            reproducer: String::new(),
            log: String::new(),
            recording: None,
        }
    }
}

/// Where the files of a sweep are.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

/// The directory of a sweep, and what was told so far.
pub struct Journal {
    directory: Directory,
    outcomes: Vec<Told>,
    file: File,
    _lock: Flock<File>,
}

impl Journal {
    /// Opens the directory, and the plan that is there if it is to be gone on with. An older sweep is moved to
    /// `DIR.old`.
    pub fn open(settings: &Settings) -> Result<(Self, Option<Plan>)> {
        let directory = &settings.output;
        let goes_on = settings.resume || settings.iterate;
        let is_ours = directory.join("plan.json").exists() || directory.join("lock").exists();
        if !goes_on && directory.exists() {
            let is_empty = fs::read_dir(directory).is_ok_and(|mut it| it.next().is_none());
            if !is_ours && !is_empty {
                let text =
                    format!("{} is there, and is no directory of a sweep", directory.display());
                return Err(Failure::new(text).with_hint("name another one with --output"));
            }
            drop(locked(directory)?);
            let mut old = directory.clone().into_os_string();
            old.push(".old");
            let is_old_ours = Path::new(&old).join("lock").exists();
            if is_old_ours {
                fs::remove_dir_all(&old).context("cannot remove the sweep before the last one")?;
            }
            fs::rename(directory, &old).context("cannot move the last sweep away")?;
        }
        let make = |path: &Path| {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
        };
        make(directory)?;
        // By the lock a directory is known as that of a sweep, so it is the first thing in it.
        let lock = locked(directory)?;
        ["logs", "traces", "recordings", "runs"]
            .iter()
            .try_for_each(|it| make(&directory.join(it)))?;
        // A run that was killed left its directory.
        clear(&directory.join("runs"))?;
        let mut plan = None;
        let mut outcomes = Vec::new();
        if goes_on {
            let found = read_plan(directory)?;
            if found.command != command(settings) {
                return Err(Failure::new("the sweep in this directory was of another command")
                    .with_hint(format!("it was: {}", found.command.join(" "))));
            }
            plan = Some(found);
            outcomes = read_outcomes(directory)?;
        }
        if settings.iterate {
            outcomes.retain(|it| !it.outcome.is_bad() && it.outcome != Outcome::Flaky);
        }
        // Written anew without the line that was perhaps cut short.
        let path = directory.join("outcomes.jsonl");
        let new = directory.join("outcomes.jsonl.new");
        let write = || -> io::Result<File> {
            fs::write(
                &new,
                lines(&outcomes).map_err(|it| io::Error::other(it.text().to_owned()))?,
            )?;
            fs::rename(&new, &path)?;
            OpenOptions::new().append(true).open(&path)
        };
        let file = write().with_context(|| format!("cannot write {}", path.display()))?;
        let directory = Directory(directory.clone());
        Ok((Self { directory, outcomes, file, _lock: lock }, plan))
    }

    /// Writes the plan, before the first fault.
    pub fn write_plan(&self, plan: &Plan) -> Result<()> {
        let text = serde_json::to_vec_pretty(plan)?;
        self.write("plan.json", &text)
    }

    /// Writes a file into the directory, whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let write = || -> io::Result<()> {
            let new = self.directory.0.join(format!("{name}.new"));
            fs::write(&new, bytes)?;
            fs::rename(&new, self.directory.0.join(name))
        };
        write().with_context(|| format!("cannot write {name} in {}", self.directory.0.display()))
    }

    /// Writes down what came of a point.
    pub fn tell(&mut self, told: Told) -> Result<()> {
        let text = lines(&[&told])?;
        let whole = self.file.metadata()?.len();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // No half of a line may stay, to which the next one would be added.
            let _ = self.file.set_len(whole);
        }
        written
            .context("cannot write down an outcome")
            .hint("make room, and go on with --resume: what was told before is kept")?;
        self.outcomes.push(told);
        Ok(())
    }

    /// Where the files are.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What was told so far.
    pub fn outcomes(&self) -> &[Told] {
        &self.outcomes
    }
}

impl Directory {
    /// The place of a file of a run.
    pub fn path(&self, kind: &str, name: &str) -> PathBuf {
        self.0.join(kind).join(name)
    }

    /// The log of a run.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.path("logs", &format!("{name}.log"))
    }

    /// Makes the directory that is fresh for a run.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = fs::canonicalize(self.0.join("runs"))?.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).context("cannot remove the directory of an older run")?;
        }
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

fn locked(directory: &Path) -> Result<Flock<File>> {
    let path = directory.join("lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => bail!("another sweep is using {}", directory.display()),
        Err((_, errno)) => bail!("cannot lock {}: {}", path.display(), errno.desc()),
    }
}

fn clear(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn read_plan(directory: &Path) -> Result<Plan> {
    let path = directory.join("plan.json");
    let bytes = fs::read(&path)
        .with_context(|| format!("cannot read {}", path.display()))
        .hint("there is no sweep to go on with: leave out --resume and --iterate")?;
    let plan: Plan = serde_json::from_slice(&bytes).context("plan.json is damaged")?;
    if plan.v != 1 {
        bail!("the plan has version {}, this aiotrace reads version 1", plan.v);
    }
    Ok(plan)
}

fn read_outcomes(directory: &Path) -> Result<Vec<Told>> {
    let text = match fs::read_to_string(directory.join("outcomes.jsonl")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context("cannot read outcomes.jsonl"),
    };
    // The last line may have been cut short.
    Ok(text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect())
}

/// Outcomes as JSON lines.
pub fn lines<T: std::borrow::Borrow<Told>>(told: &[T]) -> Result<String> {
    let mut text = String::new();
    for it in told {
        text.push_str(&serde_json::to_string(it.borrow())?);
        text.push('\n');
    }
    Ok(text)
}
