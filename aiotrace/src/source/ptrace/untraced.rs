//! Children that are made so that they get no tracer: by clone(2) or clone3(2) with `CLONE_UNTRACED`.
//!
//! They inherit the filter of a launched program ([`super::seccomp`]), and without a tracer each call that the filter
//! stops returns ENOSYS. So the filter stops clone and clone3 as well, and we take the flag away until the kernel has
//! made the child: from a register, or, for clone3, from memory, which no filter can look into. (We could answer
//! clone3 with ENOSYS, so that the C library uses clone instead. But a program that calls clone3 by itself would see
//! that, and clone lacks half of what clone3 can do.) Parent and child get the flag back before they go on.

use nix::errno::Errno;
use zerocopy::IntoBytes as _;

use super::{memory::Memory, requests};
use crate::arch::{CLONE3, Registers, clone};

/// `CLONE_UNTRACED`
pub const FLAG: u64 = libc::CLONE_UNTRACED as u64;

/// `CLONE_ARGS_SIZE_VER0` of include/uapi/linux/sched.h. The flags are the first field.
const SMALLEST_ARGS: u64 = 64;

/// The flags from which `CLONE_UNTRACED` was taken, until the call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// They are the first argument of the call, in a register.
    Register {
        /// The table of the call: `AUDIT_ARCH_*`. (A 64-bit program can use the 32-bit table, too.)
        arch: u32,
        /// The flags as they were.
        flags: u64,
    },
    /// They are in memory, where clone3 reads them.
    Memory {
        /// The address of the flags.
        at: u64,
        /// The flags as they were.
        flags: u64,
    },
}

/// Takes the flag away from this call, which is about to begin, if it has it.
///
/// # Errors
/// The thread is dead.
pub fn take(pid: u32, tid: u32, call: &requests::Syscall) -> Result<Option<Taken>, Errno> {
    let [first, second, ..] = call.args();
    if Some(call.number()) == clone(call.arch) && first & FLAG != 0 {
        change_register(tid, call.arch, first & !FLAG)?;
        return Ok(Some(Taken::Register { arch: call.arch, flags: first }));
    }
    if call.number() != CLONE3 || clone(call.arch).is_none() || second < SMALLEST_ARGS {
        return Ok(None);
    }
    let memory = Memory { pid, tid };
    let flags = memory.value::<u64>(first).filter(|it| it & FLAG != 0);
    // If the flags cannot be changed, they stay as they are, and the child will have no tracer.
    let taken = flags.filter(|it| memory.write(first, (it & !FLAG).as_bytes()));
    Ok(taken.map(|flags| Taken::Memory { at: first, flags }))
}

/// Gives the flag back to a stopped thread: the one that called, or the child.
///
/// # Errors
/// The thread is dead.
pub fn give_back(pid: u32, tid: u32, taken: Taken) -> Result<(), Errno> {
    match taken {
        Taken::Register { arch, flags } => change_register(tid, arch, flags),
        Taken::Memory { at, flags } => {
            Memory { pid, tid }.restore(at, flags.as_bytes());
            Ok(())
        }
    }
}

fn change_register(tid: u32, arch: u32, flags: u64) -> Result<(), Errno> {
    let mut registers = Registers::of(tid)?;
    registers.set_first(arch, flags);
    registers.put(tid)
}
