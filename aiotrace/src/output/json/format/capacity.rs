//! The object of `aiotrace capacity`.

use super::{Name, described::part};

part! {
    /// `capacity`: what one more instance of each program would take from fs.aio-max-nr.
    "" CapacityLine {
        /// The version of the format.
        v: u32,
        /// What the line is about.
        event: Name,
        /// fs.aio-nr of the whole machine. It may exceed `aio_max_nr`.
        aio_nr: u64,
        /// fs.aio-max-nr.
        aio_max_nr: u64,
        /// What is left of it.
        free: u64,
        /// The sum of the charges that could be listed; what it lacks to `aio_nr` is held elsewhere, or changes.
        accounted: u64,
        /// What an instance is (`--by`).
        by: Name = ["process", "unit", "container", "pod"],
        /// The programs with contexts, those that take most first.
        programs: Vec<CapacityRow>,
        /// Processes with contexts that are no instance (with `--by unit`, for instance, those in no unit), and what
        /// they hold.
        others: u64,
        /// The charge of these.
        others_charge: u64,
        /// What the rings of all contexts take.
        rings: RingsObject,
        /// With `--need`: whether so many more fit; otherwise null.
        need: Option<NeedObject>,
    }
}
part! {
    /// A program and what one more instance of it would take.
    "program in capacity" CapacityRow {
        /// The name of the process, unit, container or pod.
        program: String,
        /// Its instances that hold contexts.
        instances: u64,
        /// Their contexts.
        contexts: u64,
        /// What they take from fs.aio-nr, together.
        charge: u64,
        /// What one more takes: what the instance that has most takes now.
        one_more: u64,
        /// How many more fit into `free`.
        fit: u64,
        /// Bytes of the rings of the instance that has most; null if one of them could not be read.
        ring_bytes: Option<u64>,
    }
}
part! {
    /// The rings of contexts, which are memory that is never swapped out.
    "rings in capacity" RingsObject {
        /// The contexts whose ring could be read.
        contexts: u64,
        /// The contexts whose ring could not be read, because it is unmapped, for instance.
        unread: u64,
        /// The charge of the contexts whose ring could be read.
        charge: u64,
        /// The bytes of their rings: whole pages.
        bytes: u64,
    }
}
part! {
    /// Whether what is needed fits.
    "need in capacity" NeedObject {
        /// The program; null with `--charge`.
        program: Option<String>,
        /// How many more are needed.
        instances: u64,
        /// What one of them takes.
        one_more: u64,
        /// What all of them take.
        charge: u64,
        /// Whether they fit.
        fits: bool,
        /// The lowest fs.aio-max-nr into which they fit.
        limit: u64,
        /// Bytes that their rings take, at the size of those that were read; null if that is unknown.
        ring_bytes: Option<u64>,
    }
}
