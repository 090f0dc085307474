//! The object of `aiotrace ls`.

use super::{Hex, Name, described::part};

part! {
    /// `ls`: every AIO context on the machine. There is no time in it: it is what was there at the look.
    "" ListingLine {
        /// The version of the format.
        v: u32,
        /// What the line is about.
        event: Name,
        /// `bpf`: the kernel's own tables. `proc`: mappings of rings, where it is not known whether the context is the
        /// process's own, nor what it takes.
        source: Name = ["bpf", "proc"],
        /// fs.aio-nr, of the whole machine. It may exceed `aio_max_nr`.
        aio_nr: u64,
        /// fs.aio-max-nr.
        aio_max_nr: u64,
        /// Sum of all `charge`; null with `proc`.
        accounted: Option<u64>,
        /// `aio_nr` changed during each of ten looks.
        changing: bool,
        /// Contexts that could not be listed.
        lost: u32,
        /// With `proc`: processes that could not be looked at (not ours, or they did not answer), whose contexts are not in
        /// the list.
        unknown: u32,
        /// Those with contexts, sorted by charge. A process that shares its address space is there once.
        processes: Vec<ListedProcess>,
        /// Processes that are in exit and wait there for AIO requests in flight, which are listed nowhere else any more:
        /// their contexts and charges are gone already.
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
        /// Its name.
        name: String,
        /// Its cgroup (v2); null if it has none.
        cgroup: Option<String>,
        /// The container, as far as the name of the cgroup tells; null if it does not.
        container: Option<String>,
        /// What its contexts take from fs.aio-nr; null if that is not known.
        charge: Option<u64>,
        /// Completed and not reaped; null if one of its rings could not be read.
        unreaped: Option<u64>,
        /// Requests in flight; null if that is not known of one of its contexts.
        in_flight: Option<u64>,
        /// The same, at most.
        in_flight_at_most: Option<u64>,
        /// Its contexts, those that take most first.
        contexts: Vec<ListedContext>,
    }
}
part! {
    /// A context.
    "context in ls" ListedContext {
        /// Its handle.
        handle: Hex,
        /// What io_setup was asked for; null if that is not known.
        charge: Option<u32>,
        /// Entries of the ring; null if it is not mapped, or may not be read.
        ring: Option<u32>,
        /// Completed and not reaped; null if the ring is not mapped, or may not be read.
        unreaped: Option<u32>,
        /// Requests in flight; null where that cannot be read.
        in_flight: Option<u32>,
        /// The same, at most; null without BPF.
        in_flight_at_most: Option<u32>,
    }
}
