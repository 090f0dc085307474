//! The virtual machines: which kernels there are files of, and what a machine with each runs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{
    Options,
    boot::Clock,
    runs::{Set, runs},
    table::{KERNELS, Kernel, SHARES},
};
use crate::{arch::Architecture, build, cost, kernels};

/// A virtual machine, and what it runs.
pub struct Guest {
    pub kernel: &'static Kernel,
    /// The architecture of the kernel.
    pub arch: Architecture,
    /// The file of the kernel.
    pub file: PathBuf,
    /// The probe sets, and the filter of the tests to run with each.
    pub runs: Vec<(Set, String)>,
    pub clock: Clock,
    /// Whether the guest also runs the tests for which one guest is enough.
    runs_everything: bool,
}

impl Guest {
    /// Its name, and that of its log.
    pub fn name(&self) -> String {
        match self.clock {
            Clock::Real => self.kernel.name.to_owned(),
            Clock::Instructions => format!("{},instructions", self.kernel.name),
        }
    }

    /// What this guest's kernel command line says.
    pub fn parameters(&self) -> String {
        let runs = self.runs.iter().map(|(set, filters)| format!("{}/{filters}", set.name()));
        let runs = runs.collect::<Vec<_>>().join(";");
        let cost = if self.clock == Clock::Instructions { "yes" } else { "" };
        let Kernel { name, parameters, .. } = self.kernel;
        let everywhere = if self.runs_everything { "yes" } else { "" };
        format!(
            "{parameters} aiotrace_guest={name} aiotrace_cost={cost} aiotrace_everywhere={everywhere} \
             aiotrace_run={runs}"
        )
    }
}

/// The guests that cannot be run here, each with the reason.
pub fn missing() -> Result<Vec<String>> {
    let files = kernels::find(&[])?;
    let files: Vec<(&PathBuf, Architecture)> =
        files.iter().map(|it| Ok((it, kernels::architecture(it)?))).collect::<Result<_>>()?;
    let why = |kernel: &Kernel| {
        let of_it = files.iter().find(|(file, arch)| is_file_of(file, *arch, kernel));
        let reason = match of_it {
            None => format!("{} names no directory with its file", kernels::DIRECTORY),
            Some((_, arch)) => lacks(*arch)?,
        };
        Some(format!("{}: {reason}", kernel.name))
    };
    Ok(KERNELS.iter().filter_map(why).collect())
}

/// What this machine lacks for guests of this architecture.
fn lacks(arch: Architecture) -> Option<String> {
    let qemu = arch.qemu();
    if which::which(qemu).is_err() {
        return Some(format!("there is no {qemu}: `cargo xtask setup` installs it"));
    }
    let target = arch.target().filter(|it| !build::has_target(it))?;
    Some(format!("Rust has no {target} here: `cargo xtask setup` installs it"))
}

/// The guests that were asked for.
pub fn guests(options: &Options) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    // The name of a guest selects that guest; other text selects each guest whose kernel's file
    // name contains it.
    let is_asked_for = |guest: &Kernel, file: &Path| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let of_it = |asked: &String| match KERNELS.iter().find(|it| it.name == asked) {
            Some(named) => named.name == guest.name,
            None => asked.contains('/') || file.contains(asked.as_str()),
        };
        options.kernel.is_empty() || options.kernel.iter().any(of_it)
    };
    let file_of = |it: &String| it.split(',').next().unwrap_or_default().to_owned();
    let mut files = kernels::find(&options.kernel.iter().map(file_of).collect::<Vec<_>>())?;
    files.sort();
    files.dedup();
    for file in files {
        let arch = kernels::architecture(&file)?;
        if options.arch.is_some_and(|it| it != arch) {
            continue;
        }
        // What was asked for by its architecture must be run.
        if options.arch.is_none()
            && options.kernel.is_empty()
            && let Some(reason) = lacks(arch)
        {
            println!("NOT TESTED: {}: {reason}", file.display());
            continue;
        }
        let known: Vec<&'static Kernel> =
            KERNELS.iter().filter(|it| is_file_of(&file, arch, it)).collect();
        if known.is_empty() {
            bail!(
                "nothing is known of {}: add a row for it to aiotrace/tests/kernel/kernels.rs, so that \
                 the tests know what to expect",
                file.display()
            );
        }
        for kernel in known.into_iter().filter(|it| is_asked_for(it, &file)) {
            let (runs, clock) = if options.cost {
                if !cost::KERNELS.contains(&kernel.name) {
                    continue;
                }
                (vec![(Set::Auto, "cost::".to_owned())], Clock::Instructions)
            } else {
                (runs(options, kernel), Clock::Real)
            };
            // Tests that a filter selects run in every guest.
            let runs_everything = options.everywhere || options.filter.is_some();
            guests.push(Guest { kernel, arch, file: file.clone(), runs, clock, runs_everything });
        }
    }
    if guests.is_empty() && options.cost {
        bail!("instructions are counted with the kernels {} only", cost::KERNELS.join(", "));
    }
    if guests.is_empty() && options.kernel.is_empty() {
        bail!("{} names no directory with a kernel that can be booted here", kernels::DIRECTORY);
    }
    if guests.is_empty() {
        let names = KERNELS.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
        bail!("no guest of {names} is meant by {}", options.kernel.join(", "));
    }
    let has_share = |share| guests.iter().any(|it| it.kernel.share == Some(share));
    let leaves_out = options.kernel.is_empty()
        && options.arch != Some(Architecture::Arm)
        && !options.everywhere
        && !options.cost;
    if leaves_out && !(0..SHARES).all(has_share) {
        println!(
            "Not all kernels of aiotrace/tests/kernel/kernels.rs are here: some tests for which one guest is \
             enough run in none (--everywhere runs them in each)."
        );
    }
    Ok(guests)
}

/// Whether the file, which is of this architecture, is `vmlinuz-NAME`, or the same kernel under the
/// name of Debian's package.
fn is_file_of(file: &Path, arch: Architecture, kernel: &Kernel) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_start_matches("vmlinuz-").trim_end_matches(".gz");
    let own = kernel.name.split(',').next().unwrap_or_default().trim_end_matches("-arm64");
    let clouds = format!("-cloud-{}", arch.debian());
    let is_debians = name.starts_with(kernel.release) && name.contains(&clouds);
    kernel.arch == arch.name() && (name == own || (is_debians && own.ends_with("-debian")))
}

#[cfg(test)]
mod tests {
    use super::{super::table::SIGNS, *};

    #[test]
    fn a_kernel_is_known_by_its_files_name() {
        let of = |file: &str| -> Vec<&str> {
            let arch = if file.contains("arm64") { Architecture::Arm } else { Architecture::X86 };
            let of_it = KERNELS.iter().filter(|it| is_file_of(Path::new(file), arch, it));
            of_it.map(|it| it.name).collect()
        };
        assert_eq!(of("/arm64/vmlinuz-6.12-debian.gz"), ["6.12-debian-arm64", SIGNS]);
        assert_eq!(of("vmlinuz-6.1.0-50-cloud-arm64-unsigned"), ["6.1-debian-arm64"]);
        assert_eq!(of("/k/vmlinuz-6.12-debian"), ["6.12-debian", "6.12-debian,lockdown"]);
        assert_eq!(of("vmlinuz-6.12-override"), ["6.12-override"]);
        assert_eq!(of("vmlinuz-6.1.0-41-cloud-amd64-unsigned"), ["6.1-debian"]);
        assert_eq!(of("vmlinuz-9.9-debian"), [""; 0]);
    }
}
