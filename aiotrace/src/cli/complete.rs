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
    explain::{calls, findings, results, verdicts},
    fault::{complete_only, complete_rule},
    model::Name,
    names::{Container, Names, Who},
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

/// Completes the name or the id of a container that has processes.
pub fn container() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| matching(word, whose().iter().flat_map(of_container)))
}

fn of_container(who: &Who) -> Vec<(String, Option<String>)> {
    let of = |it: &Container| {
        let id = it.short();
        match &it.name {
            Some(name) => vec![(name.clone(), Some(id))],
            None => vec![(it.short_id().to_owned(), Some(id))],
        }
    };
    who.container.as_ref().map_or_else(Vec::new, of)
}

/// Completes the name of a pod that has processes.
pub fn pod() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let of = |it: &Who| {
            let pod = it.pod.as_ref()?;
            Some((format!("{}/{}", pod.namespace.as_ref()?, pod.name.as_ref()?), None))
        };
        let all: BTreeSet<_> = whose().iter().filter_map(of).collect();
        matching(word, all.into_iter())
    })
}

fn whose() -> Vec<Who> {
    let mut whose = Names::default().whose(&proc::all());
    whose.sort_by_key(Who::text);
    whose.dedup();
    whose
}

/// Completes the name of a user.
pub fn user() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let names = users.lines().filter_map(|it| it.split(':').next());
        matching(word, names.map(|it| (it.to_owned(), None)))
    })
}

/// Completes what `aiotrace explain` can explain: findings first, and errnos only once their beginning is there, because
/// they are the most.
pub fn subject() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| {
        let findings =
            Name::ALL.iter().map(|it| (it.text().to_owned(), Some(findings::summary(*it))));
        let calls = Syscall::ALL
            .into_iter()
            .map(|it| (it.name().to_owned(), Some(calls::summary(it).to_owned())));
        let completion = std::iter::once(("completion".to_owned(), None));
        let verdicts: BTreeSet<String> = verdicts::all().filter_map(|it| word_of(it.0)).collect();
        let verdicts = verdicts.into_iter().map(|it| (it, None));
        let errnos = errnos().filter(|_| !word.is_empty());
        matching(word, findings.chain(calls).chain(completion).chain(verdicts).chain(errnos))
    })
}

/// A verdict in one word; `None` if it is none, but a sentence, or a word with a variable part.
fn word_of(verdict: &str) -> Option<String> {
    let is_word = |it: char| it.is_ascii_lowercase() || it == ' ';
    let is_name = verdict.chars().all(is_word) && verdict.split(' ').count() <= 2;
    is_name.then(|| verdict.replace(' ', "-"))
}

/// Completes an errno that can be explained.
pub fn errno() -> ArgValueCompleter {
    ArgValueCompleter::new(|word: &OsStr| matching(word, errnos()))
}

/// The errnos that come from AIO calls or in completions, with their texts.
fn errnos() -> impl Iterator<Item = (String, Option<String>)> {
    let calls = Syscall::ALL.into_iter().flat_map(calls::of).map(|it| it.errno);
    let known: BTreeSet<i32> = calls.chain(results::ALL.iter().map(|it| it.errno)).collect();
    let named = known.into_iter().filter_map(|it| Some((errno::name(it)?, errno::text(it))));
    named.map(|(name, text)| (name.to_owned(), text.map(str::to_owned)))
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
