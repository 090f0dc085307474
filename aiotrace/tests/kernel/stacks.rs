//! The stacks that show where calls are made.

use std::{ffi::OsString, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command};

use aiotrace::output::json::{FunctionObject, Line};

use super::{
    harness::{Need, cannot_run},
    kernels::SIGNS,
    machine,
    mounts::Mounted,
    support::{
        Attached, Program, Trace, aiotrace, parse, programs, run, run_program, run_to_file, traced,
    },
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/callers.rs");

/// tests/programs/callers.rs, built with frame pointers or without them.
pub struct Callers {
    directory: tempfile::TempDir,
}

impl Callers {
    fn new(frame_pointers: &str) -> Self {
        Self::with(frame_pointers, &[])
    }

    /// Builds it with further options of rustc.
    pub fn with(frame_pointers: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition", "2024", "-O", "-g", "-C"])
            .arg(format!("force-frame-pointers={frame_pointers}"))
            .args(options)
            .arg("-o")
            .arg(directory.path().join("callers"))
            .arg(SOURCE)
            .status()
            .unwrap();
        assert!(status.success(), "rustc");
        Self { directory }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("callers")
    }

    /// The stack of its io_setup.
    fn stack(&self, arguments: &[&str]) -> Vec<FunctionObject> {
        let mut command = vec![self.path().into_os_string()];
        command.extend(arguments.iter().map(OsString::from));
        let trace = run(&command);
        assert!(trace.status.success(), "{}", trace.stderr);
        trace.assert_nothing_lost();
        let [setup] = trace.setups()[..] else { panic!("one io_setup") };
        assert!(!setup.stack_truncated, "{:?}", setup.stack);
        setup.stack.clone().unwrap()
    }
}

fn names(stack: &[FunctionObject]) -> Vec<&str> {
    stack.iter().map(|it| it.function.as_deref().unwrap_or("?")).collect()
}

/// The number of the source line that contains this text.
pub fn line_with(text: &str) -> u32 {
    let source = std::fs::read_to_string(SOURCE).unwrap();
    (1..).zip(source.lines()).find(|(_, line)| line.contains(text)).unwrap().0
}

fn callers_are_named_in_order_with_frame_pointers_and_without() {
    let ours = ["callers::leak_here", "callers::caller", "callers::main"];
    for frame_pointers in ["yes", "no"] {
        let program = Callers::new(frame_pointers);
        let raw = program.stack(&["raw"]);
        assert_eq!(names(&raw)[0], "syscall");
        assert_eq!(names(&raw)[1..4], ours, "frame pointers: {frame_pointers}");
        assert!(raw[1].file.as_ref().unwrap().ends_with("tests/programs/callers.rs"));
        assert_eq!(raw[1].line, Some(line_with("// here: raw")));
        assert_eq!(raw[1].module.as_deref(), program.path().to_str());
        assert_eq!(names(&raw).last(), Some(&"_start"), "to the very end");
        assert!(raw[1..4].iter().all(|it| !it.inlined));

        let libaio = program.stack(&["libaio"]);
        let stub = names(&libaio).iter().position(|it| *it == "io_setup").unwrap();
        assert!(libaio[stub].module.as_ref().unwrap().contains("libaio.so"));
        assert_eq!(names(&libaio)[stub + 1..stub + 4], ours, "frame pointers: {frame_pointers}");
        assert_eq!(libaio[stub + 1].line, Some(line_with("// here: libaio")));
    }
}

fn a_program_of_the_distribution_is_unwound_to_its_own_function() {
    let directory = tempfile::tempdir().unwrap();
    let file = format!("--filename={}", directory.path().join("file").display());
    let command = ["fio", "--name=j", "--ioengine=libaio", "--rw=read", "--size=1m", &file];
    let trace = run(&command);
    assert!(trace.status.success(), "{}", trace.stderr);
    let setups = trace.setups();
    let stack = setups.iter().find_map(|it| it.stack.as_ref().filter(|it| it.len() > 3)).unwrap();
    let fio = stack.iter().position(|it| it.module.as_ref().is_some_and(|it| it.contains("fio")));
    let fio = fio.unwrap_or_else(|| panic!("{stack:?}"));
    assert!(stack[..fio].iter().any(|it| it.module.as_ref().unwrap().contains("libaio.so")));
    // fio has few symbols, and the frame of its thread_main is larger than what is copied of a stack.
    let of_fio = |it: &FunctionObject| it.module == stack[fio].module;
    assert!(stack[fio..].iter().take(3).filter(|it| of_fio(it)).count() == 3, "{stack:?}");
}

fn io_submit_has_a_stack_only_if_asked_for() {
    let trace = run_program(&["callers"]);
    assert!(trace.submits().iter().all(|it| it.stack.is_none()));
    let trace = with_stacks(&[programs().into_os_string(), "callers".into()]);
    let [submit] = trace.submits()[..] else { panic!("one io_submit") };
    let stack = submit.stack.as_ref().unwrap();
    let names = names(stack);
    let at = names.iter().position(|it| it.ends_with("leak_here")).unwrap();
    assert_eq!(names[at + 1].rsplit("::").next(), Some("caller"));
    assert!(stack[at].file.as_ref().unwrap().ends_with("programs/src/callers.rs"));
    assert!(stack[..at].iter().any(|it| it.inlined), "what is inlined there: {names:?}");
}

/// The probes do not copy a stack that they know already, and notice a different stack even if all registers are the
/// same.
fn each_of_many_submits_has_the_stack_it_was_made_from() {
    let mut target = Program::ready(&["wait-callers", "500"]);
    let mut attached = Attached::new(&["--stacks", "-p", &target.pid().to_string()]);
    target.go_on();
    for _ in 0..2 {
        attached.await_line(|line| matches!(line, Line::Submit(_)));
    }
    assert_eq!(target.line(), "ready");
    // The probes learn of a known stack only when a record comes.
    std::thread::sleep(std::time::Duration::from_millis(200));
    target.go_on();
    let trace = attached.end();
    trace.assert_nothing_lost();
    let submits = trace.submits();
    assert_eq!(submits.len(), 500);
    let mut named = 0;
    for (submit, caller) in submits.into_iter().zip(["caller", "other_caller"].iter().cycle()) {
        // Not each stack is copied before the probes know it.
        let Some(stack) = &submit.stack else { continue };
        let last = |name: &'_ str| name.rsplit("::").next().unwrap_or_default().to_owned();
        let functions: Vec<String> = names(stack).into_iter().map(last).collect();
        let at = functions.iter().position(|it| it == "leak_here").unwrap();
        assert_eq!(functions[at..at + 3], ["leak_here", caller, "by_turns"]);
        named += 1;
    }
    eprintln!("{named} of 500");
    assert!(named > 400, "{named} of 500");
}

fn with_stacks(command: &[OsString]) -> Trace {
    traced(&["run", "--stacks"], command)
}

/// Checks a program on this file system, where /proc/PID/maps shows another device than fstat(2).
fn assert_named(program: PathBuf) {
    std::fs::copy(programs(), &program).unwrap();
    for options in [&["run"][..], &["run", "--source", "ptrace"]] {
        let options = [options, &["--stacks"]].concat();
        let trace = traced::<OsString>(&options, &[program.clone().into(), "callers".into()]);
        let [submit] = trace.submits()[..] else { panic!("one io_submit: {}", trace.stderr) };
        let stack = submit.stack.as_ref().unwrap();
        let here = stack
            .iter()
            .find(|it| it.function.as_ref().is_some_and(|it| it.ends_with("leak_here")));
        let here = here.unwrap_or_else(|| panic!("{options:?}: {:?}", names(stack)));
        assert_eq!(here.module.as_deref(), program.to_str(), "{options:?}");
    }
}

fn a_program_on_overlayfs_has_names() {
    let directory = tempfile::tempdir().unwrap();
    let lower = directory.path().join("lower");
    std::fs::create_dir(&lower).unwrap();
    std::fs::copy(programs(), lower.join("below")).unwrap();
    let Some(mounted) = Mounted::overlay(directory.path()) else { return };
    // The program in the upper layer, and the one in the lower layer.
    assert_named(mounted.path().join("program"));
    let trace = with_stacks(&[mounted.path().join("below").into(), "callers".into()]);
    let stack = trace.submits()[0].stack.as_ref().unwrap();
    assert!(names(stack).iter().any(|it| it.ends_with("leak_here")), "{:?}", names(stack));
}

fn a_program_on_btrfs_has_names() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::image("btrfs", directory.path()) else { return };
    assert_named(mounted.path().join("program"));
    // A subvolume has a device of its own for fstat(2), but not in /proc/PID/maps.
    let volume = mounted.path().join("volume");
    let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&volume).status();
    assert!(made.unwrap().success(), "btrfs subvolume create");
    assert_named(volume.join("program"));
}

