//! `--cgroup PATH`: a directory of the cgroup v2 hierarchy.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

/// Where the hierarchy usually is; with both hierarchies it is the second.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A cgroup.
#[derive(Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The kernel's number for it.
    pub id: u64,
    /// Its depth below the root.
    pub level: u32,
    directory: PathBuf,
}

impl Cgroup {
    /// The processes that are in it, or below it, now.
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

/// Finds the cgroup of a path: absolute, or as /proc/PID/cgroup shows it.
pub fn find(path: &Path) -> Result<Cgroup> {
    if is_in_a_namespace() {
        bail!(
            "inside of a cgroup namespace (a container) the kernel's path of a cgroup is not known: \
             run aiotrace on the host, or name processes with -p"
        );
    }
    let directory = locate(path)?;
    let id = std::fs::metadata(&directory)
        .with_context(|| format!("cannot look at {}", directory.display()))?
        .ino();
    let level = directory.ancestors().skip(1).take_while(|it| is_cgroup2(it)).count() as u32;
    Ok(Cgroup { id, level, directory })
}

fn is_in_a_namespace() -> bool {
    /// `PROC_CGROUP_INIT_INO` of include/linux/proc_ns.h: the same on every kernel.
    const INITIAL: u64 = 0xEFFF_FFFB;
    std::fs::metadata("/proc/self/ns/cgroup").is_ok_and(|it| it.ino() != INITIAL)
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
