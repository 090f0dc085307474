//! How much of fs.aio-max-nr one more instance of each program takes, and how many more fit.
//!
//! A context takes from fs.aio-nr what io_setup was asked for, and io_setup fails if the sum would exceed fs.aio-max-nr:
//! <https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L796>. The limit itself takes no memory; the rings of contexts
//! do, and their pages are there as soon as there is a context.

use std::collections::BTreeMap;

use crate::{
    failure::{Failure, Result},
    names::By,
    output::json::{
        CapacityLine, CapacityRow, ListedContext, ListedProcess, ListingLine, NeedObject,
        RingsObject, VERSION,
    },
    proc::system::page_size,
};

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What an instance is.
    pub by: By,
    /// Only these programs; all if there are none.
    pub programs: Vec<String>,
    /// How many more are needed.
    pub need: Option<u64>,
    /// What one of these takes, if it is no program that runs.
    pub charge: Option<u64>,
}

/// Bytes of the header of a ring, and of an entry (`struct aio_ring`, `struct io_event`):
/// <https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L59>.
const HEADER: u64 = 32;
/// See [`HEADER`].
const ENTRY: u64 = 32;
/// The kernel keeps this much of a name.
const LONGEST_NAME: usize = 15;

/// One instance.
#[derive(Clone, Debug, Default)]
struct Instance {
    contexts: u64,
    charge: u64,
    ring_bytes: Option<u64>,
}

/// Answers, from a list of all contexts.
///
/// # Errors
/// If charges are unknown (without BPF), if a program is named that holds no context, or if it is not clear what is needed.
pub fn examine(listing: &ListingLine, asked: &Asked) -> Result<CapacityLine> {
    let Some(accounted) = listing.accounted else {
        let failure =
            Failure::new("charges are unknown without BPF, so nobody knows what one more takes");
        return Err(failure.with_hint("run as root; `aiotrace doctor` says why BPF does not work"));
    };
    if listing.lost > 0 {
        let text = format!(
            "{} contexts could not be listed, so the charges are not all known",
            listing.lost
        );
        return Err(Failure::new(text).with_hint("try again"));
    }
    let free = listing.aio_max_nr.saturating_sub(listing.aio_nr);
    let (mut programs, mut others) = (BTreeMap::new(), Vec::new());
    for process in &listing.processes {
        let Some((program, instance)) = name(process, asked.by) else {
            others.push(process);
            continue;
        };
        let instances: &mut BTreeMap<_, Instance> = programs.entry(program).or_default();
        let first = Instance { ring_bytes: Some(0), ..Instance::default() };
        add(instances.entry(instance).or_insert(first), process);
    }
    let mut programs: Vec<CapacityRow> = programs
        .into_iter()
        .map(|(program, all)| row(program, &all.into_values().collect::<Vec<_>>(), free))
        .collect();
    programs.sort_by(|a, b| b.charge.cmp(&a.charge).then_with(|| a.program.cmp(&b.program)));
    let rings = rings(listing);
    let shown = chosen(programs, asked)?;
    let need = asked.need.map(|count| need(count, &shown, asked, listing, &rings)).transpose()?;
    let by = match asked.by {
        By::Process => "process",
        By::Unit => "unit",
        By::Container => "container",
        By::Pod => "pod",
    };
    Ok(CapacityLine {
        v: VERSION,
        event: "capacity".into(),
        aio_nr: listing.aio_nr,
        aio_max_nr: listing.aio_max_nr,
        free,
        accounted,
        by: by.into(),
        programs: shown,
        others: others.len() as u64,
        others_charge: others.iter().filter_map(|it| it.charge).sum(),
        rings,
        need,
    })
}

/// The name of the program, and what tells its instances apart.
fn name(process: &ListedProcess, by: By) -> Option<(String, String)> {
    let twice = |it: String| (it.clone(), it);
    match by {
        By::Process => Some((process.name.clone(), process.pid.to_string())),
        By::Unit => process.unit.clone().map(twice),
        By::Container => {
            let id = process.container.clone()?;
            Some((process.container_name.clone().unwrap_or_else(|| id.clone()), id))
        }
        By::Pod => {
            let pod = process.pod.as_ref()?;
            Some(twice(format!("{}/{}", pod.namespace.as_ref()?, pod.name.as_ref()?)))
        }
    }
}

fn add(instance: &mut Instance, process: &ListedProcess) {
    instance.contexts += process.contexts.len() as u64;
    instance.charge += process.charge.unwrap_or(0);
    for context in &process.contexts {
        instance.ring_bytes = instance.ring_bytes.zip(ring_bytes(context)).map(|(a, b)| a + b);
    }
}

/// The bytes of a context's ring: whole pages.
fn ring_bytes(context: &ListedContext) -> Option<u64> {
    let bytes = HEADER + ENTRY * u64::from(context.ring?);
    Some(bytes.next_multiple_of(page_size() as u64))
}