/// The files of the two have the same device and inode in /proc/PID/maps.
fn programs_of_two_subvolumes_are_not_one() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::image("btrfs", directory.path()) else { return };
    let copies = ["one", "two"].map(|name| {
        let volume = mounted.path().join(name);
        let made = Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&volume).status();
        assert!(made.unwrap().success(), "btrfs subvolume create");
        let copy = volume.join(name);
        std::fs::copy(programs(), &copy).unwrap();
        copy
    });
    let inodes = copies.each_ref().map(|it| std::fs::metadata(it).unwrap().ino());
    assert_eq!(inodes[0], inodes[1], "each volume counts by itself");
    // The programs stay alive, so that there is time to look at them.
    let mut targets = copies.each_ref().map(|it| {
        let mut target = Program::of(Command::new(it).args(["attack", "stay"]).arg(it));
        assert_eq!(target.line(), "ready");
        target
    });
    let [one, two] = targets.each_ref().map(|it| it.pid().to_string());
    let mut attached = Attached::new(&["--stacks", "-p", &one, "-p", &two]);
    for (target, copy) in targets.iter_mut().zip(&copies) {
        target.go_on();
        let is_setup = |line: &Line| matches!(line, Line::Setup(_));
        let Line::Setup(setup) = attached.await_line(is_setup) else { panic!("no io_setup") };
        let modules = setup.stack.iter().flatten().filter_map(|it| it.module.as_deref());
        let here = mounted.path().to_str().unwrap();
        let modules: Vec<&str> = modules.filter(|it| it.starts_with(here)).collect();
        assert!(modules.iter().any(|it| copy.to_str() == Some(it)), "{modules:?}");
        assert!(modules.iter().all(|it| copy.to_str() == Some(it)), "{modules:?}");
        for _ in 0..8 {
            attached.await_line(|line| matches!(line, Line::Destroy(_)));
        }
    }
}

