//! By what a process is known in the metrics. This is the one seam between the metrics and the names of processes:
//! whoever knows more of a process than its name adds a place to [`Label::places`].

use std::borrow::Cow;

use crate::{proc, words::escape::escaped};

/// A name and a value of one label in the exposition.
pub type Pair = (&'static str, Cow<'static, str>);

/// By what a process, or a group of processes, is known. Many processes may share one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// The name of the process (comm), escaped.
    pub process: String,
    /// Where it runs: labels such as `unit`, `container`, or `namespace`, `pod` and `container`, escaped.
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

/// How processes are labelled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labels {
    /// Each process has series of its own, with its id.
    pub with_pid: bool,
}

impl Labels {
    /// The label of a process. `name`: its name, escaped; `None`: it is looked up. A process without a name is gone.
    pub fn of(self, pid: u32, name: Option<String>) -> Label {
        if pid == 0 {
            return Label::other();
        }
        let name = name.filter(|it| !it.is_empty());
        let process = name.or_else(|| proc::name(pid).map(|it| escaped(&it)));
        let Some(process) = process else { return Label::other() };
        Label { process, places: Vec::new(), pid: self.with_pid.then_some(pid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_name_and_with_it_where_the_process_runs() {
        let labels = Labels::default();
        let fio = labels.of(u32::MAX, Some("fio".into()));
        assert_eq!(fio.pairs(), [("process", "fio".into())]);
        let placed = Label { places: vec![("unit", "db.service".into())], ..fio };
        assert_eq!(placed.pairs()[1], ("unit", "db.service".into()));
        let with_pid = Labels { with_pid: true }.of(7, Some("fio".into()));
        assert_eq!(with_pid.pairs()[1], ("pid", "7".into()));
    }

    #[test]
    fn what_belongs_to_nobody_is_other() {
        let labels = Labels { with_pid: true };
        assert_eq!(labels.of(0, Some("fio".into())), Label::other());
        assert_eq!(labels.of(u32::MAX, None), Label::other(), "it is gone");
        // A process may call itself that; its series is the same one.
        assert_eq!(Labels::default().of(7, Some("other".into())), Label::other());
    }
}
