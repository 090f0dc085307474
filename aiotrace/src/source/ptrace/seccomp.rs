//! The filter of a launched program: with it, the kernel stops the program only at AIO calls.
//!
//! The filter cannot be removed. Without a tracer each of those calls would fail with ENOSYS, so a program that
//! installs it dies with us (`PTRACE_O_EXITKILL`). Children inherit the filter; [`untraced`] handles those that would
//! have no tracer.

use nix::errno::Errno;

use super::untraced;
use crate::{
    arch::{CLONE3, INSTALLS, aio_call, clone},
    seccomp::{self, ANY_BIT, ARCH, EQUAL, LOAD, NUMBER, RETURN, argument, no_new_privileges, op},
};

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
        let is_aio = |number: &u64| aio_call(arch, *number).is_some();
        let is_wanted = |it: &u64| is_aio(it) || installs.contains(it) || *it == CLONE3;
        let numbers: Vec<u32> = (0..LAST).filter(is_wanted).map(|it| it as u32).collect();
        let count = numbers.len() as u8;
        // The jump to the next architecture passes over two loads, the comparisons and two answers.
        filter.push(op(EQUAL, 0, count + 6, arch));
        filter.push(op(LOAD, 0, 0, NUMBER));
        let clone = clone(arch).unwrap_or(LAST) as u32;
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
    use crate::arch::{COMPAT, NATIVE};

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

    /// The calls of a table that stop: those of AIO, clone3, and those that install a filter.
    fn wanted(table: u32) -> Vec<u64> {
        let (_, installs) = INSTALLS.into_iter().find(|it| it.0 == table).unwrap();
        let is_wanted =
            |it: &u64| aio_call(table, *it).is_some() || installs.contains(it) || *it == CLONE3;
        (0..LAST).filter(is_wanted).collect()
    }

    #[test]
    fn aio_calls_are_traced_and_no_others() {
        assert_eq!(traced(NATIVE, 0), wanted(NATIVE));
        assert_eq!(traced(COMPAT, 0), wanted(COMPAT));
        let named = [
            libc::SYS_io_setup,
            libc::SYS_io_destroy,
            libc::SYS_io_submit,
            libc::SYS_io_cancel,
            libc::SYS_io_getevents,
            libc::SYS_prctl,
            libc::SYS_seccomp,
            libc::SYS_clone3,
        ];
        let native = wanted(NATIVE);
        assert!(named.iter().all(|it| native.contains(&(*it as u64))), "{native:?}");
        assert_eq!(native.len(), named.len() + 1, "and io_pgetevents");
        assert_eq!(wanted(COMPAT).len(), native.len() + 1, "and io_pgetevents_time64");
        assert!(traced(1, 0).is_empty(), "no architecture of ours");
    }

    #[test]
    fn a_child_that_nobody_would_trace_is_stopped_for() {
        let all = |arch| {
            (traced(arch, 0), traced(arch, untraced::FLAG | 17), traced(arch, !untraced::FLAG))
        };
        for (arch, clone) in [(NATIVE, libc::SYS_clone as u64), (COMPAT, 120)] {
            let (without, with, other) = all(arch);
            let more: Vec<u64> = with.into_iter().filter(|it| !without.contains(it)).collect();
            assert_eq!((more, other), (vec![clone], without));
        }
    }

    #[test]
    fn a_filter_of_the_programs_own_is_noticed() {
        let of = |option: i32| [option as u64, 0, 0, 0, 0, 0];
        let [prctl, seccomp] = [libc::SYS_prctl, libc::SYS_seccomp].map(|it| it as u64);
        assert!(installs_filter(NATIVE, prctl, &of(libc::PR_SET_SECCOMP)));
        assert!(!installs_filter(NATIVE, prctl, &of(libc::PR_SET_NAME)));
        assert!(installs_filter(NATIVE, seccomp, &[0; 6]));
        assert!(installs_filter(COMPAT, INSTALLS[1].1[1], &[0; 6]));
        assert!(!installs_filter(NATIVE, INSTALLS[1].1[1], &[0; 6]));
    }
}
