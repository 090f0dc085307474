//! What the cgroups of a process say: its unit, its container, its pod. The kernel writes the paths, but whoever may make a
//! cgroup chooses its name: a user below `user@1000.service`, a program below its container. So what is nearest to the root
//! counts, which the machine's own systemd and container engines have made.

use aiotrace_model::trace::{Container, is_id};

/// Where a process belongs, by its cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The path in the hierarchy of v2, if there is one.
    pub unified: Option<String>,
    /// The path that says most; with v1 one of several.
    pub path: String,
    /// The unit, and the length of the path up to it.
    pub unit: Option<(String, usize)>,
    /// The container, without its name, and the length of the path up to it.
    pub container: Option<(Container, usize)>,
    /// The uid of the pod, and the length of the path up to it.
    pub pod: Option<(String, usize)>,
    /// It is below a user's own systemd, where that user chooses the names of cgroups.
    pub is_users: bool,
}

impl Place {
    /// Reads what /proc/PID/cgroup has.
    pub fn of(cgroups: &[u8]) -> Self {
        let text = String::from_utf8_lossy(cgroups);
        let of = |wanted: &str| {
            text.lines().find_map(|line| {
                let (hierarchy, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                // That of v2 has no controllers, and the number 0.
                let is_it = controllers == wanted && (hierarchy == "0") == wanted.is_empty();
                is_it.then(|| path.to_owned())
            })
        };
        let unified = of("");
        // v1 has a path for each controller; an engine that knows no systemd uses only those.
        let all = ["", "name=systemd", "pids", "memory"].into_iter().filter_map(of);
        let places: Vec<Self> = all.map(|path| Self::at(path, unified.clone())).collect();
        let best = |is: fn(&Self) -> bool| places.iter().find(|it| is(it)).cloned();
        best(|it| it.container.is_some())
            .or_else(|| best(|it| it.pod.is_some()))
            .or_else(|| best(|it| it.unit.is_some()))
            .or_else(|| places.first().cloned())
            .unwrap_or_default()
    }

    fn at(path: String, unified: Option<String>) -> Self {
        let mut place = Self { unified, ..Self::default() };
        let (mut above, mut end, mut are_slices) = ("", 0, true);
        for part in path.split('/') {
            end += part.len();
            place.is_users |= part.starts_with("user@");
            if place.container.is_none() {
                if place.pod.is_none() && !place.is_users && path.contains("kubepods") {
                    place.pod = pod(part).map(|it| (it, end));
                }
                place.container = container(part, above).map(|it| (it, end));
            }
            let is_unit = part.ends_with(".service") || part.ends_with(".scope");
            if place.unit.is_none() && are_slices && is_unit {
                place.unit = Some((part.to_owned(), end));
            }
            are_slices &= part.is_empty() || part.ends_with(".slice") || is_namespace(part);
            (above, end) = (part, end + 1);
        }
        place.path = path;
        place
    }

    /// The path up to the container, in the hierarchy of v2; `None`: the container is known by another hierarchy.
    pub fn of_container(&self) -> Option<&str> {
        self.up_to(self.container.as_ref()?.1)
    }

    /// The same of the pod.
    pub fn of_pod(&self) -> Option<&str> {
        self.up_to(self.pod.as_ref()?.1)
    }

    /// The same of the unit.
    pub fn of_unit(&self) -> Option<&str> {
        self.up_to(self.unit.as_ref()?.1)
    }

    fn up_to(&self, end: usize) -> Option<&str> {
        (self.unified.as_ref() == Some(&self.path)).then_some(())?;
        self.path.get(..end)
    }
}

/// What leads out of our cgroup namespace: `/../../kubepods.slice`.
fn is_namespace(part: &str) -> bool {
    part == ".."
}

/// The longest name of a part that is taken for a container's.
const LONGEST: usize = 255;

/// The container that a part of a path stands for; `above` is the part before it.
fn container(part: &str, above: &str) -> Option<Container> {
    let of = |engine: &str, id: &str| {
        let (engine, id) = (engine.to_owned(), id.to_owned());
        Some(Container { engine, id, name: None })
    };
    if part.len() > LONGEST {
        return None;
    }
    let name = part.strip_suffix(".scope").or_else(|| part.strip_suffix(".service"));
    let name = name.unwrap_or(part);
    if let Some(name) = name.strip_prefix("lxc.payload.").filter(|it| !it.is_empty()) {
        return of("lxc", name);
    }
    if matches!(above, "lxc" | "lxc.payload") && !name.is_empty() {
        return of("lxc", name);
    }
    if let Some(name) = name.strip_prefix("systemd-nspawn@").filter(|it| !it.is_empty()) {
        return of("nspawn", &unescaped(name));
    }
    // A machine of systemd-machined: a container, or what libvirt runs.
    let machine = part.strip_suffix(".scope").and_then(|it| it.strip_prefix("machine-"));
    if let Some(name) = machine.map(unescaped).filter(|it| !it.is_empty()) {
        return match name.split_once('-') {
            Some(("qemu", rest)) => of("qemu", rest),
            _ => of("nspawn", &name),
        };
    }
    // `SLICE:cri-containerd:ID` is what containerd makes if it is told of systemd, and runc is not.
    if let Some((rest, id)) = name.rsplit_once(':').filter(|it| is_id(it.1)) {
        return of(rest.rsplit(':').next().unwrap_or(rest), id);
    }
    let (engine, id) = name.rsplit_once('-').unwrap_or(("", name));
    if !is_id(id) || engine.ends_with("-conmon") {
        return None;
    }
    match (engine, above) {
        ("", "docker" | "libpod") => of(above, id),
        ("", _) => of("container", id),
        _ => of(engine, id),
    }
}

/// The uid of the pod that a part of a path stands for: `kubepods-burstable-podUID.slice`, or `podUID`.
fn pod(part: &str) -> Option<String> {
    // Behind a colon is a container.
    let part = part.split(':').next().unwrap_or(part);
    let name = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid.to_owned(),
        // systemd's names of slices have no other `-`.
        None => name.rsplit_once("-pod")?.1.replace('_', "-"),
    };
    let is_one = (16..=64).contains(&uid.len())
        && uid.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
    is_one.then_some(uid)
}

