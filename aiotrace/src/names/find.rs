//! Finds processes by the name of their container or pod.

use std::collections::BTreeMap;

use super::{Names, Place, Who};
use crate::{
    failure::{Failure, Result},
    proc,
    words::escape::escaped,
};

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A container: its id or the beginning of it, its name, or `ENGINE:NAME`.
    Container(String),
    /// A unit of the machine's systemd, by its whole name.
    Unit(String),
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The cgroup of it in the hierarchy of v2; `None` if it is known by a hierarchy of v1 only.
    pub cgroup: Option<String>,
    /// Its processes now.
    pub pids: Vec<u32>,
    /// What it is called.
    pub text: String,
}

/// The beginning of an id must be this long, so that a short name is not taken for one.
const SHORTEST: usize = 4;
/// Most names in an error.
const SHOWN: usize = 10;

impl Wanted {
    /// Reads `NAMESPACE/POD`.
    ///
    /// # Errors
    /// If it is none.
    pub fn pod(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self::Pod { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("{text:?} is no pod: write NAMESPACE/POD, for instance default/db-0")),
        }
    }

    fn means(&self, who: &Who) -> bool {
        match self {
            Self::Container(wanted) => who.container.as_ref().is_some_and(|it| {
                let named = |name: &str| {
                    name == wanted || wanted.strip_prefix(&format!("{}:", it.engine)) == Some(name)
                };
                let is_begun = wanted.len() >= SHORTEST
                    && aiotrace_model::trace::is_id(&it.id)
                    && it.id.starts_with(wanted.as_str());
                named(&it.id)
                    || named(it.short_id())
                    || it.name.as_deref().is_some_and(named)
                    || is_begun
            }),
            Self::Unit(wanted) => who.unit.as_ref() == Some(wanted),
            Self::Pod { namespace, name } => who.pod.as_ref().is_some_and(|it| {
                it.namespace.as_ref() == Some(namespace) && it.name.as_ref() == Some(name)
            }),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Container(wanted) => format!("container {}", escaped(wanted.as_bytes())),
            Self::Unit(wanted) => format!("unit {}", escaped(wanted.as_bytes())),
            Self::Pod { namespace, name } => {
                format!("pod {}/{}", escaped(namespace.as_bytes()), escaped(name.as_bytes()))
            }
        }
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Container(_) => "container",
            Self::Unit(_) => "unit",
            Self::Pod { .. } => "pod",
        }
    }

    /// What it is called in a list: a container with its id, a pod.
    fn listed(&self, who: &Who) -> Option<String> {
        let text = match self {
            Self::Container(_) => {
                let it = who.container.as_ref()?;
                match &it.name {
                    Some(name) => format!("{name} ({})", it.short()),
                    None => it.short(),
                }
            }
            Self::Unit(_) => who.unit.clone()?,
            Self::Pod { .. } => {
                let it = who.pod.as_ref()?;
                format!("{}/{}", it.namespace.as_ref()?, it.name.as_ref()?)
            }
        };
        Some(escaped(text.as_bytes()))
    }
}

impl Names {
    /// Finds a container or a pod that has processes now.
    ///
    /// # Errors
    /// If there is none, or more than one; the error lists what there is.
    pub fn find(&mut self, wanted: &Wanted) -> Result<Found> {
        let read = |pid: u32| Some((pid, Place::of(&proc::cgroups(pid)?)));
        let all: Vec<(u32, Place)> = proc::all().into_iter().filter_map(read).collect();
        self.find_in(wanted, all)
    }

    fn find_in(&mut self, wanted: &Wanted, all: Vec<(u32, Place)>) -> Result<Found> {
        let (pids, places): (Vec<u32>, Vec<Place>) = all.into_iter().unzip();
        let whose = self.of_places(&places);
        // By where it is, as two can have one name.
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        // Those of users, who may call a cgroup as they like, count only where there is no other.
        let mut of_users: BTreeMap<String, Found> = BTreeMap::new();
        let mut others: BTreeMap<String, usize> = BTreeMap::new();
        for ((pid, place), who) in pids.into_iter().zip(&places).zip(&whose) {
            let Some(listed) = wanted.listed(who) else { continue };
            if !wanted.means(who) {
                *others.entry(listed).or_default() += 1;
                continue;
            }
            let (cgroup, end) = match wanted {
                Wanted::Container(_) => {
                    (place.of_container(), place.container.as_ref().map(|it| it.1))
                }
                Wanted::Unit(_) => (place.of_unit(), place.unit.as_ref().map(|it| it.1)),
                Wanted::Pod { .. } => (place.of_pod(), place.pod.as_ref().map(|it| it.1)),
            };
            let path = place.path.get(..end.unwrap_or(place.path.len())).unwrap_or(&place.path);
            let cgroup = cgroup.map(str::to_owned);
            let new = || Found { cgroup, pids: Vec::new(), text: listed };
            let all = if place.is_users { &mut of_users } else { &mut found };
            all.entry(path.to_owned()).or_insert_with(new).pids.push(pid);
        }
        let found = if found.is_empty() { of_users } else { found };
        let what = wanted.what();
        let mut found: Vec<(String, Found)> = found.into_iter().collect();
        match found.len() {
            1 => Ok(found.remove(0).1),
            0 => {
                let text = match others.is_empty() {
                    true => format!("no {} runs here: no {what} is seen", wanted.text()),
                    false => format!(
                        "no {} runs here; these do: {}",
                        wanted.text(),
                        list(others.into_keys().collect())
                    ),
                };
                let hint = match wanted {
                    Wanted::Unit(_) => {
                        "it must be running: `systemctl status NAME` says so; or name a process with -p"
                    }
                    _ => {
                        "--container takes the id, the beginning of it, or the name; --pod takes NAMESPACE/POD; in a \
                         container, --host-root names the machine's own root"
                    }
                };
                Err(Failure::new(text).with_hint(hint))
            }
            count => {
                let paths = found
                    .iter()
                    .map(|(path, it)| format!("{} in {}", it.text, escaped(path.as_bytes())));
                let text =
                    format!("{count} of them are {}: {}", wanted.text(), list(paths.collect()));
                Err(Failure::new(text).with_hint("name one by more of its id, or by --cgroup PATH"))
            }
        }
    }
}

