//! The names that container engines and the kubelet keep for containers, in files below a root. Nobody is asked: no daemon,
//! and no API server.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::root::Root;

/// Entries of a directory that are looked at.
const MOST_ENTRIES: usize = 16_384;
/// Containers of which files are read at a time.
const MOST_ASKED: usize = 1024;
/// Characters of a name; a longer one is none that an engine gives.
const LONGEST: usize = 253;

/// The names of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its own name.
    pub name: Option<String>,
    /// The namespace and the name of its pod.
    pub pod: Option<(String, String)>,
    /// Its name in the pod.
    pub in_pod: Option<String>,
}

/// Which container is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// What made it.
    pub engine: String,
    /// Its id, if it has a container.
    pub id: String,
    /// The uid of its pod, if that is known.
    pub uid: Option<String>,
}

/// Finds the names of containers, in the order of `asked`. Only a helper may call this.
pub fn find(root: &Root, asked: &[Asked]) -> Vec<Named> {
    let asked = &asked[..asked.len().min(MOST_ASKED)];
    let is_of_pods = asked.iter().any(|it| it.uid.is_some() || it.engine != "docker");
    let (mut logs, mut pods) = (Vec::new(), Vec::new());
    if is_of_pods {
        logs = root.names("/var/log/containers", MOST_ENTRIES);
        pods = root.names("/var/log/pods", MOST_ENTRIES);
    }
    let lists: Vec<Value> = match asked.iter().any(|it| it.engine == "libpod") {
        true => PODMAN.iter().filter_map(|it| json(root, it)).collect(),
        false => Vec::new(),
    };
    asked.iter().map(|it| of(root, it, &logs, &pods, &lists)).collect()
}

fn of(root: &Root, asked: &Asked, logs: &[String], pods: &[String], lists: &[Value]) -> Named {
    let mut named = Named::default();
    let Asked { engine, id, uid } = asked;
    if !id.is_empty()
        && let Some((pod, namespace, container)) = logs.iter().find_map(|it| log(it, id))
    {
        named.pod = Some((namespace, pod));
        named.in_pod = Some(container);
    }
    if let (None, Some(uid)) = (&named.in_pod, uid)
        && let Some((entry, namespace, pod)) =
            pods.iter().find_map(|it| pod(it, uid).map(|(namespace, pod)| (it, namespace, pod)))
    {
        named.pod = Some((namespace, pod));
        // Of several containers, it is not known which one this is.
        let containers = root.names(&format!("/var/log/pods/{entry}"), 2);
        if let [one] = &containers[..] {
            named.in_pod = sound(one);
        }
    }
    // Our caller knows that an id is 64 hexadecimal digits, or a name that leads nowhere else.
    if !aiotrace_model::trace::is_id(id) {
        return named;
    }
    if engine == "docker" {
        let about = json(root, &format!("/var/lib/docker/containers/{id}/config.v2.json"));
        let name = about.as_ref().and_then(|it| it["Name"].as_str());
        named.name = name.and_then(|it| sound(it.strip_prefix('/').unwrap_or(it)));
        return named;
    }
    let all = lists.iter().filter_map(Value::as_array).flatten();
    let this = |it: &&Value| it["id"].as_str() == Some(id);
    let listed = all.into_iter().find(this).and_then(|it| it["names"][0].as_str());
    named.name = listed.and_then(sound);
    if named.in_pod.is_none() && named.name.is_none() {
        annotated(root, id, &mut named);
    }
    named
}

/// Where podman keeps the list of containers, with root's own storage, by the driver of the storage.
const PODMAN: [&str; 4] = [
    "/var/lib/containers/storage/overlay-containers/containers.json",
    "/var/lib/containers/storage/overlay-containers/volatile-containers.json",
    "/var/lib/containers/storage/vfs-containers/containers.json",
    "/var/lib/containers/storage/btrfs-containers/containers.json",
];

/// Where engines keep what they told the OCI runtime; `ID` is the container.
const OCI: [&str; 6] = [
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
    "/run/containers/storage/overlay-containers/ID/userdata/config.json",
    "/run/containerd/io.containerd.runtime.v2.task/default/ID/config.json",
    "/run/containerd/io.containerd.runtime.v2.task/moby/ID/config.json",
    "/var/lib/containers/storage/overlay-containers/ID/userdata/config.json",
];

/// The annotations with the namespace, the pod, and the container in it: those of containerd, and those of CRI-O.
const ANNOTATIONS: [[&str; 3]; 2] = [
    [
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri.sandbox-name",
        "io.kubernetes.cri.container-name",
    ],
    ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name", "io.kubernetes.container.name"],
];

fn annotated(root: &Root, id: &str, named: &mut Named) {
    let Some(config) = OCI.iter().find_map(|it| json(root, &it.replace("ID", id))) else { return };
    let annotations = &config["annotations"];
    let text = |key: &str| annotations[key].as_str().and_then(sound);
    for [namespace, pod, container] in ANNOTATIONS {
        if let (Some(namespace), Some(pod)) = (text(namespace), text(pod)) {
            named.pod = Some((namespace, pod));
            named.in_pod = text(container);
            return;
        }
    }
    named.name = text("nerdctl/name").or_else(|| text("io.podman.annotations.name"));
}

fn json(root: &Root, path: &str) -> Option<Value> {
    serde_json::from_slice(&root.read(path)?).ok()
}

/// `POD_NAMESPACE_CONTAINER-ID.log`, if it is this container's: pod, namespace, container.
fn log(entry: &str, id: &str) -> Option<(String, String, String)> {
    let rest = entry.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-')?;
    let (pod, rest) = rest.split_once('_')?;
    let (namespace, container) = rest.split_once('_')?;
    Some((sound(pod)?, sound(namespace)?, sound(container)?))
}