/// Decodes systemd's escapes: `\x2d`.
fn unescaped(name: &str) -> String {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = rest.strip_prefix(b"\\x").and_then(|it| it.get(..2));
        let byte = digits.and_then(|it| u8::from_str_radix(str::from_utf8(it).ok()?, 16).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[4..] } else { behind };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    fn place(path: &str) -> Place {
        Place::of(format!("0::{}\n", path.replace("ID", &id())).as_bytes())
    }

    /// `ENGINE:ID`, with `ID` for the long one.
    fn contained(path: &str) -> Option<String> {
        let (it, _) = place(path).container?;
        Some(format!("{}:{}", it.engine, it.id.replace(&id(), "ID")))
    }

    const UID: &str = "2d3b1f0a-9c1e-4a57-8f0e-0123456789ab";

    #[test]
    fn a_container_is_told_by_the_names_that_engines_give_its_cgroup() {
        for (path, engine) in [
            ("/system.slice/docker-ID.scope", "docker:ID"),
            ("/docker/ID", "docker:ID"),
            ("/system.slice/docker-ID.scope/init.scope", "docker:ID"),
            ("/kubepods.slice/x/cri-containerd-ID.scope", "cri-containerd:ID"),
            ("/kubepods.slice/x/crio-ID.scope/container", "crio:ID"),
            ("/kubepods/besteffort/podX/ID", "container:ID"),
            ("/kubepods/besteffort/podX/crio-ID", "crio:ID"),
            (
                "/system.slice/containerd.service/kubepods-podX.slice:cri-containerd:ID",
                "cri-containerd:ID",
            ),
            ("/machine.slice/libpod-ID.scope/container", "libpod:ID"),
            ("/libpod_parent/libpod-ID", "libpod:ID"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
                "libpod:ID",
            ),
            ("/system.slice/nerdctl-ID.scope", "nerdctl:ID"),
            ("/default/ID", "container:ID"),
            ("/machine.slice/machine-web\\x2d1.scope/payload", "nspawn:web-1"),
            ("/machine.slice/systemd-nspawn@web.service/payload/system.slice", "nspawn:web"),
            ("/machine.slice/machine-qemu\\x2d3\\x2ddb.scope/libvirt/emulator", "qemu:3-db"),
            ("/lxc.payload.web/system.slice/cron.service", "lxc:web"),
            ("/lxc/web", "lxc:web"),
        ] {
            assert_eq!(contained(path).as_deref(), Some(engine), "{path}");
        }
        let short = "0123456789ab";
        for none in [
            "/",
            "",
            "/user.slice/user-0.slice",
            "/machine.slice/libpod-conmon-ID.scope",
            &format!("/docker/{short}"),
            "/system.slice/machine-.scope",
        ] {
            assert_eq!(contained(none), None, "{none}");
        }
    }

    #[test]
    fn the_outermost_container_counts_because_a_program_in_it_can_make_others() {
        let inner = format!("/docker/ID/kubepods/pod{UID}/{}", "f".repeat(64));
        assert_eq!(contained(&inner).as_deref(), Some("docker:ID"));
        assert_eq!(place(&inner).pod, None, "the pod is inside, too");
        assert_eq!(
            place("/system.slice/docker-ID.scope/system.slice/x.service").unit.unwrap().0,
            format!("docker-{}.scope", id())
        );
    }

    #[test]
    fn a_pod_is_told_by_its_uid() {
        let underlined = UID.replace('-', "_");
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{underlined}.slice/crio-ID.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{underlined}.slice/cri-containerd-ID.scope"),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{underlined}.slice/cri-containerd-ID.scope"
            ),
            format!("/kubepods/burstable/pod{UID}/ID"),
            format!("/../../kubepods/pod{UID}/ID"),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{underlined}.slice:cri-containerd:ID"
            ),
        ] {
            let place = place(&path);
            assert_eq!(place.pod.as_ref().map(|it| &*it.0), Some(UID), "{path}");
            assert!(place.container.is_some(), "{path}");
        }
        // A static pod has a hash for its uid.
        assert_eq!(
            place("/kubepods/pod0123456789abcdef0123456789abcdef/ID").pod.unwrap().0.len(),
            32
        );
        assert_eq!(place("/kubepods/podium/x").pod, None);
    }

    #[test]
    fn a_unit_lies_in_slices_only() {
        let unit = |path: &str| place(path).unit.map(|it| it.0);
        assert_eq!(unit("/system.slice/mysql.service").as_deref(), Some("mysql.service"));
        assert_eq!(
            unit("/system.slice/system-getty.slice/getty@tty1.service").as_deref(),
            Some("getty@tty1.service")
        );
        assert_eq!(
            unit("/user.slice/user-0.slice/session-1.scope").as_deref(),
            Some("session-1.scope")
        );
        let users = "/user.slice/user-1000.slice/user@1000.service/app.slice/db.service";
        assert_eq!(unit(users).as_deref(), Some("user@1000.service"));
        assert_eq!(place(users).of_unit(), Some("/user.slice/user-1000.slice/user@1000.service"));
        assert_eq!(unit("/docker/ID/system.slice/x.service"), None);
    }

    #[test]
    fn paths_lead_to_the_pod_and_the_container_themselves() {
        let place = place(&format!("/kubepods/pod{UID}/ID/below"));
        assert_eq!(place.of_pod().unwrap(), format!("/kubepods/pod{UID}"));
        assert_eq!(place.of_container().unwrap(), format!("/kubepods/pod{UID}/{}", id()));
    }

    #[test]
    fn with_v1_the_hierarchy_that_names_a_container_counts() {
        let of = |path: &str| {
            let id = id();
            format!(
                "9:name=systemd:{path}/{id}\n8:pids:{path}/{id}\n4:memory:{path}/{id}\n0::/system.slice/containerd.service\n"
            )
        };
        let place = Place::of(of("/docker").as_bytes());
        assert_eq!(place.container.as_ref().unwrap().0.engine, "docker");
        assert_eq!(place.of_container(), None, "it is in no cgroup of v2");
        let only_memory = format!("4:memory:/docker/{}\n1:cpu:/\n0::/\n", id());
        assert!(Place::of(only_memory.as_bytes()).container.is_some());
        assert_eq!(Place::of(b"").path, "");
        assert_eq!(Place::of(b"\xff\x00:::\n0::/\xff\n").path, "/\u{fffd}");
    }
}
