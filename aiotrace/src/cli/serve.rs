//! `aiotrace serve`: metrics for Prometheus.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use super::{
    VERSION,
    options::{HostRoot, parse_duration, values},
    print,
    target::Target,
};
use crate::{
    failure::Result,
    names,
    serve::{self, Labels, Textfile, Tier, Version},
};

/// The port that is listened at if none is named.
const PORT: u16 = 9764;

/// Serve metrics for Prometheus: who holds fs.aio-nr, and who does how much, how fast, and with
/// which errors
///
/// The contexts are listed at each scrape, which attaches nothing. Where trampolines can be had, calls
/// and requests are counted in the kernel, too; aiotrace_source_info says whether they are, and what
/// is missing. After the attach, aiotrace keeps no capability that it does not need. There is no TLS:
/// to serve others than this machine, put a proxy before it.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    host_root: HostRoot,
    /// Listen here, for /metrics, /-/healthy and /-/ready [default: 127.0.0.1:9764, unless there is
    /// a --textfile]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Write a file for node_exporter's textfile collector, again and again; its name ends with .prom
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    textfile: Option<PathBuf>,
    /// Look once, write the metrics of the list to standard output, or to --textfile, and end
    #[arg(long, conflicts_with_all = ["listen", "count"])]
    once: bool,
    /// How often counters are read, and --textfile is written
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = interval, default_value = "10s")]
    interval: Duration,
    /// Count by whatever probes can be had, also those that make every system call of the machine
    /// slower
    #[arg(long, conflicts_with = "list_only")]
    count: bool,
    /// Count nothing: attach no probe
    #[arg(long)]
    list_only: bool,
    /// Read no ring of a process: aiotrace_unreaped_completions is left out, and CAP_SYS_PTRACE is not
    /// needed
    #[arg(long)]
    no_unreaped: bool,
    /// Tell apart where processes run, too: adds the labels `unit`; `container`; or `namespace`, `pod`
    /// and `container`. What is not known of a process, or does not exist, is left out
    #[arg(long, value_enum, value_name = "PLACE", default_value_t = By::Process)]
    by: By,
    /// Series for each process, with its id: only where few processes come and go
    #[arg(long, value_enum, value_name = "LABEL")]
    label: Vec<Label>,
    /// Histograms for each name of a process, and not only for the machine
    #[arg(long)]
    histograms: bool,
    /// How many names of processes have series of their own; the others are counted together, as
    /// process="other"
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_series: u32,
}

values! {
    By of names::By {
        /// Nothing: the name of the process only
        Process,
        /// Its systemd unit
        Unit,
        /// Its container
        Container,
        /// Its pod of Kubernetes, and the container in it
        Pod,
    }
}

/// A label that can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Label {
    /// The id of the process.
    Pid,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
    if bounds.contains(&interval) { Ok(interval) } else { Err("it is from 100ms to 1h".to_owned()) }
}

impl Options {
    /// Whether the rings of processes are to be read.
    pub fn reads_rings(&self) -> bool {
        !self.no_unreaped
    }
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let reads_rings = options.reads_rings();
    let (version, rest) = VERSION.split_once(" (").unwrap_or((VERSION, ""));
    let textfile = options.textfile.map(Textfile::new).transpose()?;
    let default = textfile.is_none().then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    let mut names = options.host_root.names();
    let scope = options.target.scope_or_all(&mut names)?;
    let settings = serve::Settings {
        tier: match (options.count, options.list_only) {
            (true, _) => Tier::Count,
            (_, true) => Tier::List,
            _ => Tier::Best,
        },
        listen: options.listen.or(default),
        textfile,
        interval: options.interval,
        reads_rings,
        most_series: options.max_series as usize,
        histograms: options.histograms,
        labels: Labels {
            by: options.by.into(),
            with_pid: options.label.contains(&Label::Pid),
            names,
        },
        version: Version { version, revision: rest.trim_end_matches(')') },
    };
    if options.once {
        let text = serve::once(&settings, &scope)?;
        match &settings.textfile {
            Some(file) => file.write(&text)?,
            None => print(&text)?,
        }
        return Ok(0);
    }
    serve::serve(settings, scope)?;
    Ok(0)
}
