//! Who a process is, for whoever runs the machine: the systemd unit, the container, the pod.

use serde::{Deserialize, Serialize};

use crate::bounded;

/// Who a process is. What is not there is unknown, or there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The unit of the machine's own systemd: a service or a scope.
    #[serde(deserialize_with = "bounded::known_text")]
    pub unit: Option<String>,
    /// The container.
    pub container: Option<Container>,
    /// The pod of Kubernetes.
    pub pod: Option<Pod>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// What made it, as its cgroup tells: `docker`, `cri-containerd`, `crio`, `libpod`, `lxc`, `nspawn`; `container` if that
    /// is not told.
    #[serde(deserialize_with = "bounded::string")]
    pub engine: String,
    /// Its whole id; with lxc and nspawn, its name.
    #[serde(deserialize_with = "bounded::string")]
    pub id: String,
    /// The name that its engine keeps for it, if it was found.
    #[serde(deserialize_with = "bounded::known_text")]
    pub name: Option<String>,
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its uid, if it is known.
    #[serde(deserialize_with = "bounded::known_text")]
    pub uid: Option<String>,
    /// Its namespace and its name, if they were found.
    #[serde(deserialize_with = "bounded::known_text")]
    pub namespace: Option<String>,
    /// See `namespace`.
    #[serde(deserialize_with = "bounded::known_text")]
    pub name: Option<String>,
    /// The name of the container in the pod, if it was found.
    #[serde(deserialize_with = "bounded::known_text")]
    pub container: Option<String>,
}

/// Characters of an id that are shown, as container engines show them.
const SHORT: usize = 12;

impl Container {
    /// `docker:0123456789ab`: what made it, and the beginning of its id.
    pub fn short(&self) -> String {
        format!("{}:{}", self.engine, self.short_id())
    }

    /// The beginning of its id; the whole of one that is a name.
    pub fn short_id(&self) -> &str {
        match is_id(&self.id) {
            true => self.id.get(..SHORT).unwrap_or(&self.id),
            false => &self.id,
        }
    }
}

/// Whether a text is the id of a container, and not a name.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
}

impl Who {
    /// Whether nothing is known.
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// What says most, in a word: `pod:shop/db-0/postgres`, `docker:web`, `mysql.service`. The names are as they were found,
    /// so that whoever shows them has to escape them.
    pub fn text(&self) -> Option<String> {
        if let Some(Pod { namespace: Some(namespace), name: Some(name), container, .. }) = &self.pod
        {
            let container = container.as_ref().map_or_else(String::new, |it| format!("/{it}"));
            return Some(format!("pod:{namespace}/{name}{container}"));
        }
        if let Some(it) = &self.container {
            let name = it.name.as_deref().unwrap_or_else(|| it.short_id());
            return Some(format!("{}:{name}", it.engine));
        }
        self.unit.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_more_than_a_container_and_that_more_than_a_unit() {
        let unit = Some("docker-x.scope".to_owned());
        let mut who = Who { unit, ..Who::default() };
        assert_eq!(who.text().as_deref(), Some("docker-x.scope"));
        let id = "0123456789abcdef".repeat(4);
        who.container = Some(Container { engine: "docker".into(), id, name: None });
        assert_eq!(who.text().as_deref(), Some("docker:0123456789ab"));
        who.container.as_mut().unwrap().name = Some("web".into());
        assert_eq!(who.text().as_deref(), Some("docker:web"));
        let name = |it: &str| Some(it.to_owned());
        let mut pod =
            Pod { uid: None, namespace: name("shop"), name: name("db-0"), container: None };
        who.pod = Some(pod.clone());
        assert_eq!(who.text().as_deref(), Some("pod:shop/db-0"));
        pod.container = name("postgres");
        who.pod = Some(pod);
        assert_eq!(who.text().as_deref(), Some("pod:shop/db-0/postgres"));
    }
}
