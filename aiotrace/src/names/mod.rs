//! Who a process is, for whoever runs the machine: its systemd unit, its container, its pod.
//!
//! ```text
//!  pid -> /proc/PID/cgroup -> Place: the unit, the id of the container, the uid of the pod   (cgroup)
//!                               |
//!                               +-> files of the kubelet and of container engines: names     (engines, by a helper)
//! ```
//! Names are asked for once for each container, and kept. What has none is asked for again, but not before 10 s are over:
//! on a machine where containers come and go, a miss is no exception.

mod cgroup;
mod engines;
mod find;
mod root;

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use aiotrace_model::trace::{Container, Pod, Who};

pub use self::find::{Found, Wanted};
use self::{
    cgroup::Place,
    engines::{Asked, Named},
    root::Root,
};
use crate::{
    errand::{Errand as _, FROM_DISK, USUAL, errands},
    proc,
};

errands! {
    /// The errands about names. (The process is aiotrace itself: no other can make it wait.)
    ERRANDS = [
        /// [`engines::find`]
        NamesOf(root: Vec<u8>, asked: Vec<Asked>) -> Vec<Named> = names_of, patience(FROM_DISK, USUAL);
    ]
}

fn names_of(_: u32, root: Vec<u8>, asked: Vec<Asked>) -> Vec<Named> {
    let root = PathBuf::from(OsString::from_vec(root));
    Root::find(&root).map(|it| engines::find(&it, &asked)).unwrap_or_default()
}

/// A container without a name, and a look at all, is not asked for again before this is over.
const AGAIN: Duration = Duration::from_secs(10);
/// Looks within [`AGAIN`], all containers together.
const MOST_LOOKS: u32 = 16;
/// Containers that are remembered.
const MOST: usize = 4096;

/// By what processes are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Each process; by its name only.
    #[default]
    Process,
    /// A systemd unit.
    Unit,
    /// A container.
    Container,
    /// A pod of Kubernetes.
    Pod,
}

/// Knows who processes are.
#[derive(Clone, Debug)]
pub struct Names {
    root: PathBuf,
    known: HashMap<Key, Known>,
    looks: u32,
    /// When the looks began that are counted.
    since: Option<Instant>,
}

/// The id of the container, and the uid of the pod.
type Key = (String, Option<String>);

#[derive(Clone, Debug)]
struct Known {
    named: Named,
    /// When that was asked.
    asked: Instant,
}

