//! The object of `aiotrace ls`.

use aiotrace_model::trace::Pod;

use super::{Hex, Name, described::part};
use crate::output::escape::escaped;

part! {
    /// `ls`: every AIO context on the machine. The line has no time: it shows the moment of the look.
    "" ListingLine {
        /// The version of the format.
        v: u32,
        /// What the line is about.
        event: Name,
        /// `bpf`: the kernel's own tables. `proc`: mappings of rings, which do not tell whether a context is the
        /// process's own, nor its charge.
        source: Name = ["bpf", "proc"],
        /// fs.aio-nr of the whole machine. It may exceed `aio_max_nr`.
        aio_nr: u64,
        /// fs.aio-max-nr.
        aio_max_nr: u64,
        /// Sum of all `charge`; null with `proc`.
        accounted: Option<u64>,
        /// `aio_nr` changed during each of ten looks, so it and `accounted` may disagree.
        changing: bool,
        /// Contexts that could not be listed.
        lost: u32,
        /// With `proc`: processes that could not be looked at (they belong to others, or did not answer), whose
        /// contexts are not in the list.
        unknown: u32,
        /// The processes with contexts, sorted by charge. Processes that share an address space appear once.
        processes: Vec<ListedProcess>,
        /// Processes that are in exit and wait there for AIO requests in flight. Their contexts and charges are gone
        /// already, so no other list has them.
        exiting: Vec<ExitingProcess>,
    }
}
part! {
    /// A process that is in exit.
    "" ExitingProcess {
        pid: u32,
        name: String,
        /// the thread that waits
        tid: u32,
    }
}
part! {
    /// A process with contexts.
    "process in ls" ListedProcess {
        /// The process.
        pid: u32,
        /// Name of the process.
        name: String,
        /// The process's cgroup (v2); null if it has none.
        cgroup: Option<String>,
        /// The unit of the machine's systemd, a service or a scope, as its cgroup tells; null if it is in none.
        unit: Option<String>,
        /// What made the container and the beginning of its id, as the name of the cgroup tells, for instance
        /// `docker:0123456789ab`; null if it does not tell.
        container: Option<String>,
        /// The name of the container, from the files of what made it; null if they do not tell.
        container_name: Option<String>,
        /// The pod of Kubernetes; null if it is in none.
        pod: Option<PodObject>,
        /// The one of these that says most, as the table shows it; null if there is none.
        who: Option<String>,
        /// What the contexts take from fs.aio-nr; null if that is unknown.
        charge: Option<u64>,
        /// Completions that are not reaped; null if one of the rings could not be read.
        unreaped: Option<u64>,
        /// Requests in flight; null if the number is unknown for one of the contexts.
        in_flight: Option<u64>,
        /// Upper bound of the requests in flight.
        in_flight_at_most: Option<u64>,
        /// The contexts, those with the largest charge first.
        contexts: Vec<ListedContext>,
    }
}
part! {
    /// A pod of Kubernetes.
    "pod" PodObject {
        /// The pod's uid; null if the cgroup does not tell it.
        uid: Option<String>,
        /// The pod's namespace; null, with `name`, if the files of the kubelet and of the container runtime do not tell.
        namespace: Option<String>,
        /// The pod's name.
        name: Option<String>,
        /// The name of the container in the pod; null if it is not told which one it is.
        container: Option<String>,
    }
}

impl PodObject {
    /// A pod that was found.
    pub fn of(it: &Pod) -> Self {
        let text = |it: &Option<String>| it.as_ref().map(|it| escaped(it.as_bytes()));
        Self {
            uid: text(&it.uid),
            namespace: text(&it.namespace),
            name: text(&it.name),
            container: text(&it.container),
        }
    }
}
part! {
    /// A context.
    "context in ls" ListedContext {
        /// The context's handle.
        handle: Hex,
        /// What io_setup was asked for; null if that is unknown.
        charge: Option<u32>,
        /// Number of entries of the ring; null if it is not mapped, or may not be read.
        ring: Option<u32>,
        /// Completions that are not reaped; null if the ring is not mapped, or may not be read.
        unreaped: Option<u32>,
        /// Requests in flight; null where the number cannot be read.
        in_flight: Option<u32>,
        /// Upper bound of the requests in flight; null without BPF.
        in_flight_at_most: Option<u32>,
    }
}
