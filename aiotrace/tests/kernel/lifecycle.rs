//! Processes that begin, change and end.

use aiotrace::output::json::Line;

use super::{
    harness::Need,
    machine, session,
    support::{Attached, PATIENCE, Program, SHARED, aiotrace, run_program},
};

fn no_call_of_200_children_is_missed() {
    let trace = session::run(&SHARED, &["fork", "200"]);
    trace.assert_nothing_lost();
    if machine::skips_runs() && trace.skipped() > 0 {
        // When so many calls return at once, the kernel leaves some of them to the second look, and may skip that
        // one, too.
        assert!(200 - trace.destroys().len() as u64 <= trace.report().lost, "{:?}", trace.report());
        let (accepted, reaped) = trace.accepted_and_reaped();
        assert!((1..=200).contains(&accepted) && (1..=200).contains(&reaped), "none is invented");
        return;
    }
    assert_eq!(trace.accepted_and_reaped(), (200, 200));
    assert_eq!((trace.setups().len(), trace.destroys().len()), (200, 200));
    let of = |change: &str| trace.processes().iter().filter(|it| it.change == change).count();
    assert_eq!((of("fork"), of("exit")), (200, 201));
    assert!(trace.processes().iter().all(|it| it.followed != Some(false)));
}

fn without_f_children_are_named_and_not_traced() {
    let program = super::support::programs();
    let output = aiotrace()
        .args(["run", "--format", "json", "--"])
        .arg(program)
        .args(["fork", "5"])
        .output()
        .unwrap();
    let lines = super::support::parse(&String::from_utf8(output.stdout).unwrap());
    let forks: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Process(it) if it.change == "fork" => it.followed,
            _ => None,
        })
        .collect();
    assert_eq!(forks, [false; 5]);
    assert!(!lines.iter().any(|line| matches!(line, Line::Setup(_))));
}

fn a_process_that_executes_another_program_stays_traced() {
    let trace = run_program(&["exec"]);
    assert_eq!(trace.setups().len(), 2);
    assert_eq!(trace.accepted_and_reaped(), (3, 3));
    let execs: Vec<_> = trace.processes().into_iter().filter(|it| it.change == "exec").collect();
    assert_eq!(execs.len(), 2, "ours and its own");
    assert!(execs[1].path.as_ref().unwrap().ends_with("/aio-programs"));
    let spaces: Vec<_> = trace
        .processes()
        .into_iter()
        .filter(|it| it.change == "seen")
        .map(|it| it.space.unwrap())
        .collect();
    assert_eq!(spaces.len(), 2);
    assert_ne!(spaces[0], spaces[1], "another address space");
}

fn a_process_killed_in_a_call_returns_from_it_first() {
    for seen_entering in [false, true] {
        let mut program =
            Program::ready(&[if seen_entering { "wait-blocked" } else { "blocked" }, "100000"]);
        let mut attached;
        if seen_entering {
            attached = Attached::to(program.pid());
            program.go_on();
            assert_eq!(program.line(), "ready");
            attached.await_line(|line| matches!(line, Line::Submit(_)));
            await_blocked(program.pid());
        } else {
            await_blocked(program.pid());
            attached = Attached::to(program.pid());
        }
        program.kill();
        let trace = attached.end();
        assert_eq!(trace.status.code(), Some(0), "{}", trace.stderr);
        trace.assert_nothing_lost();
        let [call] = trace.getevents()[..] else { panic!("one io_getevents") };
        assert_eq!(call.errno.as_deref(), Some("EINTR"));
        assert_eq!(call.entry, if seen_entering { "seen" } else { "before_attach" });
        let exit = trace.processes().into_iter().find(|it| it.change == "exit").unwrap();
        assert_eq!((exit.signal.as_deref(), exit.exit_code), (Some("SIGKILL"), None));
    }
}

/// Waits until the process is blocked in io_getevents.
pub fn await_blocked(pid: u32) {
    let start = std::time::Instant::now();
    while aiotrace::proc::blocked_calls(pid).is_empty() {
        assert!(aiotrace::proc::is_alive(pid), "the program has ended");
        assert!(start.elapsed() < PATIENCE, "it does not wait in a call");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn the_end_of_a_process_tells_its_status() {
    let trace = run_program(&["exit-status", "0"]);
    let exit = trace.processes().into_iter().find(|it| it.change == "exit").unwrap();
    assert_eq!((exit.exit_code, exit.signal.as_deref()), (Some(0), None));
}

fn hostile_names_and_paths_are_escaped() {
    for format in ["text", "json"] {
        let mut program = Program::ready(&["hostile"]);
        let child = aiotrace()
            .args(["attach", "-v", "--color", "never", "--format", format, "-p"])
            .arg(program.pid().to_string())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        super::attach::await_attached(child.id());
        program.go_on();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).expect("UTF-8, whatever the name is");
        let clean = text.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control());
        assert!(clean, "{text:?}");
        let name = if format == "json" { r"\\x1b[31m\\xffred" } else { r"\x1b[31m\xffred" };
        assert!(text.contains(name), "{text}");
        program.child.wait().unwrap();
    }
    // The program submits, so that the path appears.
    let mut program = Program::start(&["wait-hostile"]);
    assert_eq!(program.line(), "ready");
    let mut attached = Attached::to(program.pid());
    program.go_on();
    let Line::Submit(submit) = attached.await_line(|line| matches!(line, Line::Submit(_))) else {
        unreachable!()
    };
    let path = submit.iocbs[0].as_ref().unwrap().path_now.clone().expect("the file is open");
    assert!(path.ends_with("-\\x1b]0;title\\x07\"\\xfe\\x0a-file"), "{path}");
    program.go_on();
    attached.end().assert_nothing_lost();
}

tests![
    no_call_of_200_children_is_missed if Need::SLOW,
    without_f_children_are_named_and_not_traced if Need::SAME,
    a_process_that_executes_another_program_stays_traced,
    a_process_killed_in_a_call_returns_from_it_first if Need::LONG,
    the_end_of_a_process_tells_its_status,
    hostile_names_and_paths_are_escaped if Need::LONG,
];
