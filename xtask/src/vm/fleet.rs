//! Boots all guests, two at a time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result};

use super::{
    boot::{Console, Qemu},
    guest::Guest,
    initramfs::write as write_initramfs,
};
use crate::{arch::Architecture, release};

/// Keeps guests back that would run beside another one, while something else needs the processors.
#[derive(Debug, Default)]
pub struct Gate {
    is_open: Mutex<bool>,
    opens: Condvar,
}

impl Gate {
    /// A gate that keeps nothing back.
    pub fn opened() -> Self {
        Self { is_open: Mutex::new(true), opens: Condvar::new() }
    }

    /// From now on two guests may run.
    pub fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opens.notify_all();
    }

    fn wait(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opens.wait_while(is_open, |is_open| !*is_open));
    }
}

/// Builds what the guests need, and boots them; their logs go to the directory.
pub fn build_and_boot(guests: &[Guest], directory: &Path, gate: &Gate) -> Result<Vec<Ended>> {
    fs::create_dir_all(directory)?;
    let _lock = lock(directory)?;
    let mut consoles: Vec<Option<Ended>> = guests.iter().map(|_| None).collect();
    for arch in Architecture::ALL {
        let of_it: Vec<usize> = (0..guests.len()).filter(|it| guests[*it].arch == arch).collect();
        if of_it.is_empty() {
            continue;
        }
        let initramfs = directory.join(format!("initramfs-{}.cpio", arch.name()));
        write_initramfs(&initramfs, &release::build_for(arch)?, arch)?;
        let qemu = Qemu::new(arch);
        for (index, ended) in boot_all(guests, of_it, &qemu, &initramfs, directory, gate) {
            consoles[index] = Some(ended);
        }
    }
    Ok(consoles.into_iter().flatten().collect())
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

/// What a guest wrote, and how many seconds it took.
pub type Ended = (Result<Console>, f64);

/// Boots those of the guests whose numbers are in `order`, all of one architecture: two at a time once the gate is
/// open, as each takes one processor. Gives what became of each.
fn boot_all(
    guests: &[Guest],
    mut order: Vec<usize>,
    qemu: &Qemu,
    initramfs: &Path,
    directory: &Path,
    gate: &Gate,
) -> BTreeMap<usize, Ended> {
    // Begin with the guests that run a share of the tests for which one guest is enough, as they take
    // longest, and with newer kernels before older ones.
    order.reverse();
    order.sort_by_key(|it| guests[*it].kernel.share.is_none());
    let next = AtomicUsize::new(0);
    let consoles = Mutex::new(BTreeMap::new());
    let boot = || {
        while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let guest = &guests[*index];
            let log = directory.join(format!("{}.log", guest.name()));
            let start = Instant::now();
            eprintln!("booting {}; its console goes to {}", guest.name(), log.display());
            let console = qemu.boot(&guest.file, initramfs, &guest.parameters(), guest.clock, &log);
            let ended = (console, start.elapsed().as_secs_f64());
            consoles.lock().unwrap_or_else(PoisonError::into_inner).insert(*index, ended);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(boot);
        scope.spawn(|| {
            gate.wait();
            boot();
        });
    });
    consoles.into_inner().unwrap_or_else(PoisonError::into_inner)
}
