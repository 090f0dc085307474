//! Debian and the distributions that derive from it: which packages are missing, and apt-get.

use std::{fs, process::Command};

use anyhow::{Result, bail};

use crate::command;

/// Whether packages can be installed here with apt-get under Debian's names.
pub fn is_here() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    is_debian(&release) && which::which("apt-get").is_ok()
}

/// The packages among `wanted` that are not installed.
pub fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f=${Package} ${Status}\\n"]).args(wanted);
    // dpkg-query fails if it does not know one of the packages, but lists the others all the same.
    Ok(missing_from(&command::output(&mut query)?, wanted))
}

/// apt-get, as root or with sudo.
#[derive(Debug, Default)]
pub struct Apt {
    is_updated: bool,
}

impl Apt {
    /// Installs packages in one call.
    pub fn install(&mut self, packages: &[&str]) -> Result<()> {
        if packages.is_empty() {
            return Ok(());
        }
        let mut install = apt_get(&["install", "-y", "--no-install-recommends"]);
        install.args(packages);
        if !command::is_root() && which::which("sudo").is_err() {
            bail!(
                "this needs root, and there is no sudo; run as root: `apt-get update && {}`",
                command::line(&install)
            );
        }
        if !self.is_updated {
            self.is_updated = true;
            // A package source that does not answer is no reason to stop: `apt-get install` says
            // what it misses.
            if let Err(error) = command::run(&mut apt_get(&["update"])) {
                eprintln!("xtask: {error:#}; going on with the package lists there are");
            }
        }
        command::run(&mut install)
    }
}

fn apt_get(arguments: &[&str]) -> Command {
    let is_sudo = !command::is_root() && which::which("sudo").is_ok();
    let mut command = Command::new(if is_sudo { "sudo" } else { "env" });
    if is_sudo {
        command.arg("env");
    }
    // sudo does not pass the environment on, so env sets the variable behind it.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
    command
}

/// Whether the text of /etc/os-release names Debian as the distribution or as the one it derives
/// from.
fn is_debian(os_release: &str) -> bool {
    os_release.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
        let value = value.trim_matches(['"', '\'']);
        match key {
            "ID" => value == "debian",
            "ID_LIKE" => value.split_whitespace().any(|it| it == "debian"),
            _ => false,
        }
    })
}

/// The packages that are not installed, by lines "PACKAGE WANTED ERROR STATE", for instance "fio
/// install ok installed".
fn missing_from<'a>(listing: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let is_installed = |package: &str| {
        listing.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(package) && words.nth(2) == Some("installed")
        })
    };
    wanted.iter().copied().filter(|package| !is_installed(package)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_debian() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"));
        assert!(is_debian("ID=\"debian\"\n"));
    }

    #[test]
    fn what_derives_from_debian_counts() {
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
    }

    #[test]
    fn others_do_not_count() {
        assert!(!is_debian("ID=fedora\nID_LIKE=\"rhel centos\"\nHOME_URL=debian\n"));
        assert!(!is_debian("ID=debianish\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn unknown_and_removed_packages_are_missing() {
        let listing = "strace install ok installed\n\
                       fio deinstall ok config-files\n\
                       procps hold ok installed\n\
                       sysbench install ok half-configured\n";
        let wanted = ["strace", "fio", "procps", "sysbench", "bpftool"];
        assert_eq!(missing_from(listing, &wanted), ["fio", "sysbench", "bpftool"]);
    }

    #[test]
    fn without_a_listing_all_packages_are_missing() {
        assert_eq!(missing_from("", &["gcc"]), ["gcc"]);
    }
}
