//! What keys do.

use std::time::Duration;

use aiotrace::top::app::{Action, App, Input, Table};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::fixture::{app, press, snapshot, text};

/// The row of the table that is selected.
fn selected(app: &App) -> String {
    let id = app.selected();
    app.rows().iter().find(|it| Some(it.id) == id).map_or_else(String::new, |it| it.name.clone())
}

#[test]
fn the_selection_is_a_row_and_no_place() {
    let mut app = app((80, 24), 3);
    press(&mut app, "j");
    assert_eq!(selected(&app), "mariadbd");
    // It becomes the first.
    let mut next = snapshot(4);
    next.processes[1].now.requests = 1_000_000;
    app.handle(Input::Snapshot(Box::new(next)));
    assert_eq!((selected(&app).as_str(), app.rows()[0].name.as_str()), ("mariadbd", "mariadbd"));
}

#[test]
fn enter_goes_into_a_row_and_esc_goes_back() {
    let mut app = app((80, 24), 3);
    press(&mut app, "G\n");
    assert_eq!((app.table, app.rows().len()), (Table::Contexts, 40), "those of the leaky one");
    assert!(text(&app).contains("of leaky:4711"));
    press(&mut app, "\n");
    assert!(app.detail, "there are no descriptors");
    press(&mut app, "\x1b\x1b");
    assert_eq!((app.table, app.rows().len()), (Table::Processes, 3));
}

#[test]
fn a_filter_is_typed_applied_and_cleared() {
    let mut app = app((80, 24), 3);
    press(&mut app, "/maria[");
    press(&mut app, "\n");
    assert!(text(&app).contains("no regular expression"));
    app.handle(super::fixture::key(KeyCode::Backspace));
    press(&mut app, "\n");
    assert_eq!(app.rows().iter().map(|it| it.pid).collect::<Vec<_>>(), [17_344]);
    press(&mut app, "\x1b");
    assert_eq!(app.rows().len(), 3);
}

#[test]
fn a_paused_screen_stands_still_and_then_has_the_newest() {
    let mut app = app((80, 24), 3);
    press(&mut app, " ");
    let before = text(&app);
    app.handle(Input::Snapshot(Box::new(snapshot(9))));
    let after = text(&app);
    assert!(after.contains("PAUSED 6.0s"), "{after}");
    assert_eq!(
        before.lines().skip(3).collect::<Vec<_>>(),
        after.lines().skip(3).collect::<Vec<_>>()
    );
    press(&mut app, " ");
    assert_eq!(app.shown.time, snapshot(9).time);
}

#[test]
fn a_held_order_stays_while_values_go_on() {
    let mut app = app((80, 24), 3);
    press(&mut app, "z");
    let mut next = snapshot(4);
    next.processes[2].now.requests = 1_000_000;
    app.handle(Input::Snapshot(Box::new(next)));
    let names: Vec<_> = app.rows().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["fio", "mariadbd", "leaky"]);
    press(&mut app, "z");
    assert_eq!(app.rows()[0].name, "leaky");
}

#[test]
fn who_has_ended_stays_in_grey_for_a_while() {
    let mut app = app((80, 24), 3);
    let without = || {
        let mut it = snapshot(4);
        it.processes.retain(|row| row.name != "fio");
        Input::Snapshot(Box::new(it))
    };
    app.handle(without());
    let row = app.rows().into_iter().find(|it| it.name == "fio").unwrap();
    assert!(row.ended && row.now.requests == 0);
    for _ in 0..10 {
        app.handle(without());
    }
    assert!(app.rows().iter().all(|it| it.name != "fio"));
}

#[test]
fn columns_and_order_are_chosen() {
    let mut app = app((80, 24), 3);
    press(&mut app, "<<<");
    assert_eq!(app.choice.sort.column.name(), "ctx");
    assert_eq!(app.rows()[0].name, "mariadbd");
    press(&mut app, "r");
    assert_eq!(app.rows()[0].name, "fio");
    for _ in 0..40 {
        press(&mut app, ">");
    }
}

#[test]
fn some_keys_are_for_others() {
    let mut app = app((80, 24), 3);
    assert_eq!(press(&mut app, "q"), Action::Quit);
    assert_eq!(press(&mut app, "?q"), Action::Quit, "also over a text");
    let mut app = self::app((80, 24), 3);
    let control = |letter| Input::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL));
    press(&mut app, "/abc");
    assert_eq!(app.handle(control('c')), Action::Quit, "also while a filter is typed");
    assert_eq!(app.handle(control('z')), Action::Suspend);
    press(&mut app, "\x1b");
    assert_eq!(press(&mut app, "+"), Action::Pace(Duration::from_secs(2)));
    assert_eq!(press(&mut app, "--"), Action::Pace(Duration::from_millis(500)));
    assert_eq!(press(&mut app, "w"), Action::Write);
}