fn row(program: String, all: &[Instance], free: u64) -> CapacityRow {
    let sum = |of: fn(&Instance) -> u64| all.iter().map(of).sum();
    let most = all.iter().max_by_key(|it| it.charge);
    let one_more = most.map_or(0, |it| it.charge);
    CapacityRow {
        program,
        instances: all.len() as u64,
        contexts: sum(|it| it.contexts),
        charge: sum(|it| it.charge),
        one_more,
        fit: free / one_more.max(1),
        ring_bytes: most.and_then(|it| it.ring_bytes),
    }
}

fn rings(listing: &ListingLine) -> RingsObject {
    let mut rings = RingsObject { contexts: 0, unread: 0, charge: 0, bytes: 0 };
    for context in listing.processes.iter().flat_map(|it| &it.contexts) {
        match (ring_bytes(context), context.charge) {
            (Some(bytes), Some(charge)) => {
                rings.contexts += 1;
                rings.charge += u64::from(charge);
                rings.bytes += bytes;
            }
            _ => rings.unread += 1,
        }
    }
    rings
}

impl RingsObject {
    /// What rings would take for this charge, if they were like those that were read.
    pub fn bytes_for(&self, charge: u64) -> Option<u64> {
        let bytes = u128::from(charge) * u128::from(self.bytes) / u128::from(self.charge.max(1));
        u64::try_from(bytes).ok().filter(|_| self.charge > 0)
    }
}

/// The programs that were named.
fn chosen(all: Vec<CapacityRow>, asked: &Asked) -> Result<Vec<CapacityRow>> {
    if asked.programs.is_empty() {
        return Ok(all);
    }
    // A name of a process is compared as the kernel keeps it.
    let kept = |name: &str| match asked.by {
        By::Process => name.get(..LONGEST_NAME).unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    };
    let wanted: Vec<String> = asked.programs.iter().map(|it| kept(it)).collect();
    if let Some(missing) = wanted.iter().find(|name| all.iter().all(|it| it.program != **name)) {
        let text = format!(
            "{} holds no AIO context now, so what one takes is not known",
            crate::words::escape::escaped(missing.as_bytes())
        );
        return Err(Failure::new(text)
            .with_hint(there_are(&all) + "; --charge N says what one takes that does not run"));
    }
    Ok(all.into_iter().filter(|it| wanted.contains(&it.program)).collect())
}

/// Most programs in a hint.
const SHOWN: usize = 10;

fn there_are(all: &[CapacityRow]) -> String {
    let names: Vec<&str> = all.iter().take(SHOWN).map(|it| &*it.program).collect();
    match names.is_empty() {
        true => "no program holds contexts now".to_owned(),
        false => format!("these hold contexts: {}", names.join(", ")),
    }
}

