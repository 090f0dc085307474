//! Answers the questions of the model, which need a look at the running system. A look at a process
//! is an errand for a helper ([`crate::errand`]).

use aiotrace_common::settings::target;

use crate::{
    errand::{Below, Errand as _, Place},
    event::{Handle, Holder, Limit, RingFound, User},
    proc::{self, ring::AtPlace, system::sysctl_number},
    source::bpf::{list::Lister, machine},
};

/// The largest number of holders of fs.aio-nr that an answer names.
const MOST_HOLDERS: usize = 10;

/// The ring of a context, whether a thread is in io_destroy of it, and for how many completions a
/// thread waits. `is_known`: whether a handle belongs to a known context.
pub fn at_ring(
    pid: u32,
    ctx: Handle,
    is_known: impl Fn(Handle) -> bool,
) -> (RingFound, bool, Option<i64>) {
    let place = Place { pid, handle: ctx }.ask();
    let Some(AtPlace { ring, is_readable, mapped, destroying, awaited }) = place else {
        return (RingFound::Unknown, false, None);
    };
    let found = match (ring, mapped) {
        (Some(ring), _) => RingFound::There(ring),
        // A mapped ring that belongs to no known context may be this context's ring, moved.
        (None, Some(rings)) if rings.iter().all(|it| *it != ctx && is_known(*it)) => {
            if is_readable { RingFound::Covered } else { RingFound::Unmapped }
        }
        _ => RingFound::Unknown,
    };
    (found, destroying, awaited)
}

/// The processes below this one that have contexts, without those that are `traced`.
pub fn below(pid: u32, traced: impl Fn(u32) -> bool) -> Vec<User> {
    let all = Below { pid }.ask().unwrap_or_default();
    let user = |(pid, contexts)| {
        Some(User { pid, name: proc::name(pid)?, contexts }).filter(|_| !traced(pid))
    };
    all.into_iter().filter_map(user).collect()
}

/// How much of fs.aio-max-nr is in use, and who holds it. Without BPF, the holders are not known.
pub fn limit() -> Option<Limit> {
    let (used, limit) = (sysctl_number("fs/aio-nr")?, sysctl_number("fs/aio-max-nr")?);
    let listed = machine::settings(target::ALL)
        .and_then(|settings| Lister::load(&settings))
        .and_then(|mut lister| lister.list());
    let mut holders: Vec<Holder> = Vec::new();
    for it in listed.map_or(Vec::new(), |(contexts, _)| contexts) {
        match holders.iter_mut().find(|known| known.pid == it.pid) {
            Some(known) => {
                known.contexts += 1;
                known.charge += u64::from(it.charge);
            }
            None => holders.push(Holder {
                pid: it.pid,
                name: proc::name(it.pid).unwrap_or_default(),
                contexts: 1,
                charge: u64::from(it.charge),
            }),
        }
    }
    holders.sort_by_key(|it| (std::cmp::Reverse(it.charge), it.pid));
    holders.truncate(MOST_HOLDERS);
    Some(Limit { used, limit, holders })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_ring_is_it_is_unmapped_and_where_nobody_is_nothing_is_known() {
        let page = vec![0u64; 1024];
        let at = Handle(page.as_ptr() as u64);
        let us = std::process::id();
        assert_eq!(at_ring(us, at, |_| true), (RingFound::Covered, false, None));
        assert_eq!(at_ring(us, Handle(8), |_| true), (RingFound::Unmapped, false, None));
        assert_eq!(at_ring(u32::MAX, at, |_| true), (RingFound::Unknown, false, None));
    }
}
