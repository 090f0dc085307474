//! The filter of a launched program: with it, the kernel stops the program only at AIO calls.
//!
//! The filter cannot be removed. Without a tracer each of those calls would fail with ENOSYS, so a program that
//! installs it dies with us (`PTRACE_O_EXITKILL`). Children inherit the filter; [`untraced`] handles those that would
//! have no tracer.

use aiotrace_common::abi::{Syscall, from_i386};
use nix::errno::Errno;

use super::{
    requests::{I386, X86_64},
    untraced,
};
use crate::seccomp::{
    self, ANY_BIT, ARCH, EQUAL, LOAD, NUMBER, RETURN, argument, no_new_privileges, op,
};

/// The numbers of prctl(2) and seccomp(2) in each table: by them a program may install a filter of its own.
const INSTALLS: [(u32, [u64; 2]); 2] = [(X86_64, [157, 317]), (I386, [172, 354])];
/// The highest call number in either table.
const LAST: u64 = 600;

/// Whether this call installs a seccomp filter.
pub fn installs_filter(arch: u32, number: u64, args: &[u64; 6]) -> bool {
    let Some((_, [prctl, seccomp])) = INSTALLS.iter().find(|it| it.0 == arch) else { return false };
    number == *seccomp || (number == *prctl && args[0] == libc::PR_SET_SECCOMP as u64)
}

/// Stops the calling thread, and all that it creates, at AIO calls. This needs CAP_SYS_ADMIN; without it the thread
/// gives up the right to gain privileges (`no_new_privs`: set-user-id programs have no effect then).
pub fn install() -> Result<(), Errno> {
    let mut filter = filter();
    match seccomp::install(&mut filter) {
        Err(Errno::EACCES) => {
            no_new_privileges()?;
            seccomp::install(&mut filter)
        }
        other => other,
    }
}

fn filter() -> Vec<libc::sock_filter> {
    let mut filter = vec![op(LOAD, 0, 0, ARCH)];
    for (arch, installs) in INSTALLS {
        let is_aio = |number: &u64| match arch {
            X86_64 => Syscall::from_x86_64(*number).is_some(),
            _ => from_i386(*number).is_some(),
        };
        let is_wanted = |it: &u64| is_aio(it) || installs.contains(it) || *it == untraced::CLONE3;
        let numbers: Vec<u32> = (0..LAST).filter(is_wanted).map(|it| it as u32).collect();
        let count = numbers.len() as u8;
        // The jump to the next architecture passes over two loads, the comparisons and two answers.
        filter.push(op(EQUAL, 0, count + 6, arch));
        filter.push(op(LOAD, 0, 0, NUMBER));
        let clone = untraced::clone(arch).unwrap_or(LAST) as u32;
        filter.push(op(EQUAL, 0, 2, clone));
        filter.push(op(LOAD, 0, 0, argument(0)));
        filter.push(op(ANY_BIT, count + 1, count, untraced::FLAG as u32));
        for (place, number) in (0..).zip(&numbers) {
            filter.push(op(EQUAL, count - place, 0, *number));
        }
        filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
        filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_TRACE));
    }
    filter.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers to a call with this first argument; the test interprets it.
    fn answer(arch: u32, number: u64, first: u64) -> u32 {
        let filter = filter();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let it = filter[at];
            at += 1;
            let mut jump = |is_so| at += usize::from(if is_so { it.jt } else { it.jf });
            match it.code {
                0x20 => loaded = [number as u32, arch, 0, 0, first as u32][it.k as usize / 4],
                0x15 => jump(loaded == it.k),
                0x45 => jump(loaded & it.k != 0),
                0x06 => return it.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    /// The calls that stop if they have this first argument.
    fn traced(arch: u32, first: u64) -> Vec<u64> {
        let is_traced = |it: &u64| answer(arch, *it, first) == libc::SECCOMP_RET_TRACE;
        (0..LAST).filter(is_traced).collect()
    }

    #[test]
    fn aio_calls_are_traced_and_no_others() {
        assert_eq!(traced(X86_64, 0), [157, 206, 207, 208, 209, 210, 317, 333, 435]);
        assert_eq!(traced(I386, 0), [172, 245, 246, 247, 248, 249, 354, 385, 416, 435]);
        assert!(traced(1, 0).is_empty(), "no architecture of ours");
    }

    #[test]
    fn a_child_that_nobody_would_trace_is_stopped_for() {
        let all = |arch| {
            (traced(arch, 0), traced(arch, untraced::FLAG | 17), traced(arch, !untraced::FLAG))
        };
        for (arch, clone) in [(X86_64, 56), (I386, 120)] {
            let (without, with, other) = all(arch);
            let more: Vec<u64> = with.into_iter().filter(|it| !without.contains(it)).collect();
            assert_eq!((more, other), (vec![clone], without));
        }
    }

    #[test]
    fn a_filter_of_the_programs_own_is_noticed() {
        let of = |option: i32| [option as u64, 0, 0, 0, 0, 0];
        assert!(installs_filter(X86_64, 157, &of(libc::PR_SET_SECCOMP)));
        assert!(!installs_filter(X86_64, 157, &of(libc::PR_SET_NAME)));
        assert!(installs_filter(I386, 354, &[0; 6]));
        assert!(!installs_filter(X86_64, 354, &[0; 6]));
    }
}
