//! The plan: which fault is tried at which site, in which order.

use std::collections::HashSet;

use aiotrace_model::fnv::Fnv;
use serde::{Deserialize, Serialize};

use super::{Settings, baseline::Baseline, observed::Site, told::Told};
use crate::failure::{Context as _, Result};

/// How often a fault is made in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl Point {
    /// In which of so many parts it is, from 0. Each machine has a baseline of its own, which may know other sites, or
    /// number them otherwise; so this depends on nothing but what the point is.
    fn part(&self, parts: usize) -> usize {
        let mut hash = Fnv::default();
        [self.site.as_str(), &self.fault, self.mode.text()]
            .iter()
            .for_each(|it| hash.text(it.as_bytes()));
        // Its lowest bits are no good: each depends on nothing but lower ones.
        ((hash.0 >> 32 ^ hash.0 >> 17) % parts as u64) as usize
    }
}

/// What a sweep was asked to do, as far as outcomes of another sweep would not go with its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it was run.
    pub directory: String,
    /// `--check`
    check: Option<String>,
    /// `--faults`
    faults: String,
    /// `--mode`
    modes: Vec<Mode>,
}

impl Asked {
    /// What these settings ask for.
    pub fn of(settings: &Settings) -> Result<Self> {
        let directory = std::env::current_dir().context("cannot find the current directory")?;
        let mut modes = settings.modes.clone();
        modes.sort_unstable();
        Ok(Self {
            command: settings.command.iter().map(|it| it.to_string_lossy().into_owned()).collect(),
            directory: directory.to_string_lossy().into_owned(),
            check: settings.check.clone(),
            faults: settings.faults.text(),
            modes,
        })
    }

    /// What another sweep was asked for, if that is not the same.
    pub fn difference(&self, now: &Self) -> Option<String> {
        let modes = |it: &Self| it.modes.iter().map(|it| it.text()).collect::<Vec<_>>().join(",");
        let check = |it: &Self| it.check.clone().unwrap_or_else(|| "not there".to_owned());
        let all = [
            ("of another command", "it", self.command.join(" "), now.command.join(" ")),
            ("in another directory", "it", self.directory.clone(), now.directory.clone()),
            ("of another --check", "that", check(self), check(now)),
            ("of other --faults", "they", self.faults.clone(), now.faults.clone()),
            ("of another --mode", "that", modes(self), modes(now)),
        ];
        let (what, it, was, _) = all.into_iter().find(|(_, _, was, is)| was != is)?;
        let verb = if it == "they" { "were" } else { "was" };
        Some(format!("the sweep that is there was {what}: {it} {verb} {was}"))
    }
}

/// The plan of a sweep, as it is kept in `plan.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The version of this file.
    pub v: u32,
    /// What the sweep is asked to do.
    pub asked: Asked,
    /// What the baseline found.
    pub baseline: Baseline,
    /// The points, in their order.
    pub points: Vec<Point>,
}

impl Plan {
    /// The version of the file.
    pub const VERSION: u32 = 2;

    /// Plans each fault that can happen at each site. With a budget, what is called rarely comes first: it was tried
    /// least.
    pub fn make(settings: &Settings, baseline: Baseline) -> Result<Self> {
        let mut sites: Vec<&Site> = baseline.sites.iter().collect();
        if settings.budget.is_some() {
            sites.sort_by_key(|it| it.hits);
        }
        let mut points = Vec::new();
        for site in sites {
            for fault in settings.faults.faults() {
                for mode in settings.modes.iter().filter(|it| settings.faults.has(fault, **it)) {
                    let Some(rule) = fault.at(site, *mode == Mode::Once) else { continue };
                    let (number, site) = (points.len() + 1, site.id.clone());
                    let fault = fault.name.to_owned();
                    points.push(Point { number, site, fault, mode: *mode, rule });
                }
            }
        }
        Ok(Self { v: Self::VERSION, asked: Asked::of(settings)?, baseline, points })
    }

    /// The points of a shard, from 1.
    pub fn shard(&self, shard: Option<(usize, usize)>) -> Vec<&Point> {
        let (k, n) = shard.unwrap_or((1, 1));
        self.points.iter().filter(|it| it.part(n) == k - 1).collect()
    }

    /// The site of a point.
    pub fn site(&self, id: &str) -> Option<&Site> {
        self.baseline.sites.iter().find(|it| it.id == id)
    }

    /// The name of the site of a point.
    pub fn name(&self, point: &Point) -> &str {
        self.site(&point.site).map_or("", |it| it.name.as_str())
    }

