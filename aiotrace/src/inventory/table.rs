//! The listing as text for people.

use std::fmt::Write as _;

use crate::{
    output::{
        Listed,
        json::{ListedContext, ListedProcess, ListingLine},
    },
    proc,
    words::number::thousands,
};

impl Listed for ListingLine {
    fn text(&self, verbose: bool) -> String {
        text(self, verbose)
    }
}

/// The line with fs.aio-nr, then a table of processes.
fn text(listing: &ListingLine, verbose: bool) -> String {
    let mut out = String::new();
    let percent = |part: u64, whole: u64| {
        if whole == 0 {
            "-".to_owned()
        } else {
            let percent = part as f64 * 100.0 / whole as f64;
            let digits = if part > 0 && percent < 1.0 { 2 } else { 0 };
            format!("{percent:.digits$} %")
        }
    };
    let _ = write!(
        out,
        "fs.aio-nr {} of {} ({})",
        thousands(listing.aio_nr),
        thousands(listing.aio_max_nr),
        percent(listing.aio_nr, listing.aio_max_nr)
    );
    let holders: Vec<String> = listing.processes.iter().take(3).map(summary).collect();
    if !holders.is_empty() {
        let rest = if listing.processes.len() > holders.len() { ", ..." } else { "" };
        let _ = write!(out, ": {}{rest}", holders.join(", "));
    }
    out.push('\n');
    let in_namespace = proc::system::pid_namespace().is_some();
    let _ = writeln!(out, "{}", accounting(listing, in_namespace));
    if listing.unknown > 0 {
        let processes = match listing.unknown {
            1 => "1 process".to_owned(),
            count => format!("{} processes", thousands(u64::from(count))),
        };
        let _ = writeln!(
            out,
            "{processes} could not be looked at (not ours, or they did not answer): their contexts are not in this list"
        );
    }
    for it in &listing.exiting {
        let _ = writeln!(
            out,
            "{}:{} is in exit and waits there for AIO requests in flight (thread {}, exit_aio): its contexts are gone \
             from the list already",
            it.name, it.pid, it.tid
        );
    }
    if listing.processes.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "\n{:>8} {:<16} {:>8} {:>10} {:>9} {:>9}  POD, CONTAINER, UNIT OR CGROUP",
        "PID", "NAME", "CONTEXTS", "CHARGE", "UNREAPED", "IN FLIGHT"
    );
    for process in &listing.processes {
        let charge = process.charge.map_or("?".to_owned(), thousands);
        // The upper bound is not shown here, as it answers no question: for an idle context it is
        // half of its ring.
        let in_flight = process.in_flight.map_or("?".to_owned(), thousands);
        let unreaped = process.unreaped.map_or("?".to_owned(), thousands);
        let _ = writeln!(
            out,
            "{:>8} {:<16} {:>8} {charge:>10} {unreaped:>9} {in_flight:>9}  {}",
            process.pid,
            process.name,
            process.contexts.len(),
            process.who.as_ref().or(process.cgroup.as_ref()).map_or("-", |it| it),
        );
        for context in process.contexts.iter().filter(|_| verbose) {
            let _ = writeln!(out, "{}", detail(context));
        }
    }
    let is_unknown = listing.processes.iter().any(|it| it.in_flight.is_none());
    if is_unknown && listing.source == "bpf" {
        let why = "IN FLIGHT ?: this kernel does not show what each processor keeps (CONFIG_KALLSYMS_ALL); -v has the most \
                   there can be";
        let _ = writeln!(out, "\n{why}");
    }
    out
}

/// `mariadbd 12 x 2,048`, or the sum if the charges are not all alike.
fn summary(process: &ListedProcess) -> String {
    let name = &process.name;
    let count = process.contexts.len();
    let charges: Vec<Option<u32>> = process.contexts.iter().map(|it| it.charge).collect();
    match (charges.first(), process.charge) {
        (Some(Some(each)), _) if charges.iter().all(|it| *it == Some(*each)) => {
            format!("{name} {} x {}", thousands(count as u64), thousands(u64::from(*each)))
        }
        (_, Some(sum)) => format!("{name} {}", thousands(sum)),
        _ => format!("{name} {} contexts", thousands(count as u64)),
    }
}