fn text_has_the_functions_below_the_call() {
    let output =
        aiotrace().args(["run", "-v", "--"]).arg(programs()).arg("callers").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut below = text.lines().skip_while(|line| !line.contains(" io_setup(")).skip(1);
    let is_it = |line: &str| line.starts_with("    at ") && line.contains("leak_here (");
    assert!(below.any(|line| is_it(line) && line.contains("src/callers.rs:")), "{text}");
}

/// The names are in the recording: when it is read, the program may be gone.
fn a_recording_has_the_names() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("recording");
    let live = aiotrace()
        .args(["run", "--stacks", "-v", "--record"])
        .arg(&recording)
        .arg("--")
        .arg(programs())
        .arg("callers")
        .output()
        .unwrap();
    let again = aiotrace().args(["report", "-v"]).arg(&recording).output().unwrap();
    let stacks = |output: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(output);
        text.lines().filter(|line| line.starts_with("    at ")).map(str::to_owned).collect()
    };
    let live = stacks(&live.stdout);
    assert_eq!(live.iter().filter(|line| line.contains("leak_here (")).count(), 2, "{live:?}");
    assert_eq!(stacks(&again.stdout), live);
}

/// The stack has only addresses, and aiotrace says that it could not find more.
fn the_stack_of_a_process_that_is_gone_has_addresses_only() {
    let program = Callers::new("no");
    let mut gone = 0;
    for _ in 0..10 {
        let trace = run(&[program.path().as_os_str(), "raw".as_ref(), "0".as_ref()]);
        assert!(trace.status.success(), "{}", trace.stderr);
        let [setup] = trace.setups()[..] else { panic!("one io_setup") };
        let stack = setup.stack.as_ref().unwrap();
        if stack[0].module.is_none() {
            gone += 1;
            assert!(setup.stack_truncated);
            assert!(stack.iter().all(|it| it.function.is_none() && it.offset.is_none()));
        }
    }
    eprintln!("gone before it was looked at: {gone} of 10");
}

