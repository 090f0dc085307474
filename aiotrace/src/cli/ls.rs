//! `aiotrace ls`: shows every AIO context on the machine, and who holds fs.aio-nr.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    failure::{Context as _, Result},
    inventory::{self, Inventory, machine},
    source::bpf,
};

/// Show every AIO context on the machine, by process, and who holds fs.aio-nr. With BPF (as root)
/// they come from the kernel's own tables: charges are exact, and contexts whose ring was unmapped
/// are found too. Without BPF they come from /proc, and what is unknown is named
#[derive(Debug, Args)]
pub struct Options {
    /// Show each context, too
    #[arg(short, long)]
    verbose: bool,
    /// text, or json: one object, specified in docs/reference/json.md
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Look again every SECONDS (2 if not given), until Ctrl-C
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u32).range(1..))]
    watch: Option<u32>,
    /// Do not use BPF
    #[arg(long)]
    proc: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let mut inventory = if options.proc { Inventory::by_proc() } else { best() };
    loop {
        let listing = inventory.look()?;
        let mut text = match options.format {
            Format::Json => format!("{}\n", serde_json::to_string(&listing)?),
            Format::Text => inventory::text(&listing, options.verbose),
        };
        if options.watch.is_some() && options.format == Format::Text {
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
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
