//! `aiotrace top -b`.

use aiotrace::top::{
    batch::Batch,
    choice::{Choice, Sort, filter},
    column::Column,
    gather::Sink as _,
};

use super::fixture::snapshot;

#[test]
fn a_table_for_each_interval() {
    let mut batch = Batch::new(Vec::new(), Choice::default(), Some(2));
    batch.take(snapshot(1)).unwrap();
    let end = batch.take(snapshot(2)).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::BrokenPipe, "two were wanted");
    insta::assert_snapshot!(String::from_utf8(batch.into_inner()).unwrap());
}

#[test]
fn rows_and_columns_are_chosen() {
    let choice = Choice {
        sort: Sort::parse("charge").unwrap(),
        filter: Some(filter("leaky|maria").unwrap()),
        active: false,
        columns: Some(vec![Column::Name, Column::Charge, Column::Max]),
    };
    let mut batch = Batch::new(Vec::new(), choice, None);
    batch.take(snapshot(1)).unwrap();
    let text = String::from_utf8(batch.into_inner()).unwrap();
    let rows: Vec<&str> = text.lines().skip(1).take(3).collect();
    assert_eq!(
        rows,
        ["NAME         CHARGE %MAX", "leaky         42000 64.1", "mariadbd      16384 25.0"]
    );
}
