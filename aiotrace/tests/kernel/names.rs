//! Names of containers, pods and units, in cgroups of this kernel as the engines make them. (No engine runs here: what is
//! real is the cgroups, the programs in them, and the files that the engines would have written.)

use std::{
    fs,
    path::{Path, PathBuf},
};

use aiotrace::output::json::Line;
use serde_json::Value;

use super::{
    attach::test_cgroup,
    harness::Need,
    schema,
    support::{Attached, Program, Trace, aiotrace},
};

const POD: &str = "kubepods-burstable-pod2d3b1f0a_9c1e_4a57_8f0e_0123456789ab.slice";

/// Cgroups, which are removed at the end, and a root with the files of engines.
struct Machine {
    root: tempfile::TempDir,
    cgroups: Vec<PathBuf>,
}

impl Machine {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), cgroups: Vec::new() }
    }

    fn file(&self, path: &str, content: &str) {
        let at = self.root.path().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
    }

    /// Puts a program into a cgroup with this path.
    fn put(&mut self, program: &Program, path: &str) {
        let mut at = test_cgroup().parent().unwrap().to_owned();
        for part in path.split('/') {
            at.push(part);
            if !at.exists() {
                fs::create_dir(&at).unwrap();
                self.cgroups.push(at.clone());
            }
        }
        fs::write(at.join("cgroup.procs"), program.pid().to_string()).unwrap();
    }

    fn root(&self) -> [&str; 2] {
        ["--host-root", self.root.path().to_str().unwrap()]
    }

    fn ls(&self) -> Value {
        let output =
            aiotrace().args(["ls", "--format", "json"]).args(self.root()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        schema::check(&line);
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A cgroup is free when its last process has been waited for.
        for path in self.cgroups.iter().rev() {
            for _ in 0..100 {
                if fs::remove_dir(path).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

fn docker(digit: char) -> (String, String) {
    let id = digit.to_string().repeat(64);
    (
        format!("aiotrace-test.slice/docker-{id}.scope"),
        format!("var/lib/docker/containers/{id}/config.v2.json"),
    )
}

fn process(listing: &Value, pid: u32) -> Value {
    let all = listing["processes"].as_array().unwrap();
    all.iter().find(|it| it["pid"] == pid).unwrap_or(&Value::Null).clone()
}

/// Two programs in two containers of docker, with names.
fn two_containers() -> (Machine, [Program; 2]) {
    let mut machine = Machine::new();
    let programs = [Program::ready(&["wait", "3"]), Program::ready(&["wait", "3"])];
    for ((digit, name), program) in [('a', "web"), ('b', "db")].into_iter().zip(&programs) {
        let (cgroup, file) = docker(digit);
        machine.put(program, &cgroup);
        machine.file(&file, &format!(r#"{{"Name": "/{name}"}}"#));
    }
    (machine, programs)
}

/// A program in a container of docker, one in a pod and one in a unit; they hold 2, 3 and 4 contexts.
fn three_places() -> (Machine, [Program; 3]) {
    let mut machine = Machine::new();
    let programs = [2, 3, 4].map(|it: u32| Program::ready(&["hold", &it.to_string()]));
    let [web, pod, unit] = &programs;
    let (cgroup, file) = docker('a');
    machine.put(web, &cgroup);
    machine.file(&file, r#"{"Name": "/web"}"#);
    machine.put(pod, &format!("kubepods.slice/{POD}/cri-containerd-{}.scope", "c".repeat(64)));
    machine.file(&format!("var/log/containers/db-0_shop_postgres-{}.log", "c".repeat(64)), "");
    machine.put(unit, "aiotrace-test.slice/names.service");
    (machine, programs)
}

fn containers_pods_and_units_have_their_names_in_the_list() {
    // Destroyed in the other order: the cgroups go after the programs in them.
    let (machine, programs) = three_places();
    let [web, pod, unit] = &programs;
    let listing = machine.ls();
    let web = process(&listing, web.pid());
    assert_eq!(
        (&web["container"], &web["container_name"]),
        (&"docker:aaaaaaaaaaaa".into(), &"web".into())
    );
    assert_eq!(web["who"], "docker:web");
    let pod = process(&listing, pod.pid());
    assert_eq!(pod["who"], "pod:shop/db-0/postgres", "{pod:#}");
    assert_eq!(pod["pod"]["uid"], "2d3b1f0a-9c1e-4a57-8f0e-0123456789ab");
    assert_eq!(process(&listing, unit.pid())["unit"], "names.service");
    let output = aiotrace().arg("ls").args(machine.root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for who in ["docker:web", "pod:shop/db-0/postgres", "names.service"] {
        assert!(text.lines().any(|it| it.ends_with(who)), "{who}: {text}");
    }
    let output = aiotrace().args(["top", "-b", "-n", "1"]).args(machine.root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("docker:web"), "{text}");
}

fn metrics_tell_apart_where_processes_run() {
    let (machine, programs) = three_places();
    let contexts = |by: &str| {
        let mut serve = aiotrace();
        let output = serve.args(["serve", "--once", "--by", by]).args(machine.root()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (by, labels, count) in [
        ("process", "", 9),
        ("unit", r#",unit="names.service""#, 4),
        ("container", r#",container="web""#, 2),
        ("pod", r#",namespace="shop",pod="db-0",container="postgres""#, 3),
    ] {
        let text = contexts(by);
        let line = format!("aiotrace_contexts{{process=\"aio-programs\"{labels}}} {count}.0");
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    drop(programs);
}

/// The one that is not meant goes on first, and is not seen.
fn is_traced_alone(
    machine: &Machine,
    options: &[&str],
    [meant, other]: [&mut Program; 2],
) -> Trace {
    let root = machine.root();
    let mut attached = Attached::new(&[options, &root].concat());
    other.go_on();
    other.child.wait().unwrap();
    meant.go_on();
    attached.await_line(|line| matches!(line, Line::Destroy(_)));
    attached.signal(libc::SIGTERM);
    let trace = attached.end();
    assert!(trace.submits().iter().all(|it| it.pid == meant.pid()), "{options:?}");
    trace
}

fn a_container_is_traced_by_its_name_and_its_neighbour_is_not() {
    for option in ["web", "aaaaaaaa"] {
        let (machine, mut programs) = two_containers();
        let [web, db] = &mut programs;
        let trace = is_traced_alone(&machine, &["--container", option], [web, db]);
        assert_eq!(trace.accepted_and_reaped(), (3, 3));
        let who = trace.report().processes.iter().find(|it| it.pid == web.pid()).unwrap();
        assert_eq!(who.container_name.as_deref(), Some("web"));
        drop(programs);
    }
}

fn a_pod_is_traced_by_its_name() {
    let mut machine = Machine::new();
    let [mut pod, mut other] = [(); 2].map(|()| Program::ready(&["wait", "3"]));
    machine.put(&pod, &format!("kubepods.slice/{POD}/cri-containerd-{}.scope", "c".repeat(64)));
    machine.file(&format!("var/log/containers/db-0_shop_postgres-{}.log", "c".repeat(64)), "");
    let trace = is_traced_alone(&machine, &["--pod", "shop/db-0"], [&mut pod, &mut other]);
    assert_eq!(trace.accepted_and_reaped(), (3, 3));
}

/// By ptrace, which works on every kernel and knows no cgroups.
fn a_fault_hits_a_container_and_not_its_neighbour() {
    let (machine, mut programs) = two_containers();
    let [web, db] = &mut programs;
    let rule = ["--source", "ptrace", "--inject", "io_submit:error=EAGAIN:when=1"];
    let root = machine.root();
    let mut attached = Attached::new(&[&["--container", "web"][..], &rule, &root].concat());
    db.go_on();
    assert!(db.child.wait().unwrap().success(), "nothing fails in the neighbour");
    web.go_on();
    attached.await_line(|line| matches!(line, Line::Submit(it) if it.injected));
    let _ = web.child.wait();
    let trace = attached.end();
    let hit: Vec<u32> = trace.submits().iter().filter(|it| it.injected).map(|it| it.pid).collect();
    assert_eq!(hit, [web.pid()]);
    assert!(
        trace.stderr.contains("ptrace traces the process that is in the cgroup now"),
        "{}",
        trace.stderr
    );
}

fn what_is_not_there_is_said_with_what_there_is() {
    let (machine, programs) = two_containers();
    let error = |options: &[&str]| {
        let output = aiotrace().arg("attach").args(options).args(machine.root()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let text = error(&["--container", "nothing"]);
    assert!(text.contains("no container nothing runs here; these do: "), "{text}");
    assert!(text.contains("db (docker:bbbbbbbbbbbb)") && text.contains("web (docker:a"), "{text}");
    assert!(error(&["--pod", "shop/db-0"]).contains("no pod is seen"));
    assert!(error(&["--pod", "shop"]).contains("NAMESPACE/POD"));
    // Another engine has one of the same name.
    let mut machine = machine;
    machine.put(&programs[1], &format!("machine.slice/libpod-{}.scope", "d".repeat(64)));
    machine.file(
        "var/lib/containers/storage/overlay-containers/containers.json",
        &format!(r#"[{{"id": "{}", "names": ["web"]}}]"#, "d".repeat(64)),
    );
    let output =
        aiotrace().args(["attach", "--container", "web"]).args(machine.root()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("2 of them are container web: "), "{text}");
    drop(programs);
}

fn a_recording_keeps_the_names() {
    let (machine, mut programs) = two_containers();
    let file = tempfile::NamedTempFile::new().unwrap();
    let record = ["--container", "web", "--record", file.path().to_str().unwrap()];
    let [web, db] = &mut programs;
    is_traced_alone(&machine, &record, [web, db]);
    // The container, and what its engine knew of it, may be gone.
    fs::remove_dir_all(machine.root.path().join("var")).unwrap();
    let output = report(file.path());
    assert!(
        output.contains(&format!("=== who: aio-programs:{} docker:web ===", web.pid())),
        "{output}"
    );
    drop(programs);
}

fn report(file: &Path) -> String {
    let output = aiotrace().args(["report", "-q"]).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn capacity(options: &[&str]) -> (Option<i32>, String) {
    let output = aiotrace().arg("capacity").args(options).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn limit(name: &str) -> u64 {
    fs::read_to_string(format!("/proc/sys/fs/{name}")).unwrap().trim().parse().unwrap()
}

fn one_more_takes_what_is_held() {
    // The charges of `hold 9` are 1 to 9.
    let _program = Program::ready(&["hold", "9"]);
    let (status, text) = capacity(&["--format", "json"]);
    assert_eq!(status, Some(0), "{text}");
    schema::check(&text);
    let found: Value = serde_json::from_str(&text).unwrap();
    let rows = found["programs"].as_array().unwrap();
    let row = rows.iter().find(|it| it["program"] == "aio-programs").unwrap();
    assert_eq!((row["one_more"].as_u64(), row["contexts"].as_u64()), (Some(45), Some(9)));
    assert_eq!(row["fit"].as_u64().unwrap(), found["free"].as_u64().unwrap() / 45);
    // Each of these contexts has a ring of one page at least.
    assert!(row["ring_bytes"].as_u64().unwrap() >= 9 * 4096);
    let free = limit("aio-max-nr") - limit("aio-nr");
    let need = |count: u64| capacity(&["--charge", "1", "--need", &count.to_string()]);
    assert_eq!(need(free).0, Some(0), "{:?}", need(free));
    let (status, text) = need(free + 1);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains(&format!("fs.aio-max-nr={}", limit("aio-max-nr") + 1)), "{text}");
    let (status, text) = capacity(&["aio-programs", "--need", "3"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("3 more of aio-programs fit: they take 135, and "), "{text}");
    let (status, text) = capacity(&["no-such-name", "--need", "3"]);
    assert_eq!(status, Some(2));
    assert!(
        text.contains("no-such-name holds no AIO context now") && text.contains("aio-programs"),
        "{text}"
    );
    assert_eq!(capacity(&["--need", "3"]).0, Some(2));
}

tests![
    containers_pods_and_units_have_their_names_in_the_list if Need::SAME,
    metrics_tell_apart_where_processes_run if Need::SAME,
    a_container_is_traced_by_its_name_and_its_neighbour_is_not if Need::SAME,
    a_pod_is_traced_by_its_name if Need::SAME,
    a_fault_hits_a_container_and_not_its_neighbour if Need::SAME,
    what_is_not_there_is_said_with_what_there_is if Need::SAME,
    a_recording_keeps_the_names if Need::SAME,
    one_more_takes_what_is_held if Need::SAME,
];
