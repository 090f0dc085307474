//! `aiotrace attach`: traces programs that are already running.

use clap::Args;

use super::{options::Show, target::Target};
use crate::{
    failure::Result,
    trace::{Plan, Session},
};

/// Trace running programs until they end, or until Ctrl-C; they keep running
///
/// The short ways: `-q` shows what is wrong, `--only error` what fails, `-c --requests` who does
/// how much and how fast. Without a target, it shows which processes use AIO now.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Trace the children they create, too
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    show: Show,
}

/// Runs the command.
pub fn run(options: Options) -> Result<u8> {
    let plan = Plan {
        scope: options.target.scope(&mut options.show.host_root.names())?,
        follow: options.follow,
        launched: false,
        filtered: false,
        timeout: None,
    };
    let settings = options.show.settings();
    let outcome = Session::prepare(&settings, plan)?.trace(|_| Ok(()))?;
    if let Some(why) = &outcome.failed {
        eprintln!("aiotrace: status 1, as {why}");
    }
    Ok(u8::from(outcome.failed.is_some()))
}
