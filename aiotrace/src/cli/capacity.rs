//! `aiotrace capacity`: how many more programs fit into fs.aio-max-nr.

use std::io::{self, Write as _};

use clap::Args;

use super::options::{self, values};
use crate::{
    failure::{Context as _, Result},
    inventory::{Inventory, capacity},
    names,
    output::Format,
    source::bpf,
};

/// Show what one more instance of each program takes from fs.aio-max-nr, and how many more fit
///
/// With --need N the status is 1 if so many more do not fit, for instance before a deployment:
/// `aiotrace capacity mariadbd --need 3`. It needs BPF (root), as only the kernel's own tables have the charges.
#[derive(Debug, Args)]
pub struct Options {
    /// Only these programs: names as the table shows them
    #[arg(value_name = "PROGRAM")]
    programs: Vec<String>,
    /// End with status 1 if N more do not fit: of PROGRAM, or of what --charge says
    #[arg(long, value_name = "N")]
    need: Option<u64>,
    /// What one takes that does not run now: the sum of what its io_setup calls ask for
    #[arg(long, value_name = "EVENTS", requires = "need", conflicts_with = "programs", value_parser = clap::value_parser!(u64).range(1..))]
    charge: Option<u64>,
    /// What an instance is
    #[arg(long, value_enum, default_value_t = By::Process, value_name = "KIND")]
    by: By,
    /// text, or json: one object, specified in aiotrace-json(5)
    #[arg(long, value_enum, default_value_t = options::Format::Text)]
    format: options::Format,
    #[command(flatten)]
    host_root: options::HostRoot,
}

values! {
    By of names::By {
        /// A process; those of one name are instances of one program
        Process,
        /// A systemd unit, with all its processes
        Unit,
        /// A container
        Container,
        /// A pod of Kubernetes
        Pod,
    }
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let mut inventory = Inventory::by_bpf()
        .unwrap_or_else(|error| {
            eprintln!("aiotrace: BPF cannot be used: {}", bpf::reason(&error));
            Inventory::by_proc()
        })
        .with_names(options.host_root.names());
    let asked = capacity::Asked {
        by: options.by.into(),
        programs: options.programs,
        need: options.need,
        charge: options.charge,
    };
    let found = capacity::examine(&inventory.look()?, &asked)?;
    let mut out = io::stdout().lock();
    match Format::from(options.format).write(&mut out, &found, false).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the output")?;
        }
        _ => (),
    }
    Ok(u8::from(found.need.is_some_and(|it| !it.fits)))
}
