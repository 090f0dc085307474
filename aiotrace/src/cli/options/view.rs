//! How a trace is shown: the options that `attach`, `run` and `report` share.

use std::path::PathBuf;

use clap::Args;

use super::values;
use crate::{
    output::{self, clock},
    trace,
};

/// How events are shown.
#[derive(Debug, Args)]
pub struct View {
    /// Write to this file instead of stdout (parquet: into this directory)
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    output: Option<PathBuf>,
    /// text; json: one object per line (aiotrace-json(5)); perfetto: a timeline; parquet: tables
    ///
    /// A timeline is for https://ui.perfetto.dev. Tables are for `report FILE... -o DIRECTORY`.
    #[arg(long, value_enum, default_value_t = Traced::Text)]
    format: Traced,
    /// Count calls, errors and durations instead of showing calls
    ///
    /// They are counted in the kernel (except with --record, --inject, --stacks and --source
    /// ptrace), which costs the target little; findings about single requests need every call: -q
    /// shows those.
    #[arg(short = 'c', long)]
    summary: bool,
    /// Do not show calls
    #[arg(short, long)]
    quiet: bool,
    /// Show lists whole, the completion ring at each call, and where contexts are made
    #[arg(short, long)]
    verbose: bool,
    /// Time of each line, which is when the call returned
    #[arg(hide_short_help = true, short, long, value_enum, default_value_t = Timestamps::Relative, value_name = "FORMAT")]
    timestamps: Timestamps,
    /// When to use colours: on a terminal, always or never
    #[arg(hide_short_help = true, long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
}

values! {
    Color of trace::Color {
        Auto,
        Always,
        Never,
    }
}

values! {
    Traced of output::Traced {
        Text,
        Json,
        Perfetto,
        Parquet,
    }
}

values! {
    Timestamps of clock::Format {
        /// Seconds since the trace began
        Relative,
        /// Local time of day
        Absolute,
        /// Seconds since the line before
        Delta,
    }
}

impl View {
    /// The settings that these options stand for.
    pub fn settings(self) -> trace::View {
        let Self { output, format, summary, quiet, verbose, timestamps, color } = self;
        trace::View {
            output,
            format: format.into(),
            summary,
            quiet,
            verbose,
            timestamps: timestamps.into(),
            color: color.into(),
        }
    }
}