impl Known {
    fn is_settled(&self) -> bool {
        self.named.name.is_some() || self.named.in_pod.is_some()
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Names {
    /// Reads the files of container engines below this root.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), known: HashMap::new(), looks: 0, since: None }
    }

    /// Who a process is.
    pub fn who(&mut self, pid: u32) -> Who {
        self.whose(&[pid]).pop().unwrap_or_default()
    }

    /// Who these processes are, in their order: one look at files names all of them.
    pub fn whose(&mut self, pids: &[u32]) -> Vec<Who> {
        let places: Vec<Place> = pids
            .iter()
            .map(|pid| proc::cgroups(*pid).map_or_else(Place::default, |it| Place::of(&it)))
            .collect();
        self.of_places(&places)
    }

    fn of_places(&mut self, places: &[Place]) -> Vec<Who> {
        self.ask(places, Instant::now(), |root, asked| {
            let root = root.as_os_str().as_bytes().to_vec();
            NamesOf { pid: std::process::id(), root, asked }.ask()
        });
        places.iter().map(|it| self.put_together(it)).collect()
    }

    fn ask(
        &mut self,
        places: &[Place],
        now: Instant,
        look: impl FnOnce(&Path, Vec<Asked>) -> Option<Vec<Named>>,
    ) {
        let mut keys = HashSet::new();
        let mut asked = Vec::new();
        for place in places {
            let Some(key) = key(place) else { continue };
            let is_known = self.known.get(&key).is_some_and(|it| {
                it.is_settled() || now.saturating_duration_since(it.asked) < AGAIN
            });
            if !is_known && keys.insert(key.clone()) {
                let engine =
                    place.container.as_ref().map_or_else(String::new, |it| it.0.engine.clone());
                asked.push(Asked { engine, id: key.0, uid: key.1 });
            }
        }
        if asked.is_empty() || !self.may_look(now) {
            return;
        }
        let found = look(&self.root, asked.clone()).unwrap_or_default();
        if self.known.len() + asked.len() > MOST {
            self.known.clear();
        }
        let found = found.into_iter().map(Some).chain(std::iter::repeat(None));
        for (it, named) in asked.into_iter().zip(found).take(MOST) {
            let named = named.unwrap_or_default();
            self.known.insert((it.id, it.uid), Known { named, asked: now });
        }
    }

    fn may_look(&mut self, now: Instant) -> bool {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= AGAIN;
        if self.since.is_none_or(is_over) {
            (self.since, self.looks) = (Some(now), 0);
        }
        self.looks += 1;
        self.looks <= MOST_LOOKS
    }

    fn put_together(&self, place: &Place) -> Who {
        let named = key(place).and_then(|it| self.known.get(&it)).map(|it| it.named.clone());
        let named = named.unwrap_or_default();
        let container = place
            .container
            .as_ref()
            .map(|(it, _)| Container { name: named.name.clone(), ..it.clone() });
        let uid = place.pod.as_ref().map(|it| it.0.clone());
        let pod = (uid.is_some() || named.pod.is_some()).then(|| {
            let (namespace, name) = named.pod.clone().unzip();
            Pod { uid, namespace, name, container: named.in_pod.clone() }
        });
        Who { unit: place.unit.as_ref().map(|it| it.0.clone()), container, pod }
    }
}

/// What files can tell a name of.
fn key(place: &Place) -> Option<Key> {
    // The machine's engines know nothing of it, whatever its cgroup is called.
    if place.is_users {
        return None;
    }
    let uid = place.pod.as_ref().map(|it| it.0.clone());
    match &place.container {
        Some((it, _)) if aiotrace_model::trace::is_id(&it.id) => Some((it.id.clone(), uid)),
        // Such a container has its name in its cgroup.
        Some(_) => None,
        None => uid.map(|uid| (String::new(), Some(uid))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(engine: &str, digit: char) -> Place {
        let id = digit.to_string().repeat(64);
        Place::of(format!("0::/system.slice/{engine}-{id}.scope\n").as_bytes())
    }

    fn named(name: &str) -> Named {
        Named { name: Some(name.to_owned()), ..Named::default() }
    }

    /// A user puts the id of somebody else's container into the name of a cgroup of its own.
    #[test]
    fn files_of_the_machine_name_no_cgroup_of_a_user() {
        let id = "a".repeat(64);
        let at = |above: &str| Place::of(format!("0::{above}/docker-{id}.scope\n").as_bytes());
        let users = at("/user.slice/user-1000.slice/user@1000.service");
        assert!(users.is_users && key(&users).is_none());
        let system = at("/system.slice");
        assert!(!system.is_users && key(&system).is_some());
    }

    #[test]
    fn one_look_names_all_and_what_has_a_name_is_not_asked_for_again() {
        let mut names = Names::default();
        let places = [place("docker", 'a'), place("docker", 'b'), place("docker", 'a')];
        let now = Instant::now();
        names.ask(&places, now, |_, asked| {
            assert_eq!(asked.len(), 2);
            Some(vec![named("web"), Named::default()])
        });
        let texts: Vec<_> = places.iter().filter_map(|it| names.put_together(it).text()).collect();
        assert_eq!(texts, ["docker:web", "docker:bbbbbbbbbbbb", "docker:web"]);
        names.ask(&places, now + AGAIN / 2, |_, _| panic!("it is too early"));
        names.ask(&places, now + AGAIN, |_, asked| {
            assert_eq!(asked.len(), 1, "only that without a name");
            Some(vec![named("db")])
        });
        names.ask(&places, now + 3 * AGAIN, |_, _| panic!("all have names"));
        assert_eq!(names.put_together(&places[1]).text().as_deref(), Some("docker:db"));
    }

    #[test]
    fn looks_are_bounded_and_so_is_what_is_kept() {
        let mut names = Names::default();
        let (now, mut looks) = (Instant::now(), 0);
        for at in 0..2 * MOST {
            let place = Place::of(format!("0::/docker/{at:064x}\n").as_bytes());
            names.ask(&[place], now, |_, _| {
                looks += 1;
                None
            });
        }
        assert_eq!(looks, MOST_LOOKS);
        let many: Vec<Place> = (0..2 * MOST)
            .map(|at| Place::of(format!("0::/docker/{at:064x}\n").as_bytes()))
            .collect();
        names.ask(&many, now + AGAIN, |_, _| None);
        assert!(names.known.len() <= MOST);
    }

    #[test]
    fn we_are_somebody() {
        let whose = Names::default().whose(&[std::process::id(), 4_194_305]);
        assert_eq!((whose.len(), whose[1].clone()), (2, Who::default()));
    }
}
