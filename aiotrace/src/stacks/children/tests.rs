//! Scripts take the place of the children.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::*;

/// A child that is a script; its standard input is the socket.
fn script(script: &str) -> io::Result<Running> {
    Running::begin(Command::new("/bin/sh").args(["-c", script]))
}

const ANSWER: &str = "echo '[[{\"function\":\"f\",\"file\":null,\"line\":7,\"symbol\":null}]]' >&0";

fn answers() -> io::Result<Running> {
    script(&format!("while read -r line; do {ANSWER}; done"))
}

fn dies_at_once() -> io::Result<Running> {
    script("read -r line")
}

fn dies_at_the_second() -> io::Result<Running> {
    script(&format!("read -r line; {ANSWER}; read -r line"))
}

fn stalls() -> io::Result<Running> {
    script("read -r line; exec sleep 1000")
}

/// Files, and what is said of them.
type Files = Vec<(Module, Arc<File>)>;
type Said = Rc<RefCell<Vec<String>>>;

/// Children that are started so, so many files, and what is said.
fn children(
    start: fn() -> io::Result<Running>,
    count: usize,
    patience: Waits,
) -> (Children, Files, Said) {
    let (open, said) = (OpenFiles::default(), Rc::new(RefCell::new(Vec::new())));
    let module = |_| {
        let file = Arc::new(tempfile::tempfile().unwrap());
        (Module::new(open.add(&file), b"/x"), file)
    };
    let modules = (0..count).map(module).collect();
    let to = Rc::clone(&said);
    let say = Box::new(move |text| to.borrow_mut().push(text));
    let mut children = Children::new(open, None, patience, say);
    children.start = start;
    (children, modules, said)
}

fn named(names: &Names) -> bool {
    matches!(&names[..], [Some(it)] if it.len() == 1)
}

const US: fn() -> u32 = std::process::id;

#[test]
fn a_file_that_comes_after_a_bad_one_is_tried_alone() {
    let (mut it, files, said) = children(dies_at_the_second, 2, Waits::TO_SHOW);
    assert!(named(&it.ask(US(), &files[0].0, &[1])));
    assert!(named(&it.ask(US(), &files[1].0, &[1])), "of a second child");
    assert!(it.bad.is_empty() && said.borrow().is_empty());
    // Alone it fails again, and so it is a bad one, and not asked about any more.
    assert!(it.ask(US(), &files[1].0, &[1]).is_empty());
    assert!(it.bad.contains(&files[1].0.id));
    assert_eq!(*said.borrow(), [format!("no names of the functions in /x: {KILLED}")]);
    it.start = answers;
    assert!(it.ask(US(), &files[1].0, &[1]).is_empty());
    assert!(named(&it.ask(US(), &files[0].0, &[1])));
}

#[test]
fn a_child_that_has_ended_is_no_fault_of_a_file() {
    let (mut it, files, said) = children(answers, 2, Waits::TO_SHOW);
    assert!(named(&it.ask(US(), &files[0].0, &[1])));
    let child = &mut it.running.as_mut().unwrap().child;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(named(&it.ask(US(), &files[1].0, &[1])));
    assert!(it.bad.is_empty() && said.borrow().is_empty());
}

#[test]
fn no_more_than_some_bad_files_are_named_and_they_take_a_part_of_the_time() {
    let (mut it, files, said) = children(dies_at_once, 40, Waits::AT_A_STOP);
    for (module, _) in &files {
        assert!(it.ask(US(), module, &[1]).is_empty());
    }
    let said = said.borrow();
    // Each costs a tenth of a second, and then the user's share is used up.
    assert_eq!(it.bad.len(), 30);
    assert_eq!(said.len(), MOST_NAMED + 1, "{said:?}");
    let user = proc::user(US()).unwrap();
    let last = said.last().unwrap();
    assert!(last.contains(&format!("the user with the number {user}: ")), "{last}");
    assert!(!it.waited.is_over(user + 1, it.patience), "others have theirs");
}

#[test]
fn too_many_children_that_hang_condemn_no_file() {
    let (mut it, files, said) = children(answers, 1, Waits::TO_SHOW);
    let sleeper = || Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    it.given_up = (0..MOST_GIVEN_UP).map(|_| sleeper()).collect();
    for _ in 0..2 {
        assert!(it.ask(US(), &files[0].0, &[1]).is_empty());
    }
    assert_eq!(*said.borrow(), ["no names of functions: too many children that read symbols hang"]);
    for child in &mut it.given_up {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(named(&it.ask(US(), &files[0].0, &[1])));
}

#[test]
fn an_answer_is_waited_for_no_longer_than_patience_allows() {
    let one = Duration::from_millis(50);
    let (mut it, files, said) = children(stalls, 1, Waits { one, ..Waits::TO_SHOW });
    let begun = Instant::now();
    assert!(it.ask(US(), &files[0].0, &[1]).is_empty());
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert_eq!(*said.borrow(), ["no names of the functions in /x: no answer within 50ms"]);
}

#[test]
fn a_list_that_is_longer_than_a_child_makes_is_refused() {
    let list = |count| format!("[[{}]]", vec![r#"{"line":1}"#; count].join(","));
    let read = |text: &str| serde_json::from_str::<Answer>(text).is_ok();
    assert!(read("[]") && !read(&list(crate::bounded::FUNCTIONS + 1)));
    assert!(!read(&format!("[{}]", vec!["[]"; crate::bounded::FRAMES + 1].join(","))));
}
