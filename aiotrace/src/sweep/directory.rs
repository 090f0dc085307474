//! The directory of a sweep, and where a new one is made while an older one is there.
//!
//! ```text
//!  DIR is not there, is empty, or has no outcome     the sweep is made in DIR
//!  DIR has outcomes                                  it begins in DIR.new; after the baseline DIR becomes DIR.old,
//!                                                    and DIR.new becomes DIR
//! ```
//! So a baseline that fails, and `--list`, cost nobody the outcomes of a night.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::failure::{Context as _, Failure, Hint as _, Result, bail};

/// The directories in it.
const PARTS: [&str; 4] = ["logs", "traces", "recordings", "runs"];
/// The files in it that a new sweep writes.
const FILES: [&str; 6] =
    ["plan.json", "outcomes.jsonl", "runs.jsonl", "iterated.jsonl", "junit.xml", "index.html"];
/// Those that have what was found out.
const KEPT: [&str; 2] = ["outcomes.jsonl", "runs.jsonl"];

/// Where the files of a sweep are.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

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

/// The directory in which a sweep is made. It is locked as long as this lives.
pub struct Place {
    directory: Directory,
    _lock: Flock<File>,
    /// The sweep that is to be moved away.
    older: Option<Older>,
}

struct Older {
    directory: PathBuf,
    /// So that nobody goes on with it meanwhile. There is none for `--list`, which moves nothing.
    _lock: Option<Flock<File>>,
}

impl Place {
    /// For a sweep that goes on: the directory as it is.
    pub fn of_older(directory: &Path) -> Result<Self> {
        if !directory.join("plan.json").exists() {
            return Err(Failure::new(format!("there is no sweep in {}", directory.display()))
                .with_hint("there is nothing to go on with: leave out --resume and --iterate"));
        }
        let lock = locked(directory)?;
        Self::parts(directory)?;
        Ok(Self { directory: Directory(directory.to_owned()), _lock: lock, older: None })
    }

    /// For a new sweep. `moves`: it will take the place of an older one, if there is one.
    pub fn of_new(directory: &Path, moves: bool) -> Result<Self> {
        if has_nothing_to_lose(directory) {
            let lock = Self::emptied(directory)?;
            return Ok(Self {
                directory: Directory(directory.to_owned()),
                _lock: lock,
                older: None,
            });
        }
        if !is_of_sweep(directory) {
            let text = format!("{} is there, and is no directory of a sweep", directory.display());
            return Err(Failure::new(text).with_hint("name another one with --output"));
        }
        let of_older = if moves { Some(locked(directory)?) } else { None };
        let new = beside(directory, "new")?;
        if !has_nothing_to_lose(&new) {
            bail!("{} is there, where the sweep is to begin: move it away", new.display());
        }
        let lock = Self::emptied(&new)?;
        let older = Some(Older { directory: directory.to_owned(), _lock: of_older });
        Ok(Self { directory: Directory(new), _lock: lock, older })
    }

    /// Takes the place of the older sweep, which becomes DIR.old.
    pub fn settle(&mut self) -> Result<()> {
        let Some(older) = self.older.take() else { return Ok(()) };
        let away = beside(&older.directory, "old")?;
        if is_of_sweep(&away) {
            drop(locked(&away)?);
            fs::remove_dir_all(&away).context("cannot remove the sweep before the last one")?;
        }
        let hint = || format!("the plan is in {}", self.directory.0.display());
        fs::rename(&older.directory, &away)
            .context("cannot move the last sweep away")
            .hint(hint())?;
        fs::rename(&self.directory.0, &older.directory)
            .context("cannot put the sweep where the last one was")
            .hint(hint())?;
        self.directory = Directory(older.directory);
        Ok(())
    }

