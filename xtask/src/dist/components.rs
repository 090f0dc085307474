//! The list of what is in the binary (SBOM), in the form of CycloneDX 1.5, from what cargo knows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Release;
use crate::command::{self, cargo};

/// Our crates that what is released is built from: the program, and the probes that are in it.
const ROOTS: [&str; 2] = ["aiotrace", "aiotrace-ebpf"];

/// What cargo knows about the packages.
pub(super) fn metadata(release: &Release) -> Result<Value> {
    let mut metadata = cargo(&["metadata", "--format-version=1", "--locked"]);
    metadata.args(["--filter-platform", release.target.triple()]).current_dir(&release.root);
    Ok(serde_json::from_str(&command::output(&mut metadata)?)?)
}

/// Writes it.
pub(super) fn write(release: &Release) -> Result<()> {
    let metadata = metadata(release)?;
    let components: Vec<Value> = linked(&metadata)?.into_iter().map(component).collect();
    let list = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "name": "aiotrace",
            "version": release.version,
            "purl": format!("pkg:github/aiotrace/aiotrace@{}", release.commit),
        } },
        "components": components,
    });
    let path = release.out.join(format!("{}.cdx.json", release.stem()));
    Ok(std::fs::write(path, serde_json::to_string_pretty(&list)? + "\n")?)
}

fn component(package: &Value) -> Value {
    let (name, version) = (&package["name"], &package["version"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    json!({
        "type": "library",
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{}@{}", text(name), text(version)),
        "licenses": [{ "expression": licence(package) }],
    })
}

/// The licence of a package, as an expression of SPDX.
pub(super) fn licence(package: &Value) -> String {
    package["license"].as_str().unwrap_or_default().replace('/', " OR ")
}

/// The packages that are linked into the program, or into the probes in it: not those of its tests and its build.
pub(super) fn linked(metadata: &Value) -> Result<Vec<&Value>> {
    let array = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let id = |it: &Value| it["id"].as_str().unwrap_or_default().to_owned();
    let by_id: BTreeMap<String, &Value> = packages.iter().map(|it| (id(it), it)).collect();
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in array(&metadata["resolve"]["nodes"]) {
        let is_linked =
            |it: &Value| array(&it["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let deps = array(&node["deps"]).into_iter().filter(is_linked);
        let deps = deps.filter_map(|it| Some(it["pkg"].as_str()?.to_owned())).collect();
        needs.insert(id(&node), deps);
    }
    let roots = packages.iter().filter(|it| ROOTS.iter().any(|root| it["name"] == *root));
    let roots: Vec<String> = roots.map(id).collect();
    if roots.is_empty() {
        bail!("aiotrace is no package");
    }
    let (mut found, mut next) = (BTreeSet::new(), roots.clone());
    while let Some(one) = next.pop() {
        let is_macro = by_id.get(&one).is_some_and(|it| {
            array(&it["targets"])
                .iter()
                .any(|target| array(&target["kind"]).contains(&json!("proc-macro")))
        });
        if !is_macro && found.insert(one.clone()) {
            next.extend(needs.get(&one).into_iter().flatten().cloned());
        }
    }
    // What the program links is named; the program is not. The probes are a part of it.
    found.retain(|it| !roots.contains(it));
    Ok(found.iter().filter_map(|it| by_id.get(it).copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_builds_or_tests_is_not_in_the_binary() {
        let package = |name: &str, kind: &str| {
            json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                    "targets": [{ "kind": [kind] }] })
        };
        let dep = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [package("aiotrace", "bin"), package("a", "lib"), package("b", "lib"),
                         package("t", "lib"), package("m", "proc-macro"), package("q", "lib"),
                         package("aiotrace-ebpf", "bin"), package("p", "lib")],
            "resolve": { "nodes": [
                { "id": "aiotrace", "deps": [dep("a", Value::Null), dep("t", json!("dev")), dep("m", Value::Null)] },
                { "id": "a", "deps": [dep("b", Value::Null)] },
                { "id": "m", "deps": [dep("q", Value::Null)] },
                { "id": "aiotrace-ebpf", "deps": [dep("p", Value::Null)] },
            ] },
        });
        let found: Vec<_> = linked(&metadata).unwrap().into_iter().map(component).collect();
        let names: Vec<_> = found.iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b", "p"]);
        assert_eq!(found[0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
