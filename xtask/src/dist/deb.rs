//! The package for Debian and what derives from it.

use std::{fs, process::Command};

use anyhow::Result;

use super::{
    Release, notices,
    tree::{DIRECTORY, DOCUMENTS, Tree, compress, write},
};
use crate::command;

/// Where lintian is contradicted, and why.
const OVERRIDES: &str = "\
# It is linked statically, to run on servers with another libc, and can be loaded anywhere (static-pie), which lintian
# takes for a library.
aiotrace: shared-library-lacks-prerequisites [usr/bin/aiotrace]
";

/// What dpkg runs when it installs and removes the package: what debhelper would write for units that are not enabled
/// by the package, but a unit that somebody enabled is disabled with the removal, not only when all is purged. No
/// failure of systemd is one of the package.
const SCRIPTS: [(&str, &str); 3] = [
    (
        "postinst",
        r#"#!/bin/sh
set -e
case "$1" in
configure | abort-upgrade | abort-deconfigure | abort-remove)
    # So that a removal knows which links enabling them makes.
    if [ -x /usr/bin/deb-systemd-helper ]; then
        deb-systemd-helper update-state aiotrace.service aiotrace-textfile.timer > /dev/null || true
    fi
    if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload > /dev/null || true
        if [ -n "$2" ] && [ -x /usr/bin/deb-systemd-invoke ]; then
            deb-systemd-invoke try-restart aiotrace.service aiotrace-textfile.timer > /dev/null || true
        fi
    fi
    ;;
esac
"#,
    ),
    (
        "prerm",
        r#"#!/bin/sh
set -e
if [ "$1" = remove ]; then
    if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ] && [ -x /usr/bin/deb-systemd-invoke ]; then
        deb-systemd-invoke stop aiotrace-textfile.timer aiotrace-textfile.service aiotrace.service > /dev/null || true
    fi
    if [ -x /usr/bin/deb-systemd-helper ]; then
        deb-systemd-helper disable aiotrace.service aiotrace-textfile.timer > /dev/null || true
    fi
fi
"#,
    ),
    (
        "postrm",
        r#"#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload > /dev/null || true
fi
if [ "$1" = purge ] && [ -x /usr/bin/deb-systemd-helper ]; then
    deb-systemd-helper purge aiotrace.service aiotrace-textfile.timer > /dev/null || true
fi
"#,
    ),
];

/// Makes it.
pub(super) fn make(release: &Release, tree: &Tree) -> Result<()> {
    let root = release.work.join("deb");
    command::run(Command::new("cp").arg("-a").arg(&tree.root).arg(&root))?;
    let documents = root.join(DOCUMENTS);
    write(&documents.join("copyright"), copyright(release)?.as_bytes(), 0o644)?;
    write(&documents.join("changelog"), changelog(release)?.as_bytes(), 0o644)?;
    compress(&documents.join("changelog"))?;
    write(&root.join("usr/share/lintian/overrides/aiotrace"), OVERRIDES.as_bytes(), 0o644)?;
    let mut sums = Command::new("sh");
    sums.current_dir(&root).args(["-c", "find usr -type f | LC_ALL=C sort | xargs md5sum"]);
    let sums = command::output(&mut sums)?;
    write(&root.join("DEBIAN/md5sums"), sums.as_bytes(), 0o644)?;
    for (name, script) in SCRIPTS {
        write(&root.join("DEBIAN").join(name), script.as_bytes(), DIRECTORY)?;
    }
    let kibibytes = size(&root)?.div_ceil(1024);
    write(&root.join("DEBIAN/control"), control(release, kibibytes).as_bytes(), 0o644)?;
    let name = format!("aiotrace_{}_{}.deb", release.version, release.target.debian());
    let mut build = release.command("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&root);
    command::run(build.arg(release.out.join(name)))
}

fn control(release: &Release, kibibytes: u64) -> String {
    format!(
        "Package: aiotrace\n\
         Version: {}\n\
         Architecture: {}\n\
         Maintainer: The aiotrace authors <aiotrace@users.noreply.github.com>\n\
         Installed-Size: {kibibytes}\n\
         Section: utils\n\
         Priority: optional\n\
         Homepage: https://github.com/aiotrace/aiotrace\n\
         Description: trace, account for and break Linux native AIO\n \
         aiotrace shows what running programs do with io_setup, io_submit,\n \
         io_getevents, io_pgetevents, io_cancel and io_destroy, finds what is wrong\n \
         (leaked contexts, stuck requests, who holds fs.aio-nr), and can make calls\n \
         fail on purpose. It uses eBPF or ptrace, and needs no library.\n",
        release.version,
        release.target.debian(),
    )
}

/// The time of the release, as changelogs have it.
fn time(release: &Release) -> Result<String> {
    let mut date = release.command("date");
    Ok(command::output(date.args(["-R", "-u", "-d", &format!("@{}", release.epoch)]))?
        .trim()
        .to_owned())
}

fn changelog(release: &Release) -> Result<String> {
    Ok(format!(
        "aiotrace ({}) unstable; urgency=medium\n\n  \
         * See /usr/share/doc/aiotrace/CHANGELOG.md.gz.\n\n \
         -- The aiotrace authors <aiotrace@users.noreply.github.com>  {}\n",
        release.version,
        time(release)?
    ))
}

/// In the form of DEP-5.
fn copyright(release: &Release) -> Result<String> {
    let mit = fs::read_to_string(release.root.join("LICENSE-MIT"))?;
    let holder =
        mit.lines().find(|it| it.starts_with("Copyright")).unwrap_or("the aiotrace authors");
    let holder = holder.trim_start_matches("Copyright").trim_start_matches(" (c)").trim();
    let paragraph = |text: &str| -> String {
        text.lines()
            .map(|it| if it.trim().is_empty() { " .\n".to_owned() } else { format!(" {it}\n") })
            .collect()
    };
    let text = mit.split_once("\n\n").map_or(mit.as_str(), |it| it.1);
    let text =
        text.split_once("\n\n").filter(|it| it.0.starts_with("Copyright")).map_or(text, |it| it.1);
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: aiotrace\n\
         Source: https://github.com/aiotrace/aiotrace\n\n\
         Files: *\nCopyright: {holder}\nLicense: Apache-2.0 or Expat\n\
         Comment: The probes that the program loads into the kernel are of the licence\n \
         Expat or GPL-2 (\"Dual MIT/GPL\"). What is linked into the program, and is not of\n \
         this project, is under the licences in\n \
         /{DOCUMENTS}/{}.\n\n\
         License: Apache-2.0\n On Debian systems, the Apache License is in\n /usr/share/common-licenses/Apache-2.0.\n\n\
         License: Expat\n{}",
        notices::NAME,
        paragraph(text.trim_end())
    ))
}

fn size(directory: &std::path::Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() { size(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}
