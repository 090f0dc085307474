//! Which rows are shown, in which order and with which columns.

use std::cmp::Ordering;

use regex_lite::Regex;

use super::{
    column::{Column, Scale},
    snapshot::Row,
};

/// The order of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The column that is sorted by.
    pub column: Column,
    /// The smallest is first.
    pub ascending: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Self { column: Column::Requests, ascending: false }
    }
}

impl Sort {
    /// Reads `COLUMN` or `COLUMN,asc`.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, order) = text.split_once(',').unwrap_or((text, ""));
        let column = Column::parse(name)?;
        let ascending = match order {
            // A list of names is read from A to Z.
            "" => column.is_text(),
            "asc" => true,
            "desc" => false,
            other => return Err(format!("{other:?} is no order: write asc or desc")),
        };
        Ok(Self { column, ascending })
    }

    /// Which of two rows is first. Equal ones are in the order of their charge, and then of what
    /// they are about, so that no row moves without a reason.
    pub fn compare(self, one: &Row, other: &Row, scale: Scale) -> Ordering {
        let order = |column: Column, ascending: bool| {
            let (one, other) = (column.key(one, scale), column.key(other, scale));
            let order = one.partial_cmp(&other).unwrap_or(Ordering::Equal);
            if ascending { order } else { order.reverse() }
        };
        order(self.column, self.ascending)
            .then_with(|| order(Column::Charge, false))
            .then_with(|| one.id.cmp(&other.id))
    }
}

/// Which rows are shown.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The order.
    pub sort: Sort,
    /// Only rows in whose pid, name or context this is found.
    pub filter: Option<Regex>,
    /// Only rows that did something in the interval, or have requests in flight.
    pub active: bool,
    /// The columns, instead of the usual ones.
    pub columns: Option<Vec<Column>>,
}

impl Choice {
    /// Whether a row is shown.
    pub fn wants(&self, row: &Row) -> bool {
        let found = self.filter.as_ref().is_none_or(|it| {
            let unit = row.unit.as_deref().unwrap_or_default();
            it.is_match(&format!("{} {} {} {unit}", row.pid, row.name, row.what))
        });
        let is_active = || row.now.is_active() || row.in_flight.is_some_and(|it| it > 0);
        found && (!self.active || is_active())
    }

    /// The rows that are shown, in their order.
    pub fn rows<'a>(&self, rows: impl Iterator<Item = &'a Row>, scale: Scale) -> Vec<&'a Row> {
        let mut rows: Vec<&Row> = rows.filter(|it| self.wants(it)).collect();
        rows.sort_by(|one, other| self.sort.compare(one, other, scale));
        rows
    }
}

/// Reads a filter.
///
/// # Errors
/// If it is no regular expression.
pub fn filter(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("{text:?} is no regular expression: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::snapshot::Identity;

    const SCALE: Scale = Scale { length: 1_000_000_000, is_sum: false, counted: true, most: None };

    fn row(pid: u32, name: &str, requests: u64, charge: Option<u64>) -> Row {
        let mut row = Row::new(Identity::Process(pid, 1), pid, name);
        (row.now.requests, row.charge) = (requests, charge);
        row
    }

    #[test]
    fn rows_are_sorted_by_the_column_and_equal_ones_keep_their_order() {
        let rows = [row(3, "c", 5, Some(1)), row(1, "a", 5, None), row(2, "b", 9, Some(1))];
        let pids = |text: &str| {
            let choice = Choice { sort: Sort::parse(text).unwrap(), ..Choice::default() };
            choice.rows(rows.iter(), SCALE).iter().map(|it| it.pid).collect::<Vec<_>>()
        };
        assert_eq!(pids("req"), [2, 3, 1]);
        assert_eq!(pids("req,asc"), [3, 1, 2]);
        assert_eq!(pids("name"), [1, 2, 3]);
        assert_eq!(pids("charge"), [2, 3, 1], "what is unknown is last");
        assert!(Sort::parse("cpu").unwrap_err().contains("the columns are"));
        assert!(Sort::parse("req,up").unwrap_err().contains("write asc or desc"));
    }

    #[test]
    fn a_filter_finds_pids_and_names_and_idle_rows_can_be_left_out() {
        let rows = [row(17, "fio", 0, None), row(21, "mariadbd", 3, None)];
        let names = |filter_by: &str, active| {
            let filter = Some(filter(filter_by).unwrap());
            let choice = Choice { filter, active, ..Choice::default() };
            choice.rows(rows.iter(), SCALE).iter().map(|it| it.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names("^17 ", false), ["fio"]);
        assert_eq!(names("maria|fio", false), ["mariadbd", "fio"]);
        assert_eq!(names("", true), ["mariadbd"]);
        assert!(filter("(").unwrap_err().contains("no regular expression"));
    }
}