/// `NAMESPACE_POD_UID`, if it is this pod's: namespace, pod.
fn pod(entry: &str, uid: &str) -> Option<(String, String)> {
    let rest = entry.strip_suffix(uid)?.strip_suffix('_')?;
    let (namespace, pod) = rest.split_once('_')?;
    Some((sound(namespace)?, sound(pod)?))
}

/// A name that an engine may have given: not empty, and not long. What else is in it is escaped where it is shown.
fn sound(name: &str) -> Option<String> {
    (!name.is_empty() && name.len() <= LONGEST).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const UID: &str = "2d3b1f0a-9c1e-4a57-8f0e-0123456789ab";

    /// A tree with these files (a name that ends in `/` is a directory), and what is found in it.
    fn found(files: &[(&str, &str)], asked: &[Asked]) -> Vec<Named> {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = path.replace("ID", &id()).replace("UID", UID);
            let at = directory.path().join(path.trim_start_matches('/'));
            if path.ends_with('/') {
                fs::create_dir_all(at).unwrap();
                continue;
            }
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, content.replace("ID", &id())).unwrap();
        }
        find(&Root::find(directory.path()).unwrap(), asked)
    }

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    fn asked(engine: &str, uid: Option<&str>) -> [Asked; 1] {
        [Asked { engine: engine.into(), id: id(), uid: uid.map(str::to_owned) }]
    }

    fn in_pod(namespace: &str, pod: &str, container: Option<&str>) -> Named {
        let pod = Some((namespace.to_owned(), pod.to_owned()));
        Named { name: None, pod, in_pod: container.map(str::to_owned) }
    }

    #[test]
    fn a_pod_is_named_by_the_links_of_the_kubelet() {
        let logs = [
            ("/var/log/containers/other_shop_postgres-0000.log", ""),
            ("/var/log/containers/db-0_shop_postgres-ID.log", ""),
        ];
        let named = in_pod("shop", "db-0", Some("postgres"));
        for engine in ["cri-containerd", "crio", "container"] {
            assert_eq!(
                found(&logs, &asked(engine, Some(UID))),
                std::slice::from_ref(&named),
                "{engine}"
            );
        }
    }

    #[test]
    fn a_pod_is_named_by_the_directory_of_its_logs() {
        let one =
            [("/var/log/pods/shop_db-0_@/postgres/", "")].map(|(it, _)| (it.replace('@', UID), ""));
        let one: Vec<_> = one.iter().map(|(it, to)| (it.as_str(), *to)).collect();
        let named = found(&one, &asked("cri-containerd", Some(UID)));
        assert_eq!(named, [in_pod("shop", "db-0", Some("postgres"))]);
        let second = format!("/var/log/pods/shop_db-0_{UID}/sidecar/");
        let two = [&one[..], &[(&second, "")]].concat();
        let named = found(&two, &asked("cri-containerd", Some(UID)));
        assert_eq!(named, [in_pod("shop", "db-0", None)], "which of the two is not known");
        assert_eq!(found(&one, &asked("cri-containerd", None)), [Named::default()]);
    }

    #[test]
    fn a_pod_is_named_by_the_annotations_of_its_runtime() {
        let containerd = r#"{"annotations": {"io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-name": "db-0", "io.kubernetes.cri.container-name": "postgres"}}"#;
        let crio = r#"{"annotations": {"io.kubernetes.pod.namespace": "shop",
            "io.kubernetes.pod.name": "db-0", "io.kubernetes.container.name": "postgres"}}"#;
        for (path, content) in [(OCI[0], containerd), (OCI[1], containerd), (OCI[2], crio)] {
            let named = found(&[(path, content)], &asked("container", Some(UID)));
            assert_eq!(named, [in_pod("shop", "db-0", Some("postgres"))], "{path}");
        }
    }

    #[test]
    fn docker_and_podman_name_their_containers() {
        let name = |it: &str| Named { name: Some(it.into()), ..Named::default() };
        let docker =
            ("/var/lib/docker/containers/ID/config.v2.json", r#"{"ID": "ID", "Name": "/web"}"#);
        assert_eq!(found(&[docker], &asked("docker", None)), [name("web")]);
        let podman =
            r#"[{"id": "ffff", "names": ["other"]}, {"id": "ID", "names": ["db", "more"]}]"#;
        for path in PODMAN {
            assert_eq!(found(&[(path, podman)], &asked("libpod", None)), [name("db")], "{path}");
        }
    }

    #[test]
    fn what_is_damaged_names_nobody() {
        let long = format!(r#"{{"Name": "/{}"}}"#, "x".repeat(300));
        for content in ["", "{", "[]", "7", r#"{"Name": 7}"#, r#"{"Name": "/"}"#, &long] {
            let files = [
                ("/var/lib/docker/containers/ID/config.v2.json", content),
                (PODMAN[0], content),
                (OCI[0], content),
                ("/var/log/containers/__-ID.log", ""),
                ("/var/log/containers/-ID.log", ""),
                ("/var/log/pods/_UID/", ""),
            ];
            for engine in ["docker", "libpod", "cri-containerd"] {
                assert_eq!(
                    found(&files, &asked(engine, Some(UID))),
                    [Named::default()],
                    "{content}"
                );
            }
        }
        // An id that is a path leads nowhere.
        let evil = [Asked { engine: "docker".into(), id: "../../x".into(), uid: None }];
        assert_eq!(
            found(&[("/var/lib/x/config.v2.json", r#"{"Name": "/web"}"#)], &evil),
            [Named::default()]
        );
    }
}
