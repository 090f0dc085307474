//! Finds containers by the names of cgroups.

use crate::words::escape::escaped;

/// `docker:0123456789ab` for a cgroup with a name that container engines give: `docker-ID.scope`,
/// `/docker/ID`, `libpod-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `lxc.payload.NAME`.
pub fn container(cgroup: &str) -> Option<String> {
    let is_id = |it: &str| it.len() == 64 && it.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut before = "";
    for part in cgroup.split('/') {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        if let Some(name) = name.strip_prefix("lxc.payload.") {
            return Some(format!("lxc:{}", escaped(name.as_bytes())));
        }
        let (engine, id) = name.rsplit_once('-').unwrap_or((before, name));
        if is_id(id) {
            let engine = if engine.is_empty() { "container" } else { engine };
            return Some(format!("{}:{}", escaped(engine.as_bytes()), &id[..12]));
        }
        before = part;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_told_by_the_name_of_its_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        let named = |cgroup: &str| container(&cgroup.replace("ID", &id));
        let docker = Some("docker:0123456789ab".to_owned());
        assert_eq!(named("/system.slice/docker-ID.scope"), docker);
        assert_eq!(named("/docker/ID"), docker);
        let containerd = Some("cri-containerd:0123456789ab".to_owned());
        assert_eq!(named("/kubepods.slice/x/cri-containerd-ID.scope/init"), containerd);
        assert_eq!(named("/machine.slice/libpod-ID.scope").unwrap(), "libpod:0123456789ab");
        assert_eq!(named("/lxc.payload.web/system.slice").unwrap(), "lxc:web");
        assert_eq!(named("/user.slice/user-0.slice"), None);
    }
}