fn accounting(listing: &ListingLine, in_namespace: bool) -> String {
    let Some(sum) = listing.accounted else {
        return "charges unknown without BPF; contexts whose ring was unmapped are not found, and a \
                forked child may show its parent's"
            .to_owned();
    };
    if listing.lost > 0 {
        return format!(
            "accounted {}; {} contexts could not be listed",
            thousands(sum),
            listing.lost
        );
    }
    match listing.aio_nr.checked_sub(sum) {
        Some(0) => "accounted 100 %".to_owned(),
        Some(_) | None if listing.changing => {
            format!("accounted {} (fs.aio-nr changes while we look)", thousands(sum))
        }
        Some(rest) if in_namespace => {
            format!(
                "accounted {}, unaccounted {}: other pid namespaces",
                thousands(sum),
                thousands(rest)
            )
        }
        Some(rest) => {
            format!(
                "accounted {}, unaccounted {}: contexts that are ending",
                thousands(sum),
                thousands(rest)
            )
        }
        None => format!("accounted {}: contexts that are beginning", thousands(sum)),
    }
}

fn detail(context: &ListedContext) -> String {
    let charge = context.charge.map_or("?".to_owned(), |it| thousands(u64::from(it)));
    let ring = match (context.ring, context.unreaped) {
        (Some(ring), Some(unreaped)) => {
            let ring = thousands(u64::from(ring));
            let most = context.in_flight_at_most.map(u64::from);
            let in_flight = in_flight(context.in_flight.map(u64::from), most);
            format!("ring of {ring}, {unreaped} unreaped, {in_flight} in flight")
        }
        _ => "ring unmapped or not readable".to_owned(),
    };
    format!("{:>10} {:#x}  {charge}  {ring}", "", context.handle.0)
}

/// `5` if it is known, `<=20` if only a bound is known, or `?`.
fn in_flight(exactly: Option<u64>, at_most: Option<u64>) -> String {
    match (exactly, at_most) {
        (Some(count), _) => thousands(count),
        (None, Some(most)) => format!("<={}", thousands(most)),
        (None, None) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Ring,
        inventory::{Found, listed},
    };

    fn context(handle: u64, charge: Option<u32>) -> ListedContext {
        let found =
            Found { pid: 17, handle, charge, in_flight: Some(5), in_flight_at_most: Some(20) };
        listed(&found, Some(Ring { head: 1, tail: 3, nr: 127 }))
    }

    fn listing(charges: &[u32], aio_nr: u64) -> ListingLine {
        let contexts: Vec<_> =
            charges.iter().zip(1..).map(|(it, at)| context(at * 4096, Some(*it))).collect();
        let charge = charges.iter().map(|it| u64::from(*it)).sum();
        let holder = ListedProcess {
            pid: 17,
            name: "mariadbd".into(),
            cgroup: Some("/db".into()),
            charge: Some(charge),
            unreaped: Some(4),
            in_flight: Some(10),
            in_flight_at_most: Some(40),
            unit: None,
            container: None,
            container_name: None,
            pod: None,
            who: None,
            contexts,
        };
        ListingLine {
            v: 1,
            event: "ls".into(),
            source: "bpf".into(),
            aio_nr,
            aio_max_nr: 65_536,
            accounted: Some(charge),
            changing: false,
            lost: 0,
            unknown: 0,
            processes: vec![holder],
            exiting: Vec::new(),
        }
    }

    #[test]
    fn the_first_line_names_who_holds_most() {
        let shown = text(&listing(&[2048, 2048], 4096), false);
        assert!(
            shown.starts_with("fs.aio-nr 4,096 of 65,536 (6 %): mariadbd 2 x 2,048\n"),
            "{shown}"
        );
        assert!(shown.contains("accounted 100 %"), "{shown}");
        let mixed = text(&listing(&[2048, 8], 2056), true);
        assert!(mixed.contains(": mariadbd 2,056\n"), "{mixed}");
        assert!(mixed.contains("0x1000  2,048  ring of 127, 2 unreaped, 5 in flight"), "{mixed}");
    }

    #[test]
    fn what_is_in_flight_is_known_exactly_or_at_most() {
        assert_eq!(in_flight(Some(1024), Some(2000)), "1,024");
        assert_eq!(in_flight(None, Some(60)), "<=60");
        assert_eq!(in_flight(None, None), "?");
    }

    #[test]
    fn in_a_container_the_rest_is_elsewhere() {
        let text = accounting(&listing(&[8], 10), true);
        assert_eq!(text, "accounted 8, unaccounted 2: other pid namespaces");
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(text(&listing(&[8], 10), false).contains("accounted 8, unaccounted 2: "));
        let lost = ListingLine { lost: 3, ..listing(&[8], 10) };
        assert!(text(&lost, false).contains("3 contexts could not be listed"));
        let proc = ListingLine { accounted: None, ..listing(&[8], 10) };
        assert!(text(&proc, false).contains("charges unknown without BPF"));
        let unknown = ListingLine { unknown: 2, ..listing(&[8], 8) };
        assert!(text(&unknown, false).contains("\n2 processes could not be looked at"));
        let changing = ListingLine { changing: true, ..listing(&[8], 10) };
        assert!(text(&changing, false).contains("changes while we look"));
    }
}
