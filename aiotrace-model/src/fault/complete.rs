//! What may stand next in a rule, for the completion of shells. Whether a word may stand there is not written down a
//! second time: it is offered if a rule with it can be parsed.

use super::{
    rule::Rule,
    value::names_of_operations,
    words::{ACTIONS, CONDITIONS, FLAGS},
};
use crate::{errno, event::Syscall};

/// The texts that a rule can go on with, each from the rule's beginning. Names that need a value end in `=`, and calls
/// in `:`.
pub fn complete_rule(text: &str) -> Vec<String> {
    let Some((before, last)) = text.rsplit_once(':') else { return complete_calls(text) };
    let mut parts = before.split(':');
    let calls = parts.next().unwrap_or_default();
    let found = match last.split_once('=') {
        Some((name, value)) => values(calls, name, value),
        None => {
            let used: Vec<&str> = parts.filter_map(|it| it.split('=').next()).collect();
            names(calls, &used)
        }
    };
    longer(found.into_iter().map(|it| format!("{before}:{it}")), text)
}

/// The texts that the value of `--only` can go on with.
pub fn complete_only(text: &str) -> Vec<String> {
    let (before, last) = split_behind(text, ',');
    let found = match last.strip_prefix("op=") {
        Some(names) => operations(names).into_iter().map(|it| format!("op={it}")).collect(),
        None => vec!["op=".to_owned(), "fd=".to_owned(), "error".to_owned()],
    };
    longer(found.into_iter().map(|it| format!("{before}{it}")), text)
}

fn longer(found: impl Iterator<Item = String>, text: &str) -> Vec<String> {
    found.filter(|it| it.starts_with(text)).collect()
}

/// What stands up to the last separator, with it, and what stands behind it.
fn split_behind(text: &str, separator: char) -> (&str, &str) {
    text.split_at(text.rfind(separator).map_or(0, |at| at + separator.len_utf8()))
}

fn complete_calls(text: &str) -> Vec<String> {
    let (before, _) = split_behind(text, ',');
    let is_first = before.is_empty();
    let calls = Syscall::ALL.into_iter().map(Syscall::name);
    let calls = calls.chain(is_first.then_some("complete"));
    let is_new = |name: &&str| before.split(',').all(|it| it != *name);
    longer(calls.filter(is_new).map(|name| format!("{before}{name}:")), text)
}

/// The actions, if there is none yet, and the conditions of these calls.
fn names(calls: &str, used: &[&str]) -> Vec<String> {
    let action = ACTIONS.into_iter().find_map(|name| {
        let part = format!("{name}={}", sample(name)?);
        Rule::parse(&format!("{calls}:{part}:force")).is_ok().then_some(part)
    });
    let Some(action) = action else { return Vec::new() };
    let has_action = used.iter().any(|it| ACTIONS.contains(it));
    let actions = ACTIONS.into_iter().filter(|_| !has_action).filter(|name| {
        sample(name)
            .is_some_and(|value| Rule::parse(&format!("{calls}:{name}={value}:force")).is_ok())
    });
    let conditions = CONDITIONS.into_iter().filter(|name| !used.contains(name)).filter(|name| {
        let value = sample(name).map(|it| format!("={it}")).unwrap_or_default();
        // Another action needs no `force`, which may stand there once.
        let action = if *name == "force" { action.as_str() } else { &format!("{action}:force") };
        Rule::parse(&format!("{calls}:{action}:{name}{value}")).is_ok()
    });
    let shown = |name: &str| match sample(name) {
        Some(_) => format!("{name}="),
        None => name.to_owned(),
    };
    actions.chain(conditions).map(shown).collect()
}

/// A value that this action or condition can have; `None` if it has none.
fn sample(name: &str) -> Option<&'static str> {
    Some(match name {
        _ if FLAGS.contains(&name) => return None,
        "error" => "EAGAIN",
        "op" => "pread",
        "per" => "process",
        "prob" => "1%",
        "path" | "caller" => "/a",
        "delay_enter" | "delay_exit" | "after" | "for" => "1s",
        _ => "1",
    })
}

fn values(calls: &str, name: &str, value: &str) -> Vec<String> {
    let errnos = errno::all().map(|it| it.1.to_owned());
    let values: Vec<String> = match name {
        "error" => {
            errnos.filter(|it| Rule::parse(&format!("{calls}:error={it}")).is_ok()).collect()
        }
        "res" => errnos.collect(),
        "op" => operations(value),
        "per" => ["process", "thread", "context"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    };
    values.into_iter().map(|it| format!("{name}={it}")).collect()
}

/// `pread|` and each name that is not there yet.
fn operations(text: &str) -> Vec<String> {
    let (before, _) = split_behind(text, '|');
    let is_new = |name: &&str| before.split('|').all(|it| it != *name);
    names_of_operations().filter(is_new).map(|name| format!("{before}{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        let found = complete_rule(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found[0].clone()
    }

    #[test]
    fn each_part_of_a_rule_is_completed() {
        assert_eq!(one("io_su"), "io_submit:");
        assert_eq!(one("io_getevents,io_p"), "io_getevents,io_pgetevents:");
        assert_eq!(one("comp"), "complete:");
        assert_eq!(one("io_submit:err"), "io_submit:error=");
        assert_eq!(one("io_submit:error=EAG"), "io_submit:error=EAGAIN");
        assert_eq!(one("io_submit:error=EAGAIN:wh"), "io_submit:error=EAGAIN:when=");
        assert_eq!(one("complete:res=ENOSP"), "complete:res=ENOSPC");
    }

    #[test]
    fn only_what_the_grammar_allows_is_offered() {
        let offered = complete_rule("io_setup:");
        let has = |word: &str| offered.contains(&format!("io_setup:{word}"));
        assert!(has("error=") && has("when=") && has("force"), "{offered:?}");
        assert!(!has("accept=") && !has("res=") && !has("op=") && !has("ctx="), "{offered:?}");
        let offered = complete_rule("complete:");
        assert!(offered.contains(&"complete:res=".to_owned()), "{offered:?}");
        assert!(!offered.contains(&"complete:error=".to_owned()), "{offered:?}");
        assert!(!complete_rule("io_setup:error=").contains(&"io_setup:error=EIO".to_owned()));
        // The action and each condition may be given once.
        let offered = complete_rule("io_submit:error=EAGAIN:max=2:");
        assert!(offered.iter().all(|it| !it.contains(":accept=") && !it.ends_with(":max=")));
        assert!(complete_rule("io_uring:").is_empty());
    }

    #[test]
    fn operations_are_completed_one_after_the_other() {
        assert_eq!(complete_only("op=pre"), ["op=pread", "op=preadv"]);
        let both = complete_only("error,op=pread|pwri");
        assert_eq!(both, ["error,op=pread|pwrite", "error,op=pread|pwritev"]);
        assert_eq!(complete_only("e"), ["error"]);
        assert!(complete_rule("io_submit:error=EAGAIN:op=f").len() == 2);
    }
}