/// The names come from the file that runs, not from the file that has its path by then.
fn a_program_that_was_replaced_is_named_by_the_file_it_runs() {
    let program = Callers::new("no");
    let mut target = Program::of(Command::new(program.path()).args(["raw", "500", "wait"]));
    assert_eq!(target.line(), "ready");
    std::fs::remove_file(program.path()).unwrap();
    std::fs::copy("/bin/true", program.path()).unwrap();
    let mut attached = Attached::to(target.pid());
    target.go_on();
    let line = attached.await_line(|line| matches!(line, Line::Setup(_)));
    let Line::Setup(setup) = line else { panic!() };
    let stack = setup.stack.unwrap();
    assert_eq!(names(&stack)[1..4], ["callers::leak_here", "callers::caller", "callers::main"]);
    assert_eq!(stack[1].module.as_deref(), program.path().to_str());
}

/// Without symbols, a function is shown by module and address, which are those of the same program with symbols. The
/// file may be gone.
fn a_stripped_program_is_told_by_module_and_address() {
    let is_static = ["-C", "target-feature=+crt-static"];
    for options in [&[][..], &is_static] {
        let program = Callers::with("no", options);
        let path = program.path();
        let with_names = program.stack(&["raw"]);
        let ours = names(&with_names).iter().position(|it| *it == "callers::leak_here").unwrap();
        let places = |stack: &[FunctionObject]| -> Vec<(Option<String>, Option<u64>)> {
            let place =
                |it: &FunctionObject| (it.module.clone(), it.offset.as_ref().map(|it| it.0));
            stack[ours..ours + 3].iter().map(place).collect()
        };
        let expected = places(&with_names);
        assert!(expected.iter().all(|it| it.0.as_deref() == path.to_str() && it.1.is_some()));
        assert!(Command::new("strip").arg("--strip-all").arg(&path).status().unwrap().success());
        let check = |stack: &[FunctionObject], how: &str| {
            assert_eq!(places(stack), expected, "{how} {options:?}");
            let unnamed = stack[ours..ours + 3].iter();
            assert!(unnamed.clone().all(|it| it.function.is_none() && it.line.is_none()), "{how}");
        };
        check(&program.stack(&["raw"]), "stripped");
        let mut target = Program::of(Command::new(&path).args(["raw", "500", "wait"]));
        assert_eq!(target.line(), "ready");
        std::fs::remove_file(&path).unwrap();
        let mut attached = Attached::to(target.pid());
        target.go_on();
        let line = attached.await_line(|line| matches!(line, Line::Setup(_)));
        let Line::Setup(setup) = line else { panic!() };
        check(&setup.stack.unwrap(), "stripped and deleted");
    }
}

/// Three thousand contexts with the names of where they were made take hardly more memory than ten.
fn symbols_do_not_count_in_our_memory() {
    let directory = tempfile::tempdir().unwrap();
    let traced = |count: &str| {
        let file = directory.path().join(count);
        let path = programs();
        let program = [path.as_os_str(), "callers".as_ref(), count.as_ref()];
        let trace = run_to_file(&file, "json", &program);
        assert!(trace.status.success(), "{}", trace.stderr);
        let json = std::fs::read_to_string(file).unwrap();
        let is_named = |line: &Line| match line {
            Line::Setup(it) => it.stack.as_ref().is_some_and(|it| names(it).contains(&"leak_here")),
            _ => false,
        };
        (parse(&json).iter().filter(|it| is_named(it)).count(), trace.most_memory >> 20)
    };
    let (_, few) = traced("10");
    let (named, many) = traced("3000");
    assert!(named >= 2990, "{named} of 3000 stacks have names");
    assert!(many < few + 24, "{many} MiB, and {few} MiB for ten");
}

