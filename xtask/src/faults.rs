//! What the virtual machines must say of faults: which mechanisms each kernel has, and that each fault by each
//! of them is received.

/// The kernels, by a part of their file's name, and what they must have. Lockdown forbids to write into the
/// memory of programs. (Measured: docs/faults.md, Mechanisms.)
const KERNELS: [(&str, &str); 6] = [
    ("5.10", "file_permission, write_user, ptrace, not counting"),
    ("6.1-", "file_permission, write_user, ptrace, counting"),
    ("6.12-debian", "file_permission, write_user, ptrace, counting"),
    ("6.12-override", "fmod_ret, override, file_permission, write_user, ptrace, counting"),
    ("6.18", "file_permission roughly, write_user, ptrace, counting"),
    ("7.2", "fmod_ret roughly, file_permission roughly, write_user roughly, ptrace, counting"),
];

/// A rule for which no mechanism is named.
struct Best {
    what: &'static str,
    /// What does it, best first; else ptrace does.
    ways: &'static [&'static str],
    /// It counts calls.
    counts: bool,
    /// Its verdict, and how the program ends.
    end: &'static str,
}

const BESTS: [Best; 6] = [
    Best {
        what: "io_setup:error=EAGAIN:when=1",
        ways: &["fmod_ret", "override"],
        counts: true,
        end: "retried | exit status: 0",
    },
    Best {
        what: "io_submit:accept=2",
        ways: &["file_permission"],
        counts: false,
        end: "retried | exit status: 0",
    },
    Best {
        what: "complete:res=EIO:op=pwrite",
        ways: &["write_user"],
        counts: false,
        end: "lost | exit status: 0",
    },
    Best {
        what: "fio, io_submit:error=EAGAIN:when=3",
        ways: &["fmod_ret", "override", "file_permission"],
        counts: true,
        end: "retried | exit status: 0",
    },
    Best {
        what: "fio, complete:res=EIO:op=pread:when=3",
        ways: &["write_user"],
        counts: true,
        end: "gave_up | exit status: 1",
    },
    Best {
        what: "attach",
        ways: &["fmod_ret", "override", "file_permission"],
        counts: false,
        end: "retried | exit status: 0",
    },
];

impl Best {
    /// The best mechanism where there are these, and whether the kernel may skip it.
    fn mechanism(&self, has: &str) -> (&'static str, bool) {
        let roughly = |way: &str| has.split(", ").any(|it| it == format!("{way} roughly"));
        let exactly = |way: &str| has.split(", ").any(|it| it == way);
        let can_count = exactly("counting");
        let is_usable = |way: &&&str| match self.counts {
            true => can_count && exactly(way),
            false => exactly(way) || roughly(way),
        };
        self.ways.iter().find(is_usable).map_or(("ptrace", false), |it| (*it, roughly(it)))
    }
}

/// What is wrong in the console of a guest; else how many faults were received.
pub fn check(guest: &str, is_locked_down: bool, console: &str) -> Result<u64, Vec<String>> {
    let lines = |start: &str| -> Vec<String> {
        console.lines().filter(|it| it.starts_with(start)).map(str::to_owned).collect()
    };
    let mut wrong: Vec<String> =
        lines("fault ").into_iter().filter(|it| !it.ends_with(" | ok")).collect();
    let mechanisms = lines("mechanisms | ").concat();
    let has = mechanisms.strip_prefix("mechanisms | ").unwrap_or("nothing, the suite did not end");
    let known = KERNELS.iter().find(|(name, _)| guest.contains(name));
    let must = known.map(|(_, must)| {
        must.replace("write_user, ", if is_locked_down { "" } else { "write_user, " })
    });
    if must.as_ref().is_some_and(|must| must != has) || mechanisms.is_empty() {
        wrong.push(format!("it has {has}; it should have {}", must.unwrap_or_default()));
    }
    wrong.extend(lines("overlayfs | WRONG"));
    let tried = lines("best | ");
    for best in &BESTS {
        let (mechanism, may_skip) = best.mechanism(has);
        let head = format!("best | {} | {mechanism} | ", best.what);
        let result = tried.iter().find_map(|it| it.strip_prefix(&head)).unwrap_or("nothing");
        if result != best.end && !(may_skip && result.starts_with("missed | ")) {
            wrong.push(format!("{head}{result}; it should be {}", best.end));
        }
    }
    let received = lines("fault ").len() as u64
        - wrong.iter().filter(|it| it.starts_with("fault ")).count() as u64;
    if wrong.is_empty() { Ok(received) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_not_received_is_wrong_and_so_is_a_missing_mechanism() {
        let console = |has: &str, result: &str| {
            let best =
                |it: &Best| format!("best | {} | {} | {}\n", it.what, it.mechanism(has).0, it.end);
            let bests = BESTS.iter().map(best).collect::<String>();
            format!("mechanisms | {has}\nfault ptrace | x | {result}\n{bests}")
        };
        let good = "file_permission roughly, write_user, ptrace, counting";
        assert_eq!(check("vmlinuz-6.18", false, &console(good, "ok")), Ok(1));
        assert_eq!(
            check("vmlinuz-6.18", false, &console(good, "WRONG: x")).map_err(|it| it.len()),
            Err(1)
        );
        assert!(check("vmlinuz-6.18", false, &console("ptrace, counting", "ok")).is_err());
        let locked = "file_permission, ptrace, counting";
        assert_eq!(check("vmlinuz-6.12-debian", true, &console(locked, "ok")), Ok(1));
        assert_eq!(check("vmlinuz-9.9", false, &console("ptrace, counting", "ok")), Ok(1));
        assert!(check("vmlinuz-9.9", false, "").is_err());
        let by_another = console(good, "ok").replace("| write_user |", "| ptrace |");
        assert!(check("vmlinuz-6.18", false, &by_another).is_err());
        let skipped = console(good, "ok").replacen(
            "file_permission | retried",
            "file_permission | missed",
            1,
        );
        assert_eq!(check("vmlinuz-6.18", false, &skipped), Ok(1), "it may be skipped there");
    }
}
