//! The requests that a call, or a completion, is about.

use std::{
    collections::HashMap, ffi::OsString, os::unix::ffi::OsStringExt as _, path::PathBuf, sync::Arc,
};

use aiotrace_common::{
    abi::{IoEvent, Iocb, Syscall},
    record::ITEMS_PER_CALL,
};

use crate::{
    errand::{self, Errand as _},
    fault::Rule,
    source::ptrace::{
        calls::width,
        in_flight::Known,
        tracee::{InCall, Tracee},
    },
    stacks::Site,
};

/// The requests that a call is about. Their iocbs are read when a rule needs them.
pub struct Requests<'a> {
    tracee: &'a Tracee,
    addresses: Addresses<'a>,
    site: Option<Arc<Site>>,
    iocbs: Option<Vec<Iocb>>,
    paths: HashMap<u32, Option<PathBuf>>,
}

enum Addresses<'a> {
    OfCall(&'a InCall),
    /// The iocb of this event: at its address, with its `data`.
    One(IoEvent),
}

impl<'a> Requests<'a> {
    /// The requests of a call that begins.
    pub fn of(tracee: &'a Tracee, call: &'a InCall) -> Self {
        let addresses = Addresses::OfCall(call);
        let site = call.site.clone();
        Self { tracee, addresses, site, iocbs: None, paths: HashMap::new() }
    }

    /// The request whose completion is `event`; `known` is its iocb, if it was submitted during the trace. Otherwise
    /// the iocb is read from where it was, and taken for another request's if its `data` is different.
    pub fn of_event(tracee: &'a Tracee, event: &IoEvent, known: Option<Known>) -> Self {
        let addresses = Addresses::One(*event);
        let (iocbs, site) = known.map_or((None, None), |it| (Some(vec![it.iocb]), it.site));
        Self { tracee, addresses, site, iocbs, paths: HashMap::new() }
    }

    fn read(&self) -> Vec<Iocb> {
        let memory = self.tracee.memory();
        match self.addresses {
            Addresses::One(event) => {
                let found = memory.value(event.obj).into_iter();
                found.filter(|it: &Iocb| it.data == event.data).collect()
            }
            Addresses::OfCall(call) => match call.syscall {
                Syscall::Cancel => memory.value(call.args[1]).into_iter().collect(),
                Syscall::Submit => given(self.tracee, call).map(|it| it.1).collect(),
                _ => Vec::new(),
            },
        }
    }

    /// Whether one of the requests is as the rule describes, and the call (for a completion: the io_submit of its
    /// request) was made where the rule says.
    pub fn has(&mut self, rule: &Rule) -> bool {
        if rule.needs_place() && !self.site.as_ref().is_some_and(|it| it.meets(rule)) {
            return false;
        }
        if let Addresses::One(event) = self.addresses
            && !rule.may_replace(event.res)
        {
            return false;
        }
        if !rule.describes_requests() {
            return true;
        }
        if self.iocbs.is_none() {
            self.iocbs = Some(self.read());
        }
        let (pid, tid) = (self.tracee.pid, self.tracee.tid);
        let Self { iocbs, paths, addresses, .. } = self;
        // Whoever calls has descriptors of its own, perhaps; who submitted what completes is not known.
        let ask = |fd| match addresses {
            Addresses::OfCall(_) => errand::PathOfThread { pid: tid, fd }.ask().flatten(),
            Addresses::One(..) => errand::Path { pid, fd }.ask().flatten(),
        };
        iocbs.iter().flatten().any(|iocb| {
            let path = rule.path.as_ref().and_then(|_| {
                // The path is looked up at this moment: it is the file that the request will use, or has used.
                let path = |it| PathBuf::from(OsString::from_vec(it));
                let look = |fd| ask(fd).map(path);
                paths.entry(iocb.fildes).or_insert_with(|| look(iocb.fildes)).as_deref()
            });
            rule.describes(iocb.opcode, iocb.fildes, path)
        })
    }
}

/// The iocbs of an io_submit that begins, each with its address.
pub fn given<'a>(tracee: &'a Tracee, call: &'a InCall) -> impl Iterator<Item = (u64, Iocb)> + 'a {
    let memory = tracee.memory();
    let width = u64::from(width(call.abi));
    let count = (call.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u64;
    let at = move |index: u64| call.args[2].wrapping_add(index * width);
    let pointers = (0..count).map_while(move |it| tracee.memory().pointer(at(it), call.abi));
    pointers.filter_map(move |it| Some((it, memory.value(it)?)))
}
