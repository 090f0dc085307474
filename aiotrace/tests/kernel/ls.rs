//! `aiotrace ls`: the sum of all charges is fs.aio-nr.

use serde_json::Value;

use super::{
    harness::Need,
    schema,
    support::{Program, aiotrace},
};

fn ls(options: &[&str]) -> String {
    let output = aiotrace().arg("ls").args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(options: &[&str]) -> Value {
    let line = ls(&[options, &["--format", "json"]].concat());
    schema::check(&line);
    serde_json::from_str(&line).unwrap()
}

/// Charge and number of contexts of a process.
fn held_by(listing: &Value, pid: u32) -> Option<(u64, usize)> {
    let processes = listing["processes"].as_array().unwrap();
    let process = processes.iter().find(|it| it["pid"] == pid)?;
    Some((process["charge"].as_u64().unwrap(), process["contexts"].as_array().unwrap().len()))
}

fn aio_nr() -> u64 {
    std::fs::read_to_string("/proc/sys/fs/aio-nr").unwrap().trim().parse().unwrap()
}

/// The charge of the contexts of `hold COUNT`.
fn charge(count: u64) -> u64 {
    (0..count).map(|index| 1 + index % 9).sum()
}

fn the_sum_of_all_charges_is_aio_nr() {
    let many: Vec<(u64, Program)> = (0..45)
        .map(|it| 1 + it * 7 % 30)
        .map(|count| (count, Program::ready(&["hold", &count.to_string()])))
        .collect();
    let thousands = Program::ready(&["hold", "5000"]);
    let unmapped = Program::ready(&["hold-unmapped"]);
    let leaderless = Program::ready(&["hold-leaderless"]);
    let forked = Program::ready(&["hold-forked"]);
    let mut vforked = Program::ready(&["hold-vforked"]);
    let listing = json(&[]);
    assert_eq!(listing["source"], "bpf");
    assert_eq!(listing["accounted"], listing["aio_nr"], "{listing:#}");
    assert_eq!(listing["aio_nr"].as_u64().unwrap(), aio_nr());
    for (count, program) in &many {
        let held = held_by(&listing, program.pid());
        assert_eq!(held, Some((charge(*count), *count as usize)));
    }
    assert_eq!(held_by(&listing, thousands.pid()), Some((charge(5000), 5000)));
    assert_eq!(held_by(&listing, unmapped.pid()), Some((16, 2)), "its ring is not needed");
    assert_eq!(held_by(&listing, leaderless.pid()), Some((8, 1)), "any thread will do");
    assert_eq!(held_by(&listing, forked.pid()), Some((8, 1)));
    assert_eq!(held_by(&listing, vforked.pid()), Some((8, 1)), "one address space, two processes");
    let text = ls(&[]);
    assert!(text.contains("accounted 100 %"), "{text}");
    assert!(text.lines().next().unwrap().contains("aio-programs 24,990"), "most first: {text}");
    vforked.go_on();
}

fn without_bpf_what_is_unknown_is_named() {
    let program = Program::ready(&["hold", "3"]);
    let listing = json(&["--proc"]);
    assert_eq!((&listing["source"], &listing["accounted"]), (&Value::from("proc"), &Value::Null));
    let processes = listing["processes"].as_array().unwrap();
    let held = processes.iter().find(|it| it["pid"] == program.pid()).expect("it is there");
    assert_eq!(held["contexts"].as_array().unwrap().len(), 3);
    assert_eq!(held["charge"], Value::Null);
    assert!(ls(&["--proc"]).contains("charges unknown without BPF"));
}

fn unreaped_completions_are_counted() {
    let program = Program::ready(&["hold-unreaped"]);
    let listing = json(&[]);
    let processes = listing["processes"].as_array().unwrap();
    let held = processes.iter().find(|it| it["pid"] == program.pid()).expect("it is there");
    assert_eq!(held["unreaped"], 3);
    // Without a look at the ring, its state is unknown.
    let program = Program::ready(&["hold-unmapped"]);
    let listing = json(&[]);
    let processes = listing["processes"].as_array().unwrap();
    let held = processes.iter().find(|it| it["pid"] == program.pid()).expect("it is there");
    let contexts = held["contexts"].as_array().unwrap();
    let mut unreaped: Vec<_> = contexts.iter().map(|it| it["unreaped"].as_u64()).collect();
    unreaped.sort();
    assert_eq!((held["unreaped"].as_u64(), &unreaped[..]), (None, &[None, Some(0)][..]));
}

fn it_looks_again_until_it_is_ended() {
    let mut watch = Program::of(aiotrace().args(["ls", "--watch", "1", "--format", "json"]));
    let mut listing = || serde_json::from_str::<Value>(&watch.line()).unwrap();
    let before = listing();
    let program = Program::ready(&["hold", "2"]);
    assert_eq!(held_by(&before, program.pid()), None);
    // The kernel may have made one of the contexts between two looks.
    let held = (0..2).find_map(|_| held_by(&listing(), program.pid()));
    assert_eq!(held, Some((charge(2), 2)));
}

tests![
    the_sum_of_all_charges_is_aio_nr if Need::LONG,
    without_bpf_what_is_unknown_is_named if Need::SAME,
    unreaped_completions_are_counted,
    it_looks_again_until_it_is_ended if Need::SAME,
];
