//! A script takes the place of QEMU.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A script that takes the place of QEMU.
struct Replaced {
    directory: PathBuf,
    qemu: Qemu,
}

impl Replaced {
    /// `has_kvm`: whether KVM is tried first.
    fn new(name: &str, has_kvm: bool, script: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a temporary directory");
        let program = directory.join("qemu");
        // Let a child write the script: if it were open here while a test in another thread
        // forks, executing it would fail with ETXTBSY.
        let text = directory.join("script");
        fs::write(&text, format!("#!/bin/sh\n{script}\n")).expect("a script");
        let copied = Command::new("cp").arg(&text).arg(&program).status().expect("cp");
        assert!(copied.success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        let kvm = directory.join("kvm");
        if has_kvm {
            fs::write(&kvm, "").expect("a file");
        }
        let own = |it: &Architecture| it.target().is_none();
        let arch = Architecture::ALL.into_iter().find(own).expect("one of these");
        let qemu = Qemu {
            arch,
            program,
            kvm,
            patience: Duration::from_secs(3),
            patience_with_kvm: Duration::from_secs(2),
            no_kvm: AtomicBool::new(false),
        };
        Self { directory, qemu }
    }

    fn boot(&self) -> Result<Console, String> {
        let path = Path::new("none");
        let log = self.directory.join("log");
        let booted = self.qemu.boot(path, path, "qemu64", "", Clock::Real, &log);
        booted.map_err(|error| format!("{error:#}"))
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

const GOOD: &str = "echo 'guest | up | 6.1'; echo 'guest | off'";
const KVM: &str = "case \"$*\" in *kvm*)";

#[test]
fn a_qemu_that_ends_at_once_is_quoted_and_the_next_accelerator_is_tried() {
    let script =
        format!("{KVM} echo 'failed to set MSR 0x10a to 0x69' >&2; kill -ABRT $$;; esac\n{GOOD}");
    let replaced = Replaced::new("fails", true, &script);
    assert!(replaced.boot().is_ok());
    assert!(replaced.qemu.no_kvm.load(Ordering::Relaxed), "it is not tried again");
    let log = fs::read_to_string(replaced.directory.join("log")).expect("the log");
    assert!(log.contains("failed to set MSR 0x10a") && log.contains("guest | off"), "{log}");

    let replaced = Replaced::new("ends", false, "echo 'no such machine' >&2; exit 1");
    let error = replaced.boot().expect_err("it never comes up");
    assert_eq!(error.matches("no such machine").count(), BOOTS, "{error}");
    assert!(error.contains("QEMU failed (exit status: 1)"), "{error}");
    let log = fs::read_to_string(replaced.directory.join("log")).expect("the log");
    assert!(log.contains("no such machine"), "{log}");
}

#[test]
fn a_kvm_that_works_is_used() {
    let replaced = Replaced::new("works", true, &format!("{KVM} {GOOD}; exit 0;; esac\nexit 1"));
    assert!(replaced.boot().is_ok());
    assert!(!replaced.qemu.no_kvm.load(Ordering::Relaxed));
    assert!(replaced.boot().is_ok(), "again");
}

#[test]
fn a_kvm_that_fails_and_stands_still_is_not_waited_for() {
    let fails = "echo 'KVM internal error. Suberror: 3' >&2; exec sleep 60";
    let replaced = Replaced::new("internal", true, &format!("{KVM} {fails};; esac\n{GOOD}"));
    assert!(replaced.boot().is_ok(), "in emulation it comes up");
    assert!(replaced.qemu.no_kvm.load(Ordering::Relaxed));
}

#[test]
fn a_machine_that_says_nothing_does_not_come_up() {
    let replaced = Replaced::new("silent", true, &format!("{KVM} exec sleep 60;; esac\n{GOOD}"));
    assert!(replaced.boot().is_ok(), "in emulation it does");
    let replaced = Replaced::new("nothing", false, "exit 0");
    let error = replaced.boot().expect_err("it never comes up");
    assert!(error.contains("QEMU ended at once"), "{error}");
    let replaced = Replaced::new("still", false, "exec sleep 60");
    let error = replaced.boot().expect_err("it never comes up");
    assert!(error.contains("it does not come up"), "{error}");
}

#[test]
fn a_kernel_that_breaks_when_it_was_up_fails_at_once() {
    for (what, expected) in [
        ("Kernel panic - not syncing: Attempted to kill init!", "Kernel panic"),
        ("Oops: 0000 [#1] SMP", "Oops"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", "soft lockup"),
    ] {
        let script =
            format!("echo 'guest | up | 6.1'; echo '{what}'; echo seen >&2; exec sleep 60");
        let replaced = Replaced::new("panics", true, &script);
        let error = replaced.boot().expect_err("it broke");
        assert!(error.contains("the kernel broke while the tests ran"), "{error}");
        assert!(error.contains(expected) && error.contains("QEMU said: seen"), "{error}");
    }
    let count = std::env::temp_dir().join(format!("xtask-dies-{}-count", std::process::id()));
    let script = format!(
        "echo x >> {}; echo 'guest | up | 6.1'; echo 'Kernel panic'; kill -ABRT $$",
        count.display()
    );
    let error = Replaced::new("dies", false, &script).boot().expect_err("it broke");
    assert!(error.contains("the kernel broke while the tests ran"), "{error}");
    let boots = fs::read_to_string(&count).expect("the count").lines().count();
    let _ = fs::remove_file(&count);
    assert_eq!(boots, 1, "it is not tried again: it may be ours");
    let warns = "echo 'guest | up | 6.1'; echo 'WARNING: at fs/aio.c'; echo 'guest | warned | 0 to 512'; \
                 echo 'guest | off'";
    let error = Replaced::new("warns", false, warns).boot().expect_err("it warned");
    assert!(error.contains("the kernel warned while the tests ran"), "{error}");
    assert!(error.contains("WARNING: at fs/aio.c"), "{error}");
    let fails = "echo 'guest | up | 6.1'; echo 'test a ... FAILED'; exit 1";
    let error = Replaced::new("failed", true, fails).boot().expect_err("a test failed");
    assert!(error.contains("after tests had failed") && error.contains("test a"), "{error}");
    let late = format!("{GOOD}; exit 1");
    assert!(Replaced::new("late", false, &late).boot().is_ok(), "all tests had run");
    let hangs = Replaced::new("hangs", false, "echo 'guest | up | 6.1'; exec sleep 60");
    assert!(hangs.boot().expect_err("it hangs").contains("hangs"));
    let ends = Replaced::new("stops", false, "echo 'guest | up | 6.1'");
    let error = ends.boot().expect_err("it ended");
    assert!(error.contains("ended before the tests did"), "{error}");
}

#[test]
fn a_kernel_that_breaks_in_its_start_is_booted_again() {
    let count = std::env::temp_dir().join(format!("xtask-again-{}-count", std::process::id()));
    let count = count.display();
    let script = format!(
        "echo x >> {count}\n[ $(wc -l < {count}) -gt 1 ] || {{ echo 'Kernel panic'; exit 0; }}\n{GOOD}"
    );
    let replaced = Replaced::new("again", false, &script);
    assert!(replaced.boot().is_ok());
    let _ = fs::remove_file(count.to_string());
}
