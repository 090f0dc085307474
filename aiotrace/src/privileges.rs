//! What a process that runs for weeks gives up: `aiotrace serve` begins with the capabilities that its work needs at
//! most, and after the attach keeps those that it still needs.
//!
//! ```text
//!                    begin                     after the attach
//!  aiotrace          BPF, PERFMON, SYS_PTRACE  none (before Linux 5.19: BPF)
//!  its helpers       SYS_PTRACE                SYS_PTRACE: they read the rings
//! ```
//! Nobody has SYS_PTRACE if no ring is read (`--no-unreaped`).
//!
//! Capabilities belong to threads, and a new thread has those of the one that made it: so each thread gives up its own.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno;

use crate::proc::system::{kernel_version, release};

/// Whether [`limit`] was called: all other commands keep what they have.
static IS_LIMITED: AtomicBool = AtomicBool::new(false);

/// What is needed to load and attach probes.
const TO_ATTACH: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];

/// What is needed at most: also to read the rings of other users' processes.
const MOST: [Capability; 3] = [TO_ATTACH[0], TO_ATTACH[1], Capability::CAP_SYS_PTRACE];

/// From this version on, what was loaded may be used without CAP_BPF, whatever
/// kernel.unprivileged_bpf_disabled is: only BPF_MAP_CREATE and BPF_PROG_LOAD ask for it, in `__sys_bpf`:
/// <https://elixir.bootlin.com/linux/v5.19/source/kernel/bpf/syscall.c>.
const USED_WITHOUT_BPF: (u32, u32) = (5, 19);

/// Gives up all that is not needed at all, for good: no program that this process starts gets it back. Call it while
/// there is one thread. `reads_rings`: whether the rings of other users' processes are to be read.
///
/// # Errors
/// If the kernel refuses it.
pub fn limit(reads_rings: bool) -> io::Result<()> {
    let most = if reads_rings { &MOST[..] } else { &TO_ATTACH };

    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    let have = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    if have.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).map_err(io::Error::other)?;
        for it in bounding.into_iter().filter(|it| !most.contains(it)) {
            caps::drop(None, CapSet::Bounding, it).map_err(io::Error::other)?;
        }
    }
    keep(most)?;
    IS_LIMITED.store(true, Ordering::Release);
    Ok(())
}

/// Of a helper process: keeps what it needs to look at other processes.
///
/// # Errors
/// If the kernel refuses it.
pub fn keep_for_helpers() -> io::Result<()> {
    keep(&[Capability::CAP_SYS_PTRACE])
}

/// Gives up what this thread does not need once the probes are attached. It does nothing unless [`limit`] was called.
pub fn drop_after_attach() {
    let needed: &[Capability] = match kernel_version(&release()) < USED_WITHOUT_BPF {
        true => &[Capability::CAP_BPF],
        false => &[],
    };
    drop_all_but(needed);
}

/// Gives up everything, in a thread that needs nothing. It does nothing unless [`limit`] was called.
pub fn drop_all() {
    drop_all_but(&[]);
}

fn drop_all_but(needed: &[Capability]) {
    if IS_LIMITED.load(Ordering::Acquire)
        && let Err(error) = keep(needed)
    {
        eprintln!("aiotrace: cannot give up capabilities: {error}");
    }
}

/// Keeps these capabilities of those that the thread has.
fn keep(needed: &[Capability]) -> io::Result<()> {
    let have = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept: CapsHashSet = have.into_iter().filter(|it| needed.contains(it)).collect();
    // To lower the inheritable ones lowers the ambient ones, too.
    let nothing = CapsHashSet::new();
    caps::set(None, CapSet::Inheritable, &nothing).map_err(io::Error::other)?;
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)?;
    Ok(())
}
