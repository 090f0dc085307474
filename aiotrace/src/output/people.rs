//! Who the processes of a trace are, for its report.

use std::fmt::Write as _;

use aiotrace_model::trace::Who;

use super::escape::escaped;

/// Most processes that are remembered; the others are counted.
const MOST: usize = 1024;

/// A process that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The process.
    pub pid: u32,
    /// Its name, as it set it.
    pub process: Vec<u8>,
    /// Who it is.
    pub who: Who,
}

/// All that were looked up.
#[derive(Clone, Debug, Default)]
pub struct People {
    /// Them, in the order in which they came.
    pub all: Vec<Person>,
    /// How many more there were.
    pub more: u64,
}

impl People {
    /// Adds a process, unless it is there already.
    pub fn add(&mut self, it: &Person) {
        if self.all.contains(it) {
            return;
        }
        match self.all.len() >= MOST {
            true => self.more += 1,
            false => self.all.push(it.clone()),
        }
    }

    /// `fio:4713 docker:web, postgres:99 pod:shop/db-0/postgres`: those in a pod, a container or a service, at most so many;
    /// `None` if there is none.
    pub fn in_words(&self, most: usize) -> Option<String> {
        let is_worth = |it: &&Person| {
            let is_service = |it: &str| it.ends_with(".service") && !it.starts_with("user@");
            it.who.container.is_some()
                || it.who.pod.is_some()
                || it.who.unit.as_deref().is_some_and(is_service)
        };
        let worth: Vec<&Person> = self.all.iter().filter(is_worth).collect();
        let mut text = String::new();
        for it in worth.iter().take(most) {
            let separator = if text.is_empty() { "" } else { ", " };
            let who = it.who.text().unwrap_or_default();
            let (name, who) = (escaped(&it.process), escaped(who.as_bytes()));
            let _ = write!(text, "{separator}{name}:{} {who}", it.pid);
        }
        let more = worth.len().saturating_sub(most) as u64 + self.more;
        if more > 0 {
            let _ = write!(text, ", and {more} more");
        }
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use aiotrace_model::trace::Container;

    use super::*;

    fn person(pid: u32, unit: &str) -> Person {
        let who = Who { unit: Some(unit.to_owned()), ..Who::default() };
        Person { pid, process: b"db".to_vec(), who }
    }

    #[test]
    fn services_and_containers_are_told_and_sessions_are_not() {
        let mut people = People::default();
        assert_eq!(people.in_words(10), None);
        people.add(&person(1, "session-1.scope"));
        people.add(&person(2, "user@1000.service"));
        assert_eq!(people.in_words(10), None);
        people.add(&person(3, "db.service"));
        people.add(&person(3, "db.service"));
        let mut contained = person(4, "docker-x.scope");
        let name = Some("a\nb".to_owned());
        contained.who.container = Some(Container { engine: "docker".into(), id: "x".into(), name });
        people.add(&contained);
        assert_eq!(people.in_words(10).as_deref(), Some("db:3 db.service, db:4 docker:a\\x0ab"));
        assert_eq!(people.in_words(1).as_deref(), Some("db:3 db.service, and 1 more"));
    }

    #[test]
    fn too_many_are_counted() {
        let mut people = People::default();
        for pid in 0..2 * MOST as u32 {
            people.add(&person(pid, "db.service"));
        }
        assert_eq!((people.all.len(), people.more), (MOST, MOST as u64));
    }
}