fn need(
    instances: u64,
    programs: &[CapacityRow],
    asked: &Asked,
    listing: &ListingLine,
    rings: &RingsObject,
) -> Result<NeedObject> {
    let (program, one_more, ring_bytes) = match (asked.charge, &asked.programs[..]) {
        (Some(charge), _) => (None, charge, rings.bytes_for(charge)),
        (None, [_]) => {
            let it = programs.first();
            let one_more = it.map_or(0, |it| it.one_more);
            let measured = it.and_then(|it| it.ring_bytes).or_else(|| rings.bytes_for(one_more));
            (it.map(|it| it.program.clone()), one_more, measured)
        }
        (None, _) => {
            let failure = Failure::new(format!("{instances} more of which program?"));
            return Err(failure.with_hint(
                there_are(programs) + "; name one, or say with --charge N what one takes",
            ));
        }
    };
    let charge = one_more.checked_mul(instances);
    let limit = charge.and_then(|it| it.checked_add(listing.aio_nr));
    let (Some(charge), Some(limit)) = (charge, limit) else {
        return Err(Failure::new("so many take more than any limit can be"));
    };
    Ok(NeedObject {
        program,
        instances,
        one_more,
        charge,
        fits: limit <= listing.aio_max_nr,
        limit,
        ring_bytes: ring_bytes.and_then(|it| it.checked_mul(instances)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::json::{Hex, PodObject};

    fn process(pid: u32, name: &str, charges: &[u32]) -> ListedProcess {
        let context = |charge: &u32| ListedContext {
            handle: Hex(0x1000),
            charge: Some(*charge),
            // A page has 127 entries behind the header.
            ring: Some(127),
            unreaped: Some(0),
            in_flight: Some(0),
            in_flight_at_most: Some(0),
        };
        ListedProcess {
            pid,
            name: name.into(),
            cgroup: None,
            unit: None,
            container: None,
            container_name: None,
            pod: None,
            who: None,
            charge: Some(charges.iter().map(|it| u64::from(*it)).sum()),
            unreaped: Some(0),
            in_flight: Some(0),
            in_flight_at_most: Some(0),
            contexts: charges.iter().map(context).collect(),
        }
    }

    fn listing(aio_nr: u64, processes: Vec<ListedProcess>) -> ListingLine {
        ListingLine {
            v: 1,
            event: "ls".into(),
            source: "bpf".into(),
            aio_nr,
            aio_max_nr: 65_536,
            accounted: Some(processes.iter().filter_map(|it| it.charge).sum()),
            changing: false,
            lost: 0,
            unknown: 0,
            processes,
            exiting: Vec::new(),
        }
    }

    fn two() -> ListingLine {
        let mut db = process(1, "mariadbd", &[2048, 2048]);
        db.unit = Some("mariadb.service".into());
        let pod = |name: &str| {
            let text = |it: &str| Some(it.to_owned());
            Some(PodObject {
                uid: None,
                namespace: text("shop"),
                name: text(name),
                container: None,
            })
        };
        let mut small = process(2, "mariadbd", &[8]);
        small.pod = pod("db-0");
        let mut other = process(3, "fio", &[128]);
        other.pod = pod("db-0");
        listing(5_000, vec![db, small, other])
    }

    fn asked(need: u64, programs: &[&str]) -> Asked {
        let programs = programs.iter().map(|it| (*it).to_owned()).collect();
        Asked { need: Some(need), programs, ..Asked::default() }
    }

    #[test]
    fn one_more_takes_what_the_largest_takes() {
        let found = examine(&two(), &Asked::default()).unwrap();
        let row = &found.programs[0];
        assert_eq!((&*row.program, row.instances, row.contexts), ("mariadbd", 2, 3));
        assert_eq!((row.charge, row.one_more, row.fit), (4_104, 4_096, (65_536 - 5_000) / 4_096));
        assert_eq!(row.ring_bytes, Some(2 * 4_096));
        assert_eq!((found.free, found.accounted, found.others), (60_536, 4_232, 0));
        let RingsObject { contexts, charge, bytes, unread } = found.rings;
        assert_eq!((contexts, charge, bytes, unread), (4, 4_232, 4 * 4_096, 0));
    }

    #[test]
    fn instances_are_processes_units_or_pods() {
        let by = |by| {
            let found = examine(&two(), &Asked { by, ..Asked::default() }).unwrap();
            let rows = found.programs.into_iter().map(|it| (it.program, it.one_more));
            (rows.collect::<Vec<_>>(), found.others, found.others_charge)
        };
        assert_eq!(by(By::Unit), (vec![("mariadb.service".into(), 4_096)], 2, 136));
        assert_eq!(by(By::Pod), (vec![("shop/db-0".into(), 136)], 1, 4_096));
        assert_eq!(by(By::Container).0, []);
    }

    #[test]
    fn what_is_needed_fits_up_to_the_last_one() {
        let fits = |need| examine(&two(), &asked(need, &["mariadbd"])).unwrap().need.unwrap();
        let fourteen = fits(14);
        assert_eq!((fourteen.fits, fourteen.charge, fourteen.limit), (true, 57_344, 62_344));
        assert_eq!(fourteen.ring_bytes, Some(14 * 8_192));
        assert!(!fits(15).fits && fits(0).fits);
        // The kernel refuses what exceeds the limit, and not what reaches it.
        let exactly = Asked { need: Some(1), charge: Some(60_536), ..Asked::default() };
        assert!(examine(&two(), &exactly).unwrap().need.unwrap().fits);
        let more = Asked { charge: Some(60_537), ..exactly };
        assert!(!examine(&two(), &more).unwrap().need.unwrap().fits);
    }

    #[test]
    fn a_limit_that_was_lowered_leaves_nothing() {
        let full = listing(70_000, vec![process(1, "db", &[70_000])]);
        let found = examine(&full, &asked(1, &["db"])).unwrap();
        assert_eq!((found.free, found.programs[0].fit), (0, 0));
        assert!(!found.need.unwrap().fits);
    }

    #[test]
    fn what_is_unknown_is_no_answer() {
        let error = |listing: &ListingLine, asked: &Asked| examine(listing, asked).unwrap_err();
        let unknown = ListingLine { accounted: None, ..two() };
        assert!(error(&unknown, &Asked::default()).text().contains("unknown without BPF"));
        let lost = ListingLine { lost: 1, ..two() };
        assert!(error(&lost, &Asked::default()).text().contains("could not be listed"));
        let missing = error(&two(), &asked(1, &["postgres"]));
        assert!(missing.text().starts_with("postgres holds no AIO context"), "{missing:?}");
        assert!(missing.hint().unwrap().contains("mariadbd, fio"), "{missing:?}");
        for which in [&[][..], &["mariadbd", "fio"]] {
            assert!(error(&two(), &asked(3, which)).text().contains("3 more of which program?"));
        }
        let huge = Asked { need: Some(u64::MAX), charge: Some(2), ..Asked::default() };
        assert!(error(&two(), &huge).text().contains("more than any limit"));
        let mut unread = two();
        unread.processes[0].contexts[0].ring = None;
        let found = examine(&unread, &asked(2, &["mariadbd"])).unwrap();
        assert_eq!((found.programs[0].ring_bytes, found.rings.unread), (None, 1));
        let estimate = found.rings.bytes_for(4_096);
        assert_eq!(
            found.need.unwrap().ring_bytes,
            estimate.map(|it| 2 * it),
            "at the size of the others"
        );
    }
}
