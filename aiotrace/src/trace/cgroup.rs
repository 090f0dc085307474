//! `--cgroup PATH`: a directory of the cgroup v2 hierarchy. If the directory is mounted somewhere
//! else (`mount --bind`), the depth of its path is not its depth in the hierarchy; the mount says
//! which part of the hierarchy it shows.

use std::{
    ffi::OsStr,
    fs::File,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::{
    failure::{Context as _, Hint as _, Result, bail},
    proc::{descriptor, status_field, system::is_in_a_cgroup_namespace},
};

/// Where the hierarchy usually is mounted; on a machine with v1 and v2 it is the second.
pub(super) const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The kernel's number for the cgroup.
    pub id: u64,
    /// The depth of the cgroup below the root.
    pub level: u32,
    directory: PathBuf,
}

impl Cgroup {
    /// The cgroup with this path, which is absolute, or as /proc/PID/cgroup shows it.
    ///
    /// # Errors
    /// If there is no such cgroup, or if its place in the hierarchy is not known.
    pub fn find(path: &Path) -> Result<Self> {
        if is_in_a_cgroup_namespace() {
            bail!(
                "inside of a cgroup namespace (a container) the kernel's path of a cgroup is not known: \
                 run aiotrace on the host, or name processes with -p"
            );
        }
        let directory = locate(path)?;
        let id = std::fs::metadata(&directory)
            .with_context(|| format!("cannot look at {}", directory.display()))?
            .ino();
        let level = level(&directory)
            .with_context(|| {
                format!("it cannot be told where in the hierarchy {} is", directory.display())
            })
            .hint("give the path that /proc/PID/cgroup shows for a process in it, after `0::`")?;
        Ok(Self { id, level, directory })
    }

    /// The processes that are now in the cgroup, or below it.
    pub fn processes(&self) -> Vec<u32> {
        processes_below(&self.directory)
    }
}

fn processes_below(directory: &Path) -> Vec<u32> {
    let list = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = list.lines().filter_map(|line| line.parse().ok()).collect();
    let below = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in below.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
        pids.extend(processes_below(&entry.path()));
    }
    pids
}

/// The depth of a directory below the root of the hierarchy.
fn level(directory: &Path) -> Result<u32> {
    let opened = File::open(directory)?;
    let about = descriptor::info_of_ours(opened.as_raw_fd()).unwrap_or_default();
    let mount = status_field(&about, "mnt_id");
    let mount = mount.context("the kernel does not say in which mount it is")?;
    let line = descriptor::mount("self", mount)?;
    level_in(directory, &line.context("its mount is not in /proc/self/mountinfo")?)
}

/// The same, of a directory in this mount (its line in /proc/self/mountinfo).
fn level_in(directory: &Path, mount: &[u8]) -> Result<u32> {
    let fields: Vec<Vec<u8>> = mount.split(|it| *it == b' ').map(unescaped).collect();
    let [_, _, _, root, at, ..] = &fields[..] else {
        bail!("its line in /proc/self/mountinfo is short")
    };
    let below = directory.strip_prefix(OsStr::from_bytes(at));
    let below = below.context("it is not where /proc/self/mountinfo has its mount")?;
    if root.split(|it| *it == b'/').any(|it| it == b"..") {
        bail!("its mount shows what is outside of our cgroup namespace");
    }
    let depth = Path::new(OsStr::from_bytes(root)).components().skip(1).count();
    Ok((depth + below.components().count()) as u32)
}

/// Decodes the octal escapes of blanks and other characters: `\040`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut rest = field;
    let mut plain = Vec::with_capacity(field.len());
    while let Some((first, behind)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| behind.get(..3)).flatten();
        let octal = octal.and_then(|it| u8::from_str_radix(str::from_utf8(it).ok()?, 8).ok());
        plain.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &behind[3..] } else { behind };
    }
    plain
}

fn locate(path: &Path) -> Result<PathBuf> {
    if is_cgroup2(path) {
        return Ok(std::fs::canonicalize(path)?);
    }
    let relative = path.strip_prefix("/").unwrap_or(path);
    let found =
        MOUNTS.iter().map(|mount| Path::new(mount).join(relative)).find(|it| is_cgroup2(it));
    match found {
        Some(found) => Ok(std::fs::canonicalize(found)?),
        None if path.exists() => {
            bail!("{} is not a cgroup of the v2 hierarchy (/sys/fs/cgroup)", path.display())
        }
        None => bail!("no such cgroup: {} (see /proc/PID/cgroup, the line `0::`)", path.display()),
    }
}

fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[u8] = b"29 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
    const BY_HAND: &[u8] = b"91 24 0:26 /a/b /mnt/by\\040hand rw shared:4 - cgroup2 cgroup2 rw";
    const OUTSIDE: &[u8] = b"92 24 0:26 /../../x /mnt/outside rw - cgroup2 cgroup2 rw";

    #[test]
    fn the_depth_is_that_in_the_hierarchy_wherever_it_is_mounted() {
        let level = |mount, path: &str| level_in(Path::new(path), mount);
        assert_eq!(level(ALL, "/sys/fs/cgroup").unwrap(), 0);
        assert_eq!(level(ALL, "/sys/fs/cgroup/a/b").unwrap(), 2);
        assert_eq!(level(BY_HAND, "/mnt/by hand").unwrap(), 2);
        assert_eq!(level(BY_HAND, "/mnt/by hand/c").unwrap(), 3);
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let refused =
            |mount, path: &str| level_in(Path::new(path), mount).unwrap_err().text().to_owned();
        assert!(refused(b"", "/mnt/gone").contains("is short"));
        assert!(refused(BY_HAND, "/sys/fs/cgroup/a").contains("not where /proc/self/mountinfo"));
        assert!(refused(OUTSIDE, "/mnt/outside").contains("cgroup namespace"));
    }
}
