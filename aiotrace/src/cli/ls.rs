//! `aiotrace ls`: shows every AIO context on the machine, and who holds fs.aio-nr.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;

use super::options;
use crate::{
    failure::{Context as _, Result},
    inventory::{Inventory, machine},
    output::Format,
    source::bpf,
};

/// Show every AIO context on the machine, by process, and who holds fs.aio-nr
///
/// With BPF (as root) they come from the kernel's own tables: charges are exact, and contexts whose
/// ring was unmapped are found too. Without BPF they come from /proc, and what is unknown is named.
#[derive(Debug, Args)]
pub struct Options {
    /// Show each context, too
    #[arg(short, long)]
    verbose: bool,
    /// text, or json: one object, specified in aiotrace-json(5)
    #[arg(long, value_enum, default_value_t = options::Format::Text)]
    format: options::Format,
    /// Look again every SECONDS (2 if not given), until Ctrl-C
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
    #[command(flatten)]
    host_root: options::HostRoot,
    /// Do not use BPF
    #[arg(long)]
    proc: bool,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let mut inventory = if options.proc { Inventory::by_proc() } else { best() };
    inventory = inventory.with_names(options.host_root.names());
    let format = Format::from(options.format);
    loop {
        let listing = inventory.look()?;
        let mut out = io::stdout().lock();
        let written = format.write(&mut out, &listing, options.verbose);
        let written = match options.watch.is_some() && format == Format::Text {
            true => written.and_then(|()| writeln!(out)),
            false => written,
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            other => other.context("cannot write the output")?,
        }
        let Some(seconds) = options.watch else {
            return Ok(0);
        };
        std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    }
}

/// Looks with BPF; or, if that does not work, says why and looks in /proc.
fn best() -> Inventory {
    Inventory::by_bpf().unwrap_or_else(|error| {
        eprintln!("aiotrace: without BPF, from /proc: {}", bpf::reason(&error));
        eprintln!("aiotrace: {}", machine::hint(&error));
        Inventory::by_proc()
    })
}
