//! The OCI image: the program with its licences, and nothing else. `podman load` and `docker load` take the archive.
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>)

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    Release,
    binary::Binary,
    tree::{DIRECTORY, DOCUMENTS, copy_licences, tar, write},
};
use crate::command;

/// Makes it.
pub(super) fn make(release: &Release, binary: &Binary) -> Result<()> {
    let work = release.work.join("image");
    let layer = work.join("layer");
    write(&layer.join("usr/bin/aiotrace"), &fs::read(&binary.program)?, DIRECTORY)?;
    copy_licences(release, &layer.join(DOCUMENTS))?;
    let packed = work.join("layer.tar");
    tar(release, &layer, "usr", None, &packed)?;
    let plain = digest(&packed)?;
    command::run(Command::new("gzip").args(["-9", "-n"]).arg(&packed))?;
    let layout = work.join("layout");
    let layer = blob(&layout, &fs::read(work.join("layer.tar.gz"))?, "layer.v1.tar+gzip")?;
    let created = release
        .command("date")
        .args(["-u", "+%FT%TZ", "-d"])
        .arg(format!("@{}", release.epoch))
        .output()?;
    let created = String::from_utf8(created.stdout)?.trim().to_owned();
    let config = json!({
        "created": created,
        "architecture": release.target.debian(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/aiotrace"],
            "Labels": {
                "org.opencontainers.image.source": "https://github.com/aiotrace/aiotrace",
                "org.opencontainers.image.version": release.version,
                "org.opencontainers.image.revision": release.commit,
                "org.opencontainers.image.licenses": "Apache-2.0 OR MIT",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [plain] },
        "history": [{ "created": created, "created_by": "cargo xtask dist" }],
    });
    let config = blob(&layout, config.to_string().as_bytes(), "config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media("manifest.v1+json"),
        "config": config,
        "layers": [layer],
    });
    let mut manifest = blob(&layout, manifest.to_string().as_bytes(), "manifest.v1+json")?;
    // The name that podman gives it, as it takes no other one from an archive.
    let name = format!("aiotrace:{}", release.version);
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    write(&layout.join("index.json"), index.to_string().as_bytes(), 0o644)?;
    write(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    tar(release, &layout, ".", None, &release.out.join(format!("{}-oci.tar", release.stem())))
}

fn media(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// Puts a part of the image into its place; gives what refers to it.
fn blob(layout: &Path, content: &[u8], kind: &str) -> Result<Value> {
    let new = layout.join("blobs/sha256/new");
    write(&new, content, 0o644)?;
    let digest = digest(&new)?;
    let name = digest.trim_start_matches("sha256:");
    fs::rename(&new, new.with_file_name(name))?;
    Ok(json!({ "mediaType": media(kind), "digest": digest, "size": content.len() }))
}

fn digest(path: &Path) -> Result<String> {
    let text = command::output(Command::new("sha256sum").arg(path))?;
    let sum = text.split_whitespace().next().context("sha256sum says nothing")?;
    Ok(format!("sha256:{sum}"))
}
