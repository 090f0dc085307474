//! Whatever keys are pressed, whatever comes and however large the terminal is: there is a frame.

use aiotrace::top::app::{App, Input};
use proptest::prelude::*;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::fixture::{app, frame, snapshot};

#[derive(Clone, Debug)]
enum Step {
    Key(KeyCode, bool),
    Moment(u64, Vec<bool>),
    Size(u16, u16),
}

fn step() -> impl Strategy<Value = Step> {
    let letters = "jkgG1234<>r/ zfoa+-vew?q\\[(.*x".chars().map(KeyCode::Char).collect::<Vec<_>>();
    let others = vec![
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Backspace,
        KeyCode::Left,
        KeyCode::Right,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::F(5),
        KeyCode::Char('ü'),
        KeyCode::Char('\u{202e}'),
    ];
    let keys = prop::sample::select([letters, others].concat());
    prop_oneof![
        8 => (keys, prop::bool::weighted(0.05)).prop_map(|(key, control)| Step::Key(key, control)),
        2 => (0u64..100, prop::collection::vec(any::<bool>(), 3))
            .prop_map(|(moment, there)| Step::Moment(moment, there)),
        1 => (1u16..200, 1u16..60).prop_map(|(width, height)| Step::Size(width, height)),
    ]
}

fn take(app: &mut App, step: Step) {
    match step {
        Step::Key(code, control) => {
            let modifiers = if control { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
            app.handle(Input::Key(KeyEvent::new(code, modifiers)));
        }
        Step::Moment(moment, there) => {
            let mut it = snapshot(moment);
            let mut there = there.into_iter();
            it.processes.retain(|_| there.next().unwrap_or(true));
            app.handle(Input::Snapshot(Box::new(it)));
        }
        Step::Size(width, height) => drop(app.handle(Input::Size(width, height))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn there_is_always_a_frame(steps in prop::collection::vec(step(), 1..60)) {
        let mut app = app((80, 24), 1);
        for step in steps {
            take(&mut app, step);
            frame(&app);
            if let Some(id) = app.selected() {
                let is_there = app.rows().iter().any(|it| it.id == id);
                prop_assert!(is_there || app.table == aiotrace::top::app::Table::Findings);
            }
        }
    }
}

#[test]
fn every_size_has_a_frame() {
    for height in 1..14 {
        for width in 1..90 {
            let mut app = app((width, height), 1);
            for keys in ["", "v", "2", "4", "?"] {
                super::fixture::press(&mut app, keys);
                frame(&app);
            }
        }
    }
}
