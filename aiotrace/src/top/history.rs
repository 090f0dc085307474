//! The last values of each row, for the small graphs; and the rows that are gone, which stay for a
//! while.

use std::collections::{HashMap, VecDeque};

use super::snapshot::{Identity, Numbers, Row, Snapshot};

/// How many intervals a graph shows.
pub const POINTS: usize = 60;
/// For how many intervals a row stays that is gone.
const STAYS: u8 = 10;
/// Most rows that stay.
const MOST_ENDED: usize = 500;
/// Most rows with a graph.
const MOST_GRAPHS: usize = 10_000;

/// A moment in a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Requests per second; `None`: it was not there.
    pub requests: Option<f32>,
    /// Requests in flight, if known.
    pub in_flight: Option<f32>,
    /// p99 in nanoseconds, if there were latencies.
    pub p99: Option<f32>,
}

/// What was before the newest snapshot.
#[derive(Debug, Default)]
pub struct History {
    graphs: HashMap<Identity, VecDeque<Point>>,
    ended: Vec<(Row, u8)>,
}

impl History {
    /// Takes a snapshot, and the one before it.
    pub fn take(&mut self, it: &Snapshot, before: &Snapshot) {
        let rows: HashMap<Identity, &Row> = all(it).map(|row| (row.id, row)).collect();
        for (id, points) in &mut self.graphs {
            let point = rows.get(id).map(|row| point(row, it.length)).unwrap_or_default();
            points.push_back(point);
            points.drain(..points.len().saturating_sub(POINTS));
        }
        self.graphs.retain(|_, points| points.iter().any(Point::is_busy));
        for row in rows.values().filter(|row| row.now.is_active() || row.in_flight > Some(0)) {
            if !self.graphs.contains_key(&row.id) && self.graphs.len() < MOST_GRAPHS {
                self.graphs.insert(row.id, VecDeque::from([point(row, it.length)]));
            }
        }
        self.ended.retain_mut(|(row, left)| {
            *left -= 1;
            *left > 0 && !rows.contains_key(&row.id)
        });
        for row in all(before).filter(|row| !rows.contains_key(&row.id)) {
            if self.ended.len() < MOST_ENDED {
                let row =
                    Row { now: Numbers::default(), in_flight: Some(0), ended: true, ..row.clone() };
                self.ended.push((row, STAYS));
            }
        }
    }

    /// The last moments of a row, the newest last.
    pub fn of(&self, id: Identity) -> Vec<Point> {
        self.graphs.get(&id).map(|it| it.iter().copied().collect()).unwrap_or_default()
    }

    /// The rows that are gone: processes or contexts.
    pub fn ended(&self) -> impl Iterator<Item = &Row> {
        self.ended.iter().map(|it| &it.0)
    }
}

impl Point {
    fn is_busy(&self) -> bool {
        self.requests.is_some_and(|it| it > 0.0) || self.in_flight.is_some_and(|it| it > 0.0)
    }
}

fn all(it: &Snapshot) -> impl Iterator<Item = &Row> {
    it.processes.iter().chain(&it.contexts)
}

fn point(row: &Row, length: u64) -> Point {
    let rate = row.now.requests as f64 * 1e9 / length.max(1) as f64;
    let p99 = (row.now.latency.count() > 0).then(|| row.now.latency.quantile(0.99) as f32);
    Point { requests: Some(rate as f32), in_flight: row.in_flight.map(|it| it as f32), p99 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(pids: &[u32]) -> Snapshot {
        let row = |pid: &u32| {
            let mut row = Row::new(Identity::Process(*pid, 1), *pid, "p");
            row.now.requests = 5;
            row
        };
        let processes = pids.iter().map(row).collect();
        Snapshot { length: 1_000_000_000, processes, ..Snapshot::default() }
    }

    #[test]
    fn a_graph_has_a_gap_where_its_row_was_not_there_and_a_row_stays_for_a_while() {
        let mut history = History::default();
        let (both, one) = (snapshot(&[1, 2]), snapshot(&[1]));
        history.take(&both, &Snapshot::default());
        history.take(&one, &both);
        assert_eq!(history.ended().map(|it| it.pid).collect::<Vec<_>>(), [2]);
        let requests: Vec<_> =
            history.of(Identity::Process(2, 1)).iter().map(|it| it.requests).collect();
        assert_eq!(requests, [Some(5.0), None]);
        history.take(&both, &one);
        assert_eq!(history.ended().count(), 0, "it is back");
        for _ in 0..STAYS {
            history.take(&one, &one);
        }
        history.take(&one, &both);
        for _ in 0..STAYS {
            assert_eq!(history.ended().count(), 1);
            history.take(&one, &one);
        }
        assert_eq!(history.ended().count(), 0);
        for _ in 0..2 * POINTS {
            history.take(&one, &one);
        }
        assert_eq!(history.of(Identity::Process(1, 1)).len(), POINTS);
        assert!(history.of(Identity::Process(2, 1)).is_empty(), "forgotten");
    }
}