fn list(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    all.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Two containers of docker, `web` and `db`; one of containerd in a pod; and a second `web`, of podman.
    fn machine() -> (tempfile::TempDir, Vec<(u32, Place)>) {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: String, content: &str| {
            let at = directory.path().join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, content).unwrap();
        };
        for (digit, name) in [("a", "web"), ("b", "db")] {
            let path = format!("var/lib/docker/containers/{}/config.v2.json", digit.repeat(64));
            write(path, &format!(r#"{{"Name": "/{name}"}}"#));
        }
        write(format!("var/log/containers/db-0_shop_postgres-{}.log", "c".repeat(64)), "");
        let podman = format!(r#"[{{"id": "{}", "names": ["web"]}}]"#, "d".repeat(64));
        write("var/lib/containers/storage/overlay-containers/containers.json".into(), &podman);
        let pod = "/kubepods/pod2d3b1f0a-9c1e-4a57-8f0e-0123456789ab";
        let paths = [
            (10, format!("/system.slice/docker-{}.scope", "a".repeat(64))),
            (11, format!("/system.slice/docker-{}.scope/below", "a".repeat(64))),
            (12, format!("/system.slice/docker-{}.scope", "b".repeat(64))),
            (13, format!("{pod}/{}", "c".repeat(64))),
            (14, format!("/machine.slice/libpod-{}.scope/container", "d".repeat(64))),
            (15, "/system.slice/ssh.service".to_owned()),
        ];
        let places = paths.map(|(pid, path)| (pid, Place::of(format!("0::{path}\n").as_bytes())));
        (directory, places.to_vec())
    }

    fn find(wanted: &Wanted) -> Result<Found> {
        let (root, machine) = machine();
        Names::below(root.path()).find_in(wanted, machine)
    }

    fn container(name: &str) -> Result<Found> {
        find(&Wanted::Container(name.to_owned()))
    }

    #[test]
    fn a_container_is_found_by_its_name_its_id_and_the_beginning_of_it() {
        let whole = "a".repeat(64);
        for name in ["docker:web", "aaaa", "aaaaaaaaaaaa", &whole, "docker:aaaaaaaaaaaa"] {
            let found = container(name).unwrap();
            assert_eq!(found.pids, [10, 11], "{name}");
            assert_eq!(found.cgroup.unwrap(), format!("/system.slice/docker-{whole}.scope"));
        }
        assert_eq!(container("db").unwrap().pids, [12]);
        assert_eq!(container("libpod:web").unwrap().pids, [14]);
    }

    #[test]
    fn a_pod_is_found_by_its_namespace_and_its_name() {
        let found = find(&Wanted::pod("shop/db-0").unwrap()).unwrap();
        assert_eq!(found.pids, [13]);
        assert_eq!(found.cgroup.unwrap(), "/kubepods/pod2d3b1f0a-9c1e-4a57-8f0e-0123456789ab");
        let unit = find(&Wanted::Unit("ssh.service".into())).unwrap();
        assert_eq!(
            (unit.cgroup.as_deref(), unit.pids),
            (Some("/system.slice/ssh.service"), vec![15])
        );
        let missing = find(&Wanted::Unit("db.service".into())).unwrap_err();
        assert!(
            missing.text().contains("no unit db.service runs here; these do: docker-aaa"),
            "{missing:?}"
        );
        let error = find(&Wanted::pod("shop/db-1").unwrap()).unwrap_err();
        assert_eq!(error.text(), "no pod shop/db-1 runs here; these do: shop/db-0");
        for bad in ["db-0", "/db-0", "shop/", "a/b/c", ""] {
            assert!(Wanted::pod(bad).unwrap_err().contains("NAMESPACE/POD"), "{bad}");
        }
    }

    #[test]
    fn what_is_not_there_or_ambiguous_is_said_with_what_there_is() {
        let missing = container("nothing").unwrap_err();
        assert!(
            missing.text().starts_with("no container nothing runs here; these do: "),
            "{missing:?}"
        );
        assert!(missing.text().contains("web (docker:aaaaaaaaaaaa)"), "{missing:?}");
        let both = container("web").unwrap_err();
        assert!(both.text().starts_with("2 of them are container web: "), "{both:?}");
        assert!(both.text().contains("in /machine.slice/libpod-"), "{both:?}");
        for short in ["a", "aaa", ""] {
            assert!(container(short).unwrap_err().text().contains("runs here"), "{short}");
        }
        let nobody =
            Names::default().find_in(&Wanted::Container("x".into()), Vec::new()).unwrap_err();
        assert!(nobody.text().contains("no container is seen"), "{nobody:?}");
    }

    #[test]
    fn with_v1_there_is_no_cgroup_but_there_are_processes() {
        let (root, _) = machine();
        let cgroups = format!("9:name=systemd:/docker/{}\n0::/\n", "a".repeat(64));
        let all = vec![(10, Place::of(cgroups.as_bytes()))];
        let found =
            Names::below(root.path()).find_in(&Wanted::Container("web".into()), all).unwrap();
        assert_eq!((found.cgroup, found.pids), (None, vec![10]));
    }
}
