//! What a developer of aiotrace runs, as `cargo xtask`: one file per subcommand. Nothing here is
//! part of the product.

mod arch;
mod bench;
mod binaries;
mod build;
mod command;
mod cost;
mod debian;
mod demo;
mod dist;
mod foreign;
mod fuzz;
mod kernel;
mod kernels;
mod lint;
mod mixin;
mod newer;
mod perfetto;
mod probes;
mod setup;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Prepare this machine, check, test and show aiotrace
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Setup(setup::Options),
    Build(build::Options),
    Lint(lint::Options),
    Test(test::Options),
    Demo(demo::Options),
    Vm(vm::Options),
    Bench(bench::Options),
    Kernel(kernel::Options),
    Fuzz(fuzz::Options),
    Perfetto(perfetto::Options),
    Dist(dist::Options),
    Mixin(mixin::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup(options) => setup::run(&options)?,
        Task::Build(options) => build::run(&options)?,
        Task::Lint(options) => lint::run(&options)?,
        Task::Test(options) => return Ok(test::run(&options)),
        Task::Demo(options) => demo::run(&options)?,
        Task::Vm(options) => vm::run(&options)?,
        Task::Bench(options) => bench::run(&options)?,
        Task::Kernel(options) => kernel::run(&options)?,
        Task::Fuzz(options) => fuzz::run(&options)?,
        Task::Perfetto(options) => perfetto::run(&options)?,
        Task::Dist(options) => dist::run(&options)?,
        Task::Mixin(options) => mixin::run(&options)?,
    }
    Ok(ExitCode::SUCCESS)
}
