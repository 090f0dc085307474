//! Whether the distributions' checks are content with the packages, and whether what is installed works.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{super::Release, file, fresh};
use crate::command;

/// Debian's releases in which the package is installed.
const DEBIANS: [&str; 2] = ["bookworm", "trixie"];

/// What rpmlint says and is not followed, and why.
const EXCEPTIONS: &str = "\
# It is linked statically, to run on servers with another libc.
addFilter('statically-linked-binary')
# Whoever publishes it signs it.
addFilter('no-signature')
# The names of SPDX, as Fedora has them; this rpmlint has older ones.
addFilter('invalid-license')
# gzip, as Fedora and Debian have it; openSUSE has bzip2.
addFilter('manpage-not-compressed bz2|no-manual-page-for-binary')
# The project's own changelog is beside the documents.
addFilter('no-changelogname-tag')
";

pub(super) fn lintian(release: &Release) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--info", "--fail-on", "error,warning"]);
    command::run(lintian.arg(file(release, ".deb")?))
}

pub(super) fn rpm(release: &Release) -> Result<()> {
    let package = file(release, ".rpm")?;
    command::run(Command::new("rpm").args(["-K", "--nosignature"]).arg(&package))?;
    let root = fresh(release, "unpacked")?;
    let exceptions = root.join("rpmlintrc");
    fs::write(&exceptions, EXCEPTIONS)?;
    command::run(Command::new("rpmlint").arg("-r").arg(&exceptions).arg(&package))?;
    let script = "rpm2cpio \"$1\" | cpio -id --quiet && ./usr/bin/aiotrace --version && \
                  ./usr/bin/aiotrace explain context-leak > /dev/null";
    let mut unpack = Command::new("sh");
    command::run(unpack.current_dir(&root).args(["-c", script, "sh"]).arg(&package))
}

/// Unpacks the image as a container engine does, and runs what it says.
pub(super) fn image(release: &Release) -> Result<()> {
    let root = fresh(release, "unpacked-image")?;
    let script = r#"
        set -e
        mkdir layout rootfs
        tar -xf "$1" -C layout
        blob() { echo "layout/blobs/$(echo "$1" | tr : /)"; }
        manifest=$(blob "$(jq -r '.manifests[0].digest' layout/index.json)")
        layer=$(jq -r '.layers[0].digest' "$manifest")
        config=$(blob "$(jq -r .config.digest "$manifest")")
        for it in "$manifest" "$config" "$(blob "$layer")"; do
            echo "$(basename "$it")  $it"
        done | sha256sum -c --quiet
        test "sha256:$(zcat "$(blob "$layer")" | sha256sum | cut -d ' ' -f 1)" = "$(jq -r '.rootfs.diff_ids[0]' "$config")"
        tar -xzf "$(blob "$layer")" -C rootfs
        chroot rootfs "$(jq -r '.config.Entrypoint[0]' "$config")" --version
    "#;
    let mut run = Command::new("sh");
    run.current_dir(&root).args(["-c", script, "sh"]);
    command::run(run.arg(file(release, "-oci.tar")?))
}

/// Loads the image as a user does, who then has it by this name.
pub(super) fn named(release: &Release) -> Result<()> {
    let root = fresh(release, "loaded-image")?;
    let script = r#"
        set -e
        if command -v podman > /dev/null; then
            podman --root "$PWD/storage" --runroot "$PWD/run" --storage-driver vfs load -q -i "$1" > loaded
            cat loaded
            grep -q "/$2\$" loaded
        else
            skopeo inspect --raw "oci-archive:$1:$2" > /dev/null
        fi
    "#;
    let mut run = Command::new("sh");
    run.current_dir(&root).args(["-c", script, "sh"]).arg(file(release, "-oci.tar")?);
    command::run(run.arg(format!("aiotrace:{}", release.version)))
}

/// Installs the package without a network, uses it, and removes it.
pub(super) fn debian(release: &Release) -> Result<()> {
    let package = file(release, ".deb")?;
    for name in DEBIANS {
        let root = fresh(release, name)?;
        let mut bootstrap = Command::new("debootstrap");
        bootstrap.args(["--variant=minbase", "--include=man-db", name]).arg(&root);
        command::run(&mut bootstrap)?;
        fs::copy(&package, root.join("aiotrace.deb"))?;
        let script = r#"
            set -e
            cd "$1"
            mount -t proc proc proc; mount --rbind /sys sys
            exec chroot . sh -ec '
                dpkg -i /aiotrace.deb
                aiotrace --version
                aiotrace doctor
                man -P cat aiotrace-attach | grep -q -- --duration
                man -P cat 7 aiotrace-findings | grep -qi context-leak
                test -e /usr/share/doc/aiotrace/docs/reference/performance.md
                test -e /usr/share/doc/aiotrace/THIRD-PARTY-LICENSES.txt
                # What `systemctl enable` makes goes away with the package.
                link=/etc/systemd/system/multi-user.target.wants/aiotrace.service
                mkdir -p "$(dirname $link)"
                ln -s /usr/lib/systemd/system/aiotrace.service $link
                dpkg -r aiotrace
                test ! -L $link
                dpkg -P aiotrace
                # man keeps what it has shown.
                left=$(find / -xdev -path /var/cache/man -prune -o -name "*aiotrace*" -not -name aiotrace.deb -print)
                if test -n "$left" || dpkg -s aiotrace 2> /dev/null; then echo "left: $left"; exit 1; fi
            '
        "#;
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--propagation", "private", "sh", "-c", script, "sh"]);
        command::run(unshare.arg(&root)).with_context(|| name.to_owned())?;
        fs::remove_dir_all(&root)?;
    }
    Ok(())
}
