//! Answers to the questions of the model: what has to be looked up in the running system. Of a process a helper looks
//! it up ([`crate::errand`]).

use aiotrace_common::settings::target;

use crate::{
    errand::{Errand as _, Place},
    event::{Handle, Holder, Limit, RingFound},
    proc::{self, ring::AtPlace, system::sysctl_number},
    source::bpf::{list::Lister, machine},
};

/// Holders told, at most.
const MOST_HOLDERS: usize = 10;

/// What is in the ring of a context, whether a thread destroys it, and how many completions a thread waits for.
/// `is_known`: whether a handle is that of another known context.
pub fn at_ring(
    pid: u32,
    ctx: Handle,
    is_known: impl Fn(Handle) -> bool,
) -> (RingFound, bool, Option<i64>) {
    let Some(AtPlace { ring, mapped, destroying, awaited }) = (Place { pid, handle: ctx }).ask()
    else {
        return (RingFound::Unknown, false, None);
    };
    let found = match (ring, mapped) {
        (Some(ring), _) => RingFound::There(ring),
        // One that nobody knows is perhaps this one, moved.
        (None, Some(rings)) if rings.iter().all(|it| *it != ctx && is_known(*it)) => {
            RingFound::Unmapped
        }
        _ => RingFound::Unknown,
    };
    (found, destroying, awaited)
}

/// Who holds fs.aio-nr: exact with BPF, else only the limit is known.
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
        assert_eq!(at_ring(std::process::id(), at, |_| true), (RingFound::Unmapped, false, None));
        assert_eq!(at_ring(u32::MAX, at, |_| true), (RingFound::Unknown, false, None));
    }
}
