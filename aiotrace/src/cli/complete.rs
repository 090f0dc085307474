//! The words that shells complete and clap does not know: rules, names of processes, units and users, what can be
//! explained.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::PermissionsExt as _,
};

use clap_complete::{
    ArgValueCompleter, CompletionCandidate,
    engine::{PathCompleter, ValueCompleter as _},
};

use crate::{
    errno,
    event::Syscall,
    explain::{findings, verdicts},
    fault::{complete_only, complete_rule},
    model::Name,
    proc,
    trace::units,
};

/// Completes a rule.
pub fn rule() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| plain(word.to_str().map(complete_rule)))
}

/// Completes the value of `--only`.
pub fn only() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| plain(word.to_str().map(complete_only)))
}

/// Completes the name or id of a process that runs a program (the kernel's own threads run none).
pub fn process() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let runs = |pid: &u32| proc::has_program(*pid);
        let is_other = |pid: &u32| *pid != std::process::id();
        let of = |pid: u32| Some((pid, String::from_utf8(proc::name(pid)?).ok()?));
        let pids = proc::all().into_iter().filter(is_other).filter(runs);
        let named: Vec<(u32, String)> = pids.filter_map(of).collect();
        let names: BTreeSet<&String> = named.iter().map(|it| &it.1).collect();
        let names = names.into_iter().filter(|it| !it.contains([',', ' '])).cloned();
        let found = names.map(|it| (it, None));
        let ids = named.iter().map(|(pid, name)| (pid.to_string(), Some(name.clone())));
        matching(word, found.chain(ids))
    })
}

/// Completes the name of a systemd unit that has a cgroup.
pub fn unit() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| matching(word, units().into_iter().map(|it| (it, None))))
}

/// Completes the name of a user.
pub fn user() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let names = users.lines().filter_map(|it| it.split(':').next());
        matching(word, names.map(|it| (it.to_owned(), None)))
    })
}

/// Completes what `aiotrace explain` can explain.
pub fn subject() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let findings =
            Name::ALL.iter().map(|it| (it.text().to_owned(), Some(findings::summary(*it))));
        let calls = Syscall::ALL.into_iter().map(|it| (it.name().to_owned(), None));
        let completion = std::iter::once(("completion".to_owned(), None));
        let verdicts: BTreeSet<String> = verdicts::all().map(|it| it.0.to_owned()).collect();
        let verdicts = verdicts.into_iter().map(|it| (it, None));
        let errnos = errno::all().map(|it| (it.1.to_owned(), errno::text(it.0).map(str::to_owned)));
        matching(word, findings.chain(calls).chain(completion).chain(verdicts).chain(errnos))
    })
}

/// Completes an errno.
pub fn errno() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let errnos = errno::all().map(|it| (it.1.to_owned(), errno::text(it.0).map(str::to_owned)));
        matching(word, errnos)
    })
}

/// Completes a program of `PATH`, or a file.
pub fn program() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let mut found = PathCompleter::any().complete(word);
        if !word.is_empty() && !word.to_string_lossy().contains('/') {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let files = std::env::split_paths(&path).filter_map(|it| fs::read_dir(it).ok());
            let names: BTreeSet<OsString> =
                files.flatten().flatten().filter(is_program).map(|it| it.file_name()).collect();
            let names = names.into_iter().filter_map(|it| it.into_string().ok());
            found.extend(matching(word, names.map(|it| (it, None))));
        }
        found
    })
}

fn is_program(entry: &fs::DirEntry) -> bool {
    fs::metadata(entry.path()).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

fn plain(words: Option<Vec<String>>) -> Vec<CompletionCandidate> {
    words.into_iter().flatten().map(CompletionCandidate::new).collect()
}

fn matching(
    word: &OsStr,
    all: impl Iterator<Item = (String, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let Some(word) = word.to_str() else { return Vec::new() };
    let begins = all.filter(|(text, _)| text.starts_with(word));
    begins.map(|(text, help)| CompletionCandidate::new(text).help(help.map(Into::into))).collect()
}
