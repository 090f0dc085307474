//! By what a process is known in the metrics: its name, and with `--by` where it runs.

use std::borrow::Cow;

use crate::{
    names::{By, Container, Names, Who},
    proc,
    words::escape::escaped,
};

/// A name and a value of one label in the exposition.
pub type Pair = (&'static str, Cow<'static, str>);

/// By what a process, or a group of processes, is known. Many processes may share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// The name of the process (comm), escaped.
    pub process: String,
    /// Where it runs ([`places`]), escaped. What is not known of a process, or does not exist, has no label.
    pub places: Vec<(&'static str, String)>,
    /// Its id, with `--label pid`.
    pub pid: Option<u32>,
}

/// The name for all that has no series of its own.
const OTHER: &str = "other";

impl Label {
    /// Stands for all processes that do not fit, and for what is not known to belong to one process.
    pub fn other() -> Self {
        Self { process: OTHER.into(), places: Vec::new(), pid: None }
    }

    /// The pairs that each sample of this process has.
    pub fn pairs(&self) -> Vec<Pair> {
        let mut pairs = vec![("process", Cow::from(self.process.clone()))];
        pairs.extend(self.places.iter().map(|(name, value)| (*name, Cow::from(value.clone()))));
        pairs.extend(self.pid.map(|it| ("pid", Cow::from(it.to_string()))));
        pairs
    }
}

/// Where a process runs: `unit`; `container`, by name, or by the beginning of its id if the name is not known; or
/// `namespace`, `pod` and `container`.
fn places(by: By, who: Who) -> Vec<(&'static str, String)> {
    let container = |it: Container| it.name.clone().unwrap_or_else(|| it.short_id().to_owned());
    let places = match by {
        By::Process => Vec::new(),
        By::Unit => vec![("unit", who.unit)],
        By::Container => vec![("container", who.container.map(container))],
        By::Pod => who.pod.map_or_else(Vec::new, |it| {
            vec![
                ("namespace", it.namespace),
                ("pod", it.name.or(it.uid)),
                ("container", it.container),
            ]
        }),
    };
    let known = places.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.map(|(name, value)| (name, escaped(value.as_bytes()))).collect()
}

/// How processes are labelled.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// What is told of where they run.
    pub by: By,
    /// Each process has series of its own, with its id.
    pub with_pid: bool,
    /// Knows where they run.
    pub names: Names,
}

impl Labels {
    /// The label of a process. `name`: its name, escaped; `None`: it is looked up. A process without a name is gone.
    pub fn of(&mut self, pid: u32, name: Option<String>) -> Label {
        if pid == 0 {
            return Label::other();
        }
        let name = name.filter(|it| !it.is_empty());
        let process = name.or_else(|| proc::name(pid).map(|it| escaped(&it)));
        let Some(process) = process else { return Label::other() };
        let places = match self.by {
            By::Process => Vec::new(),
            by => places(by, self.names.who(pid)),
        };
        Label { process, places, pid: self.with_pid.then_some(pid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Pod;

    #[test]
    fn a_label_is_the_name_and_with_it_where_the_process_runs() {
        let mut labels = Labels::default();
        let fio = labels.of(u32::MAX, Some("fio".into()));
        assert_eq!(fio.pairs(), [("process", "fio".into())]);
        let placed = Label { places: vec![("unit", "db.service".into())], ..fio };
        assert_eq!(placed.pairs()[1], ("unit", "db.service".into()));
        let with_pid = Labels { with_pid: true, ..Labels::default() }.of(7, Some("fio".into()));
        assert_eq!(with_pid.pairs()[1], ("pid", "7".into()));
    }

    #[test]
    fn what_belongs_to_nobody_is_other() {
        let mut labels = Labels { with_pid: true, ..Labels::default() };
        assert_eq!(labels.of(0, Some("fio".into())), Label::other());
        assert_eq!(labels.of(u32::MAX, None), Label::other(), "it is gone");
        // A process may call itself that; its series is the same one.
        assert_eq!(Labels::default().of(7, Some("other".into())), Label::other());
    }

    #[test]
    fn where_a_process_runs_is_told_as_far_as_it_is_known() {
        let text = |it: &str| Some(it.to_owned());
        let container = |name| Container { engine: "docker".into(), id: "ab".repeat(32), name };
        let db = || Who {
            unit: text("db.service"),
            container: Some(container(text("db\n1"))),
            pod: Some(Pod {
                uid: text("u"),
                namespace: text("shop"),
                name: None,
                container: text("db"),
            }),
        };
        assert_eq!(places(By::Process, db()), []);
        assert_eq!(places(By::Unit, db()), [("unit", "db.service".to_owned())]);
        assert_eq!(places(By::Container, db()), [("container", "db\\x0a1".to_owned())]);
        let in_pod = [("namespace", "shop"), ("pod", "u"), ("container", "db")];
        assert_eq!(places(By::Pod, db()), in_pod.map(|(name, value)| (name, value.to_owned())));
        let unnamed = Who { container: Some(container(None)), ..Who::default() };
        assert_eq!(places(By::Container, unnamed), [("container", "abababababab".to_owned())]);
        for by in [By::Unit, By::Container, By::Pod] {
            assert_eq!(places(by, Who::default()), []);
        }
    }
}
