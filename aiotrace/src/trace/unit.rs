//! `--unit NAME`: the cgroup of a systemd unit. Its directory has the name of the unit, so nobody has to be asked.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::cgroup::MOUNTS;
use crate::failure::{Failure, Result};

/// What units with processes are called.
const KINDS: [&str; 3] = [".service", ".scope", ".slice"];
/// Cgroups are not looked at that lie deeper than this.
const DEEPEST: usize = 16;

/// The directory of a unit's cgroup; `None` if the hierarchy of v2 has none. A name without a kind is that of a service.
///
/// # Errors
/// If there is more than one.
pub fn find(name: &str) -> Result<Option<PathBuf>> {
    let whole = whole(name);
    let mount = mount();
    let mut found = mount.map_or_else(Vec::new, |it| below(it, &whole));
    // A system's own unit lies in slices only; those of users and of containers, in other units.
    let is_own = |path: &Path| {
        let above = path.ancestors().skip(1);
        let mut above = above.take_while(|it| mount.is_some_and(|mount| *it != mount));
        above.all(|it| it.extension() == Some(OsStr::new("slice")))
    };
    if found.iter().filter(|it| is_own(it)).count() == 1 {
        found.retain(|it| is_own(it));
    }
    match &found[..] {
        [one] => Ok(Some(one.clone())),
        [] => Ok(None),
        many => {
            let paths: Vec<_> = many.iter().map(|it| it.display().to_string()).collect();
            let text = format!("{} units are called {whole}: {}", many.len(), paths.join(", "));
            Err(Failure::new(text).with_hint("name one of them with --cgroup PATH"))
        }
    }
}

/// The names of all units that have a cgroup.
pub fn units() -> Vec<String> {
    let mut names = BTreeSet::new();
    if let Some(mount) = mount() {
        visit(mount, DEEPEST, &mut |path| {
            let name = path.file_name().and_then(OsStr::to_str);
            names.extend(name.filter(|it| has_kind(it)).map(str::to_owned));
        });
    }
    names.into_iter().collect()
}

/// Where the hierarchy of v2 is mounted.
fn mount() -> Option<&'static Path> {
    let is_v2 =
        |it: &&Path| statfs(*it).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC);
    MOUNTS.iter().map(Path::new).find(is_v2)
}

fn has_kind(name: &str) -> bool {
    KINDS.iter().any(|it| name.ends_with(it))
}

/// The whole name of a unit: one without a kind is that of a service.
pub fn whole(name: &str) -> String {
    if has_kind(name) { name.to_owned() } else { format!("{name}.service") }
}

fn below(root: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    visit(root, DEEPEST, &mut |path| {
        if path.file_name() == Some(OsStr::new(name)) {
            found.push(path.to_owned());
        }
    });
    found
}

/// Visits the directories below this one.
fn visit(directory: &Path, deepest: usize, visitor: &mut impl FnMut(&Path)) {
    let Some(deeper) = deepest.checked_sub(1) else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            visitor(&entry.path());
            visit(&entry.path(), deeper, visitor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_by_the_name_of_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("system.slice/mysql.service");
        fs::create_dir_all(&path).unwrap();
        assert_eq!(below(root.path(), &whole("mysql")), std::slice::from_ref(&path));
        assert_eq!(below(root.path(), &whole("mysql.service")), [path]);
        assert!(below(root.path(), &whole("mysql.scope")).is_empty());
        assert!(below(root.path(), "sql.service").is_empty());
    }

    #[test]
    fn a_unit_that_is_not_there_is_not_found() {
        assert_eq!(find("aiotrace-there-is-none").unwrap(), None);
    }
}
