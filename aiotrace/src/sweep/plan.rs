//! The plan: which fault is tried at which site, in which order.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Settings, baseline::Baseline, journal::Told, observed::Site};

/// How often a fault is made in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// At the first call from the site.
    Once,
    /// At each call from the site.
    Always,
}

impl Mode {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Always => "always",
        }
    }
}

/// One fault at one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its number in the plan, from 1.
    pub number: usize,
    /// The id of the site.
    pub site: String,
    /// The name of the fault.
    pub fault: String,
    /// Once or always.
    pub mode: Mode,
    /// The rule that makes it.
    pub rule: String,
}

/// The plan of a sweep, as it is kept in `plan.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The version of this file.
    pub v: u32,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What the baseline found.
    pub baseline: Baseline,
    /// The points, in their order.
    pub points: Vec<Point>,
}

impl Plan {
    /// Plans each fault that can happen at each site. With a budget, what is called rarely comes first: it was tried
    /// least.
    pub fn make(settings: &Settings, baseline: Baseline) -> Self {
        let mut sites: Vec<&Site> = baseline.sites.iter().collect();
        if settings.budget.is_some() {
            sites.sort_by_key(|it| it.hits);
        }
        let mut points = Vec::new();
        for site in sites {
            for fault in settings.faults.faults() {
                for mode in &settings.modes {
                    let Some(rule) = fault.at(site, *mode == Mode::Once) else { continue };
                    let (number, site) = (points.len() + 1, site.id.clone());
                    let fault = fault.name.to_owned();
                    points.push(Point { number, site, fault, mode: *mode, rule });
                }
            }
        }
        Self { v: 1, command: command(settings), baseline, points }
    }

    /// The points of a shard: each `n`th, so that all shards take about as long.
    pub fn shard(&self, shard: Option<(usize, usize)>) -> Vec<&Point> {
        let (k, n) = shard.unwrap_or((1, 1));
        self.points.iter().filter(|it| (it.number - 1) % n == k - 1).collect()
    }

    /// The site of a point.
    pub fn site(&self, id: &str) -> Option<&Site> {
        self.baseline.sites.iter().find(|it| it.id == id)
    }

    /// What was told of these points, in the order of the plan.
    pub fn in_order<'a>(&self, told: &'a [Told], wanted: &[&Point]) -> Vec<&'a Told> {
        let wanted: HashSet<usize> = wanted.iter().map(|it| it.number).collect();
        let mut told: Vec<_> = told.iter().filter(|it| wanted.contains(&it.point)).collect();
        told.sort_by_key(|it| it.point);
        told
    }
}

/// The command as text, to compare plans by.
pub fn command(settings: &Settings) -> Vec<String> {
    settings.command.iter().map(|it| it.to_string_lossy().into_owned()).collect()
}
