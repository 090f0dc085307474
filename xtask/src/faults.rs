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
    let best = lines("best | ");
    let is_known = |line: &String| {
        has.split(", ").any(|it| line.ends_with(&format!(" | {}", it.trim_end_matches(" roughly"))))
    };
    if best.len() != 3 || !best.iter().all(is_known) {
        wrong.push(format!("of three rules without a mechanism, it had one for {best:?}"));
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
        let best = "best | a | ptrace\nbest | b | ptrace\nbest | c | ptrace\n";
        let console = |mechanisms: &str, result: &str| {
            format!("mechanisms | {mechanisms}\nfault ptrace | x | {result}\n{best}")
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
    }
}