/// The child reads files of the programs that are traced, so it must be able to do nothing else. It tries everything
/// by itself.
fn the_child_that_reads_symbols_can_do_nothing_else() {
    let output = aiotrace()
        .args(["symbolize", &std::process::id().to_string(), "--try-all"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[]\n");
    // The parent of this child has ended.
    let output = aiotrace().args(["symbolize", "1", "--try-all"]).output().unwrap();
    assert!(!output.status.success());
}

/// Also where the function that makes the system call has no unwind table, as that of musl.
fn each_caller_is_in_the_stack_once() {
    let trace = run_program(&["callers"]);
    assert!(trace.status.success(), "{}", trace.stderr);
    let [setup] = trace.setups()[..] else { panic!("one io_setup") };
    let names = names(setup.stack.as_ref().unwrap());
    let ours = ["leak_here", "caller", "named"];
    let last = |name: &str| name.rsplit("::").next().unwrap_or_default().to_owned();
    let found: Vec<String> =
        names.iter().map(|it| last(it)).filter(|it| ours.contains(&&**it)).collect();
    assert_eq!(found, ours, "{names:?}");
}

/// The stack goes on behind a function that has its return address signed on the stack, and whose unwind table says so.
fn a_signed_return_address_is_one_of_the_process() {
    if !cfg!(target_arch = "aarch64") {
        return cannot_run("processors of this architecture sign no addresses");
    }
    let trace = run_program(&["signed"]);
    assert!(trace.status.success(), "{}", trace.stderr);
    let is_signed = trace.stderr.lines().any(|it| it == "signed");
    let must_be = machine::guest().is_some_and(|it| it.name == SIGNS);
    assert!(is_signed || !must_be, "the processor of this guest signs addresses");
    let [setup] = trace.setups()[..] else { panic!("one io_setup") };
    let stack = setup.stack.as_ref().unwrap();
    let last = |it: &&str| it.rsplit("::").next().unwrap_or_default().to_owned();
    let names: Vec<String> = names(stack).iter().map(last).collect();
    assert_eq!(names[..3], ["setup_signed", "caller_of_signed", "signed"], "signed: {is_signed}");
    assert!(names.iter().any(|it| it == "main"), "to the end: {names:?}");
}

const RUSTC: Need = Need::Native("it runs rustc");

tests![
    callers_are_named_in_order_with_frame_pointers_and_without if RUSTC,
    a_program_of_the_distribution_is_unwound_to_its_own_function if Need::Native("it reads the file system of the distribution"),
    io_submit_has_a_stack_only_if_asked_for if Need::LONG,
    each_of_many_submits_has_the_stack_it_was_made_from if Need::LONG,
    a_program_on_overlayfs_has_names if Need::Native("it runs mount(8), and needs a disk"),
    a_program_on_btrfs_has_names if Need::Native("it runs mkfs.btrfs and mount(8)"),
    programs_of_two_subvolumes_are_not_one if Need::Native("it runs mkfs.btrfs and mount(8)"),
    each_caller_is_in_the_stack_once,
    a_signed_return_address_is_one_of_the_process,
    text_has_the_functions_below_the_call if Need::SAME,
    a_recording_has_the_names if Need::SAME,
    the_stack_of_a_process_that_is_gone_has_addresses_only if RUSTC,
    a_program_that_was_replaced_is_named_by_the_file_it_runs if RUSTC,
    a_stripped_program_is_told_by_module_and_address if Need::Native("it runs rustc and strip"),
    symbols_do_not_count_in_our_memory if Need::LONG,
    the_child_that_reads_symbols_can_do_nothing_else,
];
