//! What frames look like, with their styles.

use aiotrace::top::{
    app::Input,
    snapshot::{Identity, Row},
};

use super::fixture::{app, frame, press, snapshot, text};

#[test]
fn a_small_terminal_has_the_numbers_that_matter() {
    insta::assert_debug_snapshot!(frame(&app((40, 10), 3)));
}

#[test]
fn the_usual_terminal() {
    insta::assert_debug_snapshot!(frame(&app((80, 24), 9)));
}

#[test]
fn a_wide_terminal_has_more_columns_and_graphs() {
    insta::assert_debug_snapshot!(frame(&app((120, 40), 30)));
}

#[test]
fn without_colours_nothing_is_lost() {
    let mut app = app((80, 24), 9);
    app.color = false;
    app.ascii = true;
    let shown = text(&app);
    assert!(shown.is_ascii(), "{shown}");
    assert!(shown.contains(" E2") && shown.contains(" W1"), "{shown}");
    let styles = format!("{:?}", frame(&app));
    for color in ["Red", "Yellow", "Cyan", "Gray"] {
        assert!(!styles.contains(&format!("fg: {color}")), "{color}: {styles}");
    }
    insta::assert_debug_snapshot!(frame(&app));
}

#[test]
fn details_of_a_row() {
    let mut app = app((80, 40), 30);
    press(&mut app, "v");
    insta::assert_debug_snapshot!(frame(&app));
}

#[test]
fn a_finding_is_explained() {
    let mut app = app((80, 24), 9);
    press(&mut app, "4\n");
    let shown = text(&app);
    assert!(shown.contains("error context-leak"), "{shown}");
    assert!(shown.contains("Means:"), "{shown}");
}

#[test]
fn a_machine_with_5000_contexts() {
    let mut app = app((80, 24), 1);
    let mut many = snapshot(2);
    let one = many.contexts[0].clone();
    for number in 0..5000u32 {
        let handle = aiotrace::event::Handle(0x7f10_0000_0000 + u64::from(number) * 0x1000);
        let what = format!("{:#x}", handle.0);
        many.contexts.push(Row {
            id: Identity::Context(4711, 47_110, handle),
            what,
            ..one.clone()
        });
    }
    app.handle(Input::Snapshot(Box::new(many)));
    press(&mut app, "2G");
    let shown = text(&app);
    assert!(shown.contains("0x7f1001387000"), "the last one is in sight: {shown}");
    insta::assert_debug_snapshot!(frame(&app));
}

#[test]
fn without_bpf_nothing_is_zero_that_is_not_known() {
    let mut app = app((80, 24), 0);
    let mut it = snapshot(1);
    (it.counted, it.source) = (false, "/proc".into());
    it.processes.iter_mut().for_each(|row| (row.charge, row.in_flight) = (None, None));
    app.handle(Input::Snapshot(Box::new(it)));
    let shown = text(&app);
    assert!(!shown.contains("REQ/s") && !shown.contains("CHARGE"), "{shown}");
    assert!(!shown.contains("none lost"), "{shown}");
    assert!(shown.contains("mariadbd") && shown.contains("248"), "{shown}");
}
