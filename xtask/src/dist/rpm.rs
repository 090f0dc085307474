//! The package for distributions that use rpm.

use anyhow::{Context as _, Result};

use super::{Release, tree::Tree};
use crate::command;

/// The units that somebody may have enabled.
const UNITS: &str = "aiotrace.service aiotrace-textfile.timer";

/// Makes it.
pub(super) fn make(release: &Release, tree: &Tree) -> Result<()> {
    let top = release.work.join("rpm");
    std::fs::create_dir_all(&top)?;
    let spec = top.join("aiotrace.spec");
    std::fs::write(&spec, text(release, tree))?;
    let mut build = release.command("rpmbuild");
    build.args(["-bb", "--target", release.target.name()]);
    let top = top.display();
    for define in [
        format!("_topdir {top}"),
        format!("_rpmdir {top}"),
        "_build_name_fmt %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm".to_owned(),
        "_buildhost localhost".to_owned(),
        "_binary_payload w9.xzdio".to_owned(),
        "use_source_date_epoch_as_buildtime 1".to_owned(),
        "clamp_mtime_to_source_date_epoch 1".to_owned(),
        "_build_id_links none".to_owned(),
    ] {
        build.args(["--define", &define]);
    }
    command::run(build.arg(&spec))?;
    let name = format!("aiotrace-{}-1.{}.rpm", release.version, release.target.name());
    let made = release.work.join("rpm").join(&name);
    std::fs::copy(&made, release.out.join(&name)).with_context(|| made.display().to_string())?;
    Ok(())
}

/// The program is built and stripped already: rpm only packs it.
fn text(release: &Release, tree: &Tree) -> String {
    format!(
        "Name: aiotrace
Version: {}
Release: 1
Summary: Trace, account for and break Linux native AIO
License: (Apache-2.0 OR MIT) AND (MIT OR GPL-2.0-only)
Group: Applications/System
Packager: The aiotrace authors <aiotrace@users.noreply.github.com>
URL: https://github.com/aiotrace/aiotrace
AutoReqProv: no
%global debug_package %{{nil}}
%global __os_install_post %{{nil}}

%description
aiotrace shows what running programs do with io_setup, io_submit, io_getevents,
io_pgetevents, io_cancel and io_destroy, finds what is wrong (leaked contexts,
stuck requests, who holds fs.aio-nr), and can make calls fail on purpose. It
uses eBPF or ptrace, and needs no library.

%install
cp -a {}/. %{{buildroot}}
mv %{{buildroot}}/usr/share/zsh/vendor-completions %{{buildroot}}/usr/share/zsh/site-functions

# No failure of systemd is one of the package.
%post
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload > /dev/null 2>&1 || :
fi

%preun
if [ $1 -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now {UNITS} > /dev/null 2>&1 || :
fi

%postun
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload > /dev/null 2>&1 || :
    if [ $1 -ge 1 ]; then
        systemctl try-restart {UNITS} > /dev/null 2>&1 || :
    fi
fi

%files
%defattr(-, root, root)
%attr(0755, root, root) /usr/bin/aiotrace
%attr(0644, root, root) /usr/share/man/man*/aiotrace*
%attr(0644, root, root) /usr/share/bash-completion/completions/aiotrace
%attr(0644, root, root) /usr/share/zsh/site-functions/_aiotrace
%attr(0644, root, root) /usr/share/fish/vendor_completions.d/aiotrace.fish
%attr(0644, root, root) /usr/lib/systemd/system/aiotrace*
%doc /usr/share/doc/aiotrace
",
        release.version,
        tree.root.display()
    )
}