    /// What was told of these points, in the order of the plan.
    pub fn in_order<'a>(&self, told: &'a [Told], wanted: &[&Point]) -> Vec<&'a Told> {
        let wanted: HashSet<usize> = wanted.iter().map(|it| it.number).collect();
        let mut told: Vec<_> = told.iter().filter(|it| wanted.contains(&it.point)).collect();
        told.sort_by_key(|it| it.point);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Choice;

    fn baseline(ids: impl Iterator<Item = u32>) -> Baseline {
        let site = |id: u32| Site {
            id: format!("{:08x}", id.wrapping_mul(0x9e37_79b9)),
            call: ["io_setup", "io_submit", "io_getevents"][id as usize % 3].to_owned(),
            hits: u64::from(id),
            ..Site::default()
        };
        Baseline { sites: ids.map(site).collect(), ..Baseline::default() }
    }

    fn settings() -> Settings {
        Settings { modes: vec![Mode::Once, Mode::Always], ..Settings::default() }
    }

    /// Each machine makes a baseline of its own, which may know the sites in another order, or one less.
    #[test]
    fn each_point_is_in_one_part_whatever_the_baseline_of_a_machine_was() {
        let of = |ids: Vec<u32>, k| {
            let plan = Plan::make(&settings(), baseline(ids.into_iter())).unwrap();
            let shard: Vec<_> = plan.shard(Some((k, 3))).into_iter().cloned().collect();
            shard.into_iter().map(|it| (it.site, it.fault, it.mode)).collect::<Vec<_>>()
        };
        let mut together = of((0..60).collect(), 1);
        together.extend(of((0..60).rev().collect(), 2));
        together.extend(of((1..60).collect(), 3));
        let all = Plan::make(&settings(), baseline(0..60)).unwrap();
        let is_there = |it: &Point| {
            let key = (it.site.clone(), it.fault.clone(), it.mode);
            together.iter().filter(|it| **it == key).count()
        };
        // All but what the third machine has never seen.
        let unseen = format!("{:08x}", 0);
        for point in &all.points {
            let expected = if point.site == unseen && point.part(3) == 2 { 0 } else { 1 };
            assert_eq!(is_there(point), expected, "{point:?}");
        }
        for k in 1..=3 {
            let part = all.shard(Some((k, 3))).len();
            assert!(part * 5 > all.points.len(), "{part} of {}", all.points.len());
        }
    }

    #[test]
    fn an_interrupted_wait_is_tried_once_only_unless_it_is_asked_for() {
        let modes = |faults: Choice, modes: &[Mode]| {
            let settings = Settings { faults, modes: modes.to_vec(), ..Settings::default() };
            let plan = Plan::make(&settings, baseline(2..3)).unwrap();
            plan.points.iter().map(|it| (it.fault.clone(), it.mode)).collect::<Vec<_>>()
        };
        let both = [Mode::Once, Mode::Always];
        let eintr = |mode| ("EINTR".to_owned(), mode);
        assert_eq!(modes(Choice::Default, &both), [eintr(Mode::Once)]);
        assert!(modes(Choice::Default, &[Mode::Always]).is_empty());
        assert_eq!(modes(Choice::parse("EINTR").unwrap(), &both), both.map(eintr));
        assert!(modes(Choice::All, &both).contains(&eintr(Mode::Always)));
    }

    #[test]
    fn another_sweep_is_not_gone_on_with() {
        let settings = Settings { command: vec!["db".into()], ..settings() };
        let asked = Asked::of(&settings).unwrap();
        let difference =
            |other: Settings| Asked::of(&other).unwrap().difference(&asked).unwrap_or_default();
        assert_eq!(difference(settings.clone()), "");
        let modes = vec![Mode::Always, Mode::Once];
        assert_eq!(difference(Settings { modes, ..settings.clone() }), "");
        let modes = vec![Mode::Once];
        assert!(difference(Settings { modes, ..settings.clone() }).contains("--mode"));
        assert!(
            difference(Settings { command: vec!["dc".into()], ..settings.clone() })
                .ends_with("of another command: it was dc")
        );
        assert!(
            difference(Settings { check: Some("true".into()), ..settings.clone() })
                .contains("--check: that was true")
        );
        assert!(difference(Settings { faults: Choice::All, ..settings }).contains("--faults"));
        let elsewhere = Asked { directory: "/elsewhere".into(), ..asked.clone() };
        assert!(elsewhere.difference(&asked).unwrap().contains("in another directory"));
    }
}
