//! `cargo xtask mixin`: writes contrib/prometheus: the alerts with their tests, and the dashboard.

mod alerts;
mod dashboard;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

/// Write contrib/prometheus: alerts, their tests, and a dashboard for Grafana
#[derive(Debug, Args)]
pub struct Options {}

/// Runs the command.
pub fn run(_: &Options) -> Result<()> {
    for (path, text) in files() {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// The files, and what is in them.
fn files() -> [(PathBuf, String); 3] {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/prometheus"));
    [
        (directory.join("alerts.yaml"), alerts::rules()),
        (directory.join("alerts-test.yaml"), alerts::tests()),
        (directory.join("dashboard.json"), dashboard::dashboard()),
    ]
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_files_are_those_of_the_table() {
        for (path, wanted) in files() {
            let found = fs::read_to_string(&path).unwrap_or_default();
            let name = path.display();
            assert!(
                found == wanted,
                "{name} is not up to date: `cargo xtask mixin` writes it anew"
            );
        }
    }

    /// promtool, of Debian's package prometheus.
    fn promtool(arguments: &[&str]) {
        let directory = files()[0].0.parent().unwrap().to_owned();
        let output = Command::new("promtool").args(arguments).current_dir(directory).output();
        let output = output.expect("promtool is missing: `cargo xtask setup` installs it");
        let text = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
        assert!(output.status.success(), "promtool {arguments:?}: {text}");
    }

    #[test]
    fn each_alert_fires_when_it_should_and_not_else() {
        promtool(&["check", "rules", "alerts.yaml"]);
        promtool(&["test", "rules", "alerts-test.yaml"]);
    }

    /// Each metric of an expression is one that aiotrace serves, by docs/reference/metrics.md.
    #[test]
    fn expressions_ask_for_metrics_that_there_are() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
        let page = fs::read_to_string(page).unwrap();
        let alerts = alerts::ALERTS.iter().map(|it| it.expr);
        let mut count = 0;
        for expression in dashboard::expressions().chain(alerts) {
            let is_part = |it: char| it.is_ascii_alphanumeric() || it == '_';
            for word in expression.split(|it| !is_part(it)) {
                if !word.starts_with("aiotrace_") && !word.starts_with("process_") {
                    continue;
                }
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                assert!(page.contains(&format!("`{name}`")), "{name} of {expression}");
                count += 1;
            }
        }
        assert!(count > 30, "{count}");
    }
}
