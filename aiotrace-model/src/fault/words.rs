//! The words of the grammar, and what somebody may have meant who wrote another one.

/// What a rule does.
pub(super) const ACTIONS: [&str; 5] = ["error", "accept", "delay_enter", "delay_exit", "res"];

/// When it does it.
pub(super) const CONDITIONS: [&str; 15] = [
    "when", "prob", "max", "after", "for", "op", "fd", "path", "ctx", "tid", "per", "site",
    "caller", "less", "force",
];

/// Those without a value.
pub(super) const FLAGS: [&str; 2] = ["less", "force"];

/// Actions that strace has and we do not.
pub(super) const STRACE_ONLY: [&str; 5] =
    ["retval", "signal", "syscall", "poke_enter", "poke_exit"];

/// A question, to be put behind a message: the name that is next to what was written, if one is near.
pub(super) fn did_you_mean<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, names).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a name by this much.
    if written.len() > 32 {
        return None;
    }
    let written = written.to_lowercase();
    let far = |name: &str| {
        let name = name.to_lowercase();
        if written.len() >= 3 && name.contains(&written) {
            return 1;
        }
        strsim::damerau_levenshtein(&written, &name)
    };
    let near = (written.len() / 3).max(1);
    let (far, name) = names.into_iter().map(|name| (far(name), name)).min_by_key(|it| it.0)?;
    (far <= near && far < name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_meant_and_nothing_else() {
        assert_eq!(nearest("EAGIAN", ["EBADF", "EAGAIN"]), Some("EAGAIN"));
        assert_eq!(nearest("submit", ["io_setup", "io_submit"]), Some("io_submit"));
        assert_eq!(nearest("wehn", CONDITIONS), Some("when"));
        assert_eq!(nearest("colour", CONDITIONS), None);
        assert_eq!(nearest("", CONDITIONS), None);
        assert_eq!(nearest(&"e".repeat(5000), ACTIONS), None);
    }
}
