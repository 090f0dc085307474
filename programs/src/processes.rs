//! Processes: fork, exec, sandboxes, and exit statuses.

use crate::{aio, arch, basic};

/// Starts `count` children, which each make one submit and one reap.
pub fn fork_many(count: u64) {
    let children: Vec<i32> = (0..count).map(|_| fork(|| basic::pairs(1))).collect();
    for pid in children {
        wait_for(pid);
    }
}

/// Runs `what` in a child.
pub fn in_child(what: fn()) {
    wait_for(fork(what));
}

/// A child that does this and exits. This process must have one thread.
pub fn fork(what: impl FnOnce()) -> i32 {
    // SAFETY: it has one thread.
    match unsafe { libc::fork() } {
        0 => {
            what();
            std::process::exit(0);
        }
        pid => pid,
    }
}

/// Waits for a child, which must end with status 0.
pub fn wait_for(child: i32) {
    let mut status = 0;
    // SAFETY: `status` has room for a status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child, "waitpid");
    assert_eq!(status, 0, "the child's status");
}

/// Makes a context, and then becomes another program.
pub fn exec() {
    use std::os::unix::process::CommandExt as _;
    let ctx = aio::setup(4);
    basic::pair(ctx, 1);
    let program = std::env::current_exe().expect("our path");
    let error = std::process::Command::new(program).args(["pairs", "2"]).exec();
    panic!("exec: {error}");
}

/// A filter answers io_submit with EPERM, and io_cancel with ENOSYS.
pub fn seccomp() {
    let ctx = aio::setup(4);
    basic::pair(ctx, 1);
    deny(&[(libc::SYS_io_submit, libc::EPERM), (libc::SYS_io_cancel, libc::ENOSYS)]);
    let mut buffer = 0;
    let mut iocb = [aio::pread(0, &mut buffer, 2)];
    assert_eq!(aio::submit(ctx, &mut iocb), -i64::from(libc::EPERM), "io_submit");
    let ret = aio::cancel(ctx, iocb.as_ptr() as u64, 0);
    assert_eq!(ret, -i64::from(libc::ENOSYS), "io_cancel");
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
}

/// Installs a filter that answers each of these calls with its errno.
pub fn deny(calls: &[(i64, i32)]) {
    let instruction = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let answer = |value| instruction(0x06, 0, value);
    // Load the number of the call; then, for each call, compare it and answer if it is equal.
    let mut filter = vec![instruction(0x20, 0, 0)];
    for &(number, errno) in calls {
        filter.push(instruction(0x15, 1, number as u32));
        filter.push(answer(libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    filter.push(answer(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter program is complete and lives during the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0, "no_new_privs");
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0, "seccomp");
    }
}

/// Makes calls through the 32-bit entry: three io_setup, and three calls whose number means
/// io_submit in the 64-bit table but getresuid here. All their arguments are 0, so all fail, with
/// EINVAL or EFAULT.
pub fn compat() {
    let enter_32 = arch::ENTER_32.expect("this processor has such an entry");
    basic::pairs(1);
    for _ in 0..3 {
        let (io_setup, getresuid) = (enter_32(245), enter_32(209));
        let allowed = [-i64::from(libc::EINVAL), -i64::from(libc::EFAULT)];
        assert!(allowed.contains(&io_setup) && allowed.contains(&getresuid), "32-bit calls");
    }
}

/// Exits with this status, or, if it is above 128, kills itself with the signal `status - 128`.
pub fn exit_with(status: u64) {
    basic::pairs(1);
    if status > 128 {
        // SAFETY: the call takes no pointers. The signal goes to ourselves.
        unsafe { libc::raise(status as i32 - 128) };
    }
    std::process::exit(status as i32);
}

/// Makes two children that no tracer gets, by clone and by clone3 with CLONE_UNTRACED. Checks that
/// the flags that were passed to the kernel are unchanged, in parent and child.
pub fn untraced() {
    let flags = (libc::CLONE_UNTRACED | libc::SIGCHLD) as u64;
    let (child, after) = arch::system_call(libc::SYS_clone, flags, 0);
    assert_eq!(after, flags, "the register");
    in_untraced_child(child);
    // `struct clone_args`: the flags are the first field, and the signal is a field of its own.
    let flags = libc::CLONE_UNTRACED as u64;
    let mut args = [flags, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    let at = args.as_mut_ptr() as u64;
    let (child, after) = arch::system_call(libc::SYS_clone3, at, size_of_val(&args) as u64);
    assert_eq!(after, at, "the register");
    // SAFETY: the field is ours. It is read as volatile because the kernel or a tracer may have
    // changed it.
    assert_eq!(unsafe { std::ptr::read_volatile(&args[0]) }, flags, "the flags");
    in_untraced_child(child);
}

/// Children that ask for the tracer of their parent, if it has one, by clone: one as it is, and one of which no tracer
/// is told. When a line comes; then how many milliseconds the slower of them took.
pub fn asks_for_a_tracer() {
    crate::wait();
    let mut longest = std::time::Duration::ZERO;
    for flags in [libc::CLONE_PTRACE, libc::CLONE_PTRACE | libc::CLONE_UNTRACED] {
        let begun = std::time::Instant::now();
        let (child, _) = arch::system_call(libc::SYS_clone, (flags | libc::SIGCHLD) as u64, 0);
        in_untraced_child(child);
        longest = longest.max(begun.elapsed());
    }
    crate::say(&longest.as_millis().to_string());
}

fn in_untraced_child(child: i64) {
    assert!(child >= 0, "clone: {child}");
    if child == 0 {
        basic::pairs(1);
        // SAFETY: the name is a constant that ends with NUL.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_NAME, c"untraced".as_ptr()) }, 0, "prctl");
        std::process::exit(0);
    }
    wait_for(child as i32);
}

/// Runs `count` threads, a hundred at a time, that each make one call and end.
pub fn short_threads(count: u64) {
    for _ in 0..count.div_ceil(100) {
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| aio::destroy(0x1000));
            }
        });
    }
}