    /// Removes what was made beside an older sweep.
    pub fn discard(&mut self) -> Result<()> {
        if self.older.take().is_some() {
            let path = self.directory.root();
            fs::remove_dir_all(path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Where the files are.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// By the lock a directory is known as that of a sweep, so it is the first thing in it.
    fn emptied(directory: &Path) -> Result<Flock<File>> {
        make(directory)?;
        let lock = locked(directory)?;
        // Somebody else's sweep may have been made there since the look.
        if !has_nothing_to_lose(directory) {
            bail!("another sweep has used {}", directory.display());
        }
        for name in FILES {
            let _ = fs::remove_file(directory.join(name));
        }
        Self::parts(directory)?;
        PARTS.iter().try_for_each(|it| clear(&directory.join(it)))?;
        Ok(lock)
    }

    fn parts(directory: &Path) -> Result<()> {
        PARTS.iter().try_for_each(|it| make(&directory.join(it)))?;
        // A run that was killed left its directory.
        clear(&directory.join("runs"))
    }
}

/// The same name with an ending, in the same directory.
fn beside(directory: &Path, ending: &str) -> Result<PathBuf> {
    let whole = match directory.file_name() {
        Some(_) => directory.to_owned(),
        // Such as `.`
        None => fs::canonicalize(directory)?,
    };
    let mut name = whole.into_os_string();
    name.push(".");
    name.push(ending);
    Ok(name.into())
}

fn is_of_sweep(directory: &Path) -> bool {
    directory.join("plan.json").exists() || directory.join("lock").exists()
}

/// Whether nothing is there but perhaps a sweep without an outcome. (An empty file system has a directory, too.)
fn has_nothing_to_lose(directory: &Path) -> bool {
    if !directory.exists() {
        return true;
    }
    let is_empty = |path: PathBuf| fs::metadata(path).map_or(true, |it| it.len() == 0);
    if is_of_sweep(directory) {
        return KEPT.iter().all(|it| is_empty(directory.join(it)));
    }
    let is_nothing = |it: fs::DirEntry| it.file_name() == OsStr::new("lost+found");
    fs::read_dir(directory).is_ok_and(|mut all| all.all(|it| it.is_ok_and(is_nothing)))
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
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
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A finished sweep, and the one before it.
    fn finished(root: &Path) -> PathBuf {
        let directory = root.join("out");
        for (path, text) in [(directory.clone(), "1"), (root.join("out.old"), "0")] {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("lock"), "").unwrap();
            fs::write(path.join("outcomes.jsonl"), text).unwrap();
        }
        directory
    }

    fn outcomes(path: PathBuf) -> String {
        fs::read_to_string(path.join("outcomes.jsonl")).unwrap()
    }

    #[test]
    fn nothing_is_moved_or_removed_before_the_baseline_has_passed() {
        let root = tempfile::tempdir().unwrap();
        let directory = finished(root.path());
        for moves in [true, false] {
            let mut place = Place::of_new(&directory, moves).unwrap();
            assert_eq!(place.directory().root(), root.path().join("out.new"));
            assert_eq!(locked(&directory).is_ok(), !moves, "nobody goes on with it meanwhile");
            // It failed, or was a list.
            if !moves {
                place.discard().unwrap();
            }
            assert_eq!(outcomes(directory.clone()), "1");
            assert_eq!(outcomes(root.path().join("out.old")), "0");
        }
        assert!(!root.path().join("out.new").exists());
    }

    #[test]
    fn the_last_sweep_becomes_the_old_one_and_the_lock_is_held_meanwhile() {
        let root = tempfile::tempdir().unwrap();
        let directory = finished(root.path());
        let mut place = Place::of_new(&directory, true).unwrap();
        fs::write(place.directory().root().join("outcomes.jsonl"), "2").unwrap();
        place.settle().unwrap();
        assert_eq!(place.directory().root(), directory);
        assert_eq!(outcomes(directory.clone()), "2");
        assert_eq!(outcomes(root.path().join("out.old")), "1");
        assert!(!root.path().join("out.new").exists());
        assert!(locked(&directory).unwrap_err().text().contains("another sweep"));
        drop(place);
        assert!(locked(&directory).is_ok());
    }

    #[test]
    fn a_directory_without_outcomes_is_used_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let of = |name: &str| Place::of_new(&root.path().join(name), true);
        fs::create_dir_all(root.path().join("disk/lost+found")).unwrap();
        for name in ["disk", "new"] {
            let mut place = of(name).unwrap();
            fs::write(place.directory().root().join("plan.json"), "{}").unwrap();
            place.settle().unwrap();
            assert_eq!(place.directory().root(), root.path().join(name));
            drop(place);
            // A sweep that has a plan, and no outcome.
            let place = of(name).unwrap();
            assert_eq!(place.directory().root(), root.path().join(name));
            assert!(!root.path().join(name).join("plan.json").exists(), "it is of the older one");
        }
        assert!(root.path().join("disk/lost+found").exists());
        fs::create_dir_all(root.path().join("other/files")).unwrap();
        let failure = of("other").err().unwrap();
        assert!(failure.text().contains("no directory of a sweep"), "{}", failure.text());
    }

    #[test]
    fn what_is_beside_a_directory_is_not_in_it() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(beside(Path::new("out"), "old").unwrap(), Path::new("out.old"));
        let shown = format!("{}.old", here.display());
        assert_eq!(beside(Path::new("."), "old").unwrap(), Path::new(&shown));
    }
}
