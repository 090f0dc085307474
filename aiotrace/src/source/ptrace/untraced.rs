//! Children that are made so that no tracer gets them: clone(2) and clone3(2) with `CLONE_UNTRACED`.
//!
//! They inherit the filter of a launched program ([`super::seccomp`]), and without a tracer each call that it stops is
//! ENOSYS. So the filter stops them as well, and the flag is taken away until the kernel has made the child: from a
//! register, or, for clone3, from memory, which no filter can look into. (To answer clone3 with ENOSYS, so that the
//! C library takes clone instead, would be seen by who calls it by itself, and clone lacks half of what it can do.)
//! Parent and child have it again before they go on.

use nix::errno::Errno;
use zerocopy::IntoBytes as _;

use super::{
    memory::Memory,
    requests::{self, I386, X86_64},
};

/// `CLONE_UNTRACED`
pub const FLAG: u64 = libc::CLONE_UNTRACED as u64;

/// The number of clone in a table.
pub fn clone(arch: u32) -> Option<u64> {
    match arch {
        X86_64 => Some(56),
        I386 => Some(120),
        _ => None,
    }
}

/// clone3, in each table.
pub const CLONE3: u64 = 435;
/// `CLONE_ARGS_SIZE_VER0` of include/uapi/linux/sched.h. Its flags stand first.
const SMALLEST_ARGS: u64 = 64;

/// What a thread lacks until the call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The first argument of a call from this table was this.
    Register {
        /// Of the table: `AUDIT_ARCH_*`. (A 64-bit program can call from the other one, too.)
        arch: u32,
        /// What it was.
        flags: u64,
    },
    /// The flags of clone3.
    Memory {
        /// Where they stand.
        at: u64,
        /// What they were.
        flags: u64,
    },
}

/// Takes the flag away, if this call, which is about to begin, has it.
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
    // What cannot be changed is as it was before: the child has nobody who answers.
    let taken = flags.filter(|it| memory.write(first, (it & !FLAG).as_bytes()));
    Ok(taken.map(|flags| Taken::Memory { at: first, flags }))
}

/// Gives it back to a stopped thread: the one that called, or the one that was made.
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
    let mut registers = requests::registers(tid)?;
    let register = if arch == I386 { &mut registers.rbx } else { &mut registers.rdi };
    *register = flags;
    requests::set_registers(tid, &registers)
}
