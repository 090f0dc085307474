//! Boots all guests, two at a time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, anyhow};

use super::{
    boot::{Console, Qemu},
    guest::Guest,
    initramfs::write as write_initramfs,
};
use crate::{arch::Architecture, binaries};

/// What a guest wrote, and how many seconds it took.
pub type Ended = (Result<Console>, f64);

/// What the guests of one architecture have in common.
struct Kind {
    arch: Architecture,
    qemu: Qemu,
    /// Made by the first who needs it.
    initramfs: OnceLock<Result<PathBuf, String>>,
}

impl Kind {
    fn new(arch: Architecture) -> Self {
        Self { arch, qemu: Qemu::new(arch), initramfs: OnceLock::new() }
    }

    /// Builds what the guests run, if that was not done yet.
    fn initramfs(&self, directory: &Path) -> Result<&Path> {
        let made = self.initramfs.get_or_init(|| {
            let path = directory.join(format!("initramfs-{}.cpio", self.arch.name()));
            let write = |binaries| write_initramfs(&path, &binaries, self.arch);
            binaries::build_for(self.arch).and_then(write).map_err(|it| format!("{it:#}"))?;
            Ok(path)
        });
        made.as_deref().map_err(|it| anyhow!("{it}"))
    }
}

/// Builds what the guests need, and boots them, two at a time, as each takes one processor; their logs go to the
/// directory.
pub fn build_and_boot(guests: &[Guest], directory: &Path) -> Result<Vec<Ended>> {
    fs::create_dir_all(directory)?;
    let _lock = lock(directory)?;
    let kinds: Vec<Kind> = Architecture::ALL
        .into_iter()
        .filter(|arch| guests.iter().any(|it| it.arch == *arch))
        .map(Kind::new)
        .collect();
    let kind_of = |guest: &Guest| kinds.iter().find(|it| it.arch == guest.arch);
    let order = order(guests);
    let next = AtomicUsize::new(0);
    let consoles = Mutex::new(BTreeMap::new());
    let boot = || {
        while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let guest = &guests[*index];
            let Some(kind) = kind_of(guest) else { continue };
            let initramfs = kind.initramfs(directory);
            let log = directory.join(format!("{}.log", guest.name()));
            let start = Instant::now();
            let console = initramfs.and_then(|initramfs| {
                eprintln!("booting {}; its console goes to {}", guest.name(), log.display());
                let (processor, parameters) = (guest.kernel.processor, guest.parameters());
                kind.qemu.boot(&guest.file, initramfs, processor, &parameters, guest.clock, &log)
            });
            let ended = (console, start.elapsed().as_secs_f64());
            consoles.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, ended);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(boot);
        // The guests of other architectures come last: build for them meanwhile. (Who boots one tells an error.)
        for kind in &kinds {
            let _ = kind.initramfs(directory);
        }
        boot();
    });
    Ok(consoles.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect())
}

/// The numbers of the guests in the order in which they are booted. What takes longest comes first, so that both
/// processors have something to do to the end: a guest with a share of the tests for which one guest is enough, then
/// newer kernels, older ones, and those whose kernel another guest has, too. Other architectures, which must be built
/// for first, come last.
fn order(guests: &[Guest]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..guests.len()).rev().collect();
    order.sort_by_key(|it| {
        let guest = &guests[*it];
        (guest.arch.target().is_some(), guest.kernel.is_again, guest.kernel.share.is_none())
    });
    order
}

/// Locks the directory: two of these commands at once would write the same files.
fn lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        eprintln!("another `cargo xtask vm` runs here: waiting for it to end");
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}
