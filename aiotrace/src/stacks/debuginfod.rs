//! Fetches debug information that this machine lacks, where the user asks for it (`--debuginfod`), from the servers in
//! `DEBUGINFOD_URLS`: <https://sourceware.org/elfutils/Debuginfod.html>. elfutils' `debuginfod-find` does it, so that
//! there is no TLS in a program that runs as root.
//!
//! A target chooses the build ids, and a server what it sends. So the program runs without privilege, as a user that
//! nobody else has, and is killed at its time limit; and the confined child reads what it brings, as it reads every
//! file, if the file has the build id.
//!
//! Only the thread that shows events waits for it. Records are taken from the kernel meanwhile, and no thread of a target
//! is stopped.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, poll},
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, killpg},
    },
    unistd::{Pid, geteuid},
};

use super::{Module, ModuleId, confine, files};
use crate::{clock::timeout, failure::Failure, proc::pidfd_open};

/// The variable with the servers.
const SERVERS: &str = "DEBUGINFOD_URLS";
/// The program that asks them.
const PROGRAM: &str = "debuginfod-find";
/// How long one file may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long aiotrace waits in all: it shows nothing while it waits.
const MOST_WAITED: Duration = Duration::from_secs(60);
/// The most files that are asked for.
const MOST_FILES: usize = 64;
/// The most bytes of a file.
const MOST_BYTES: u64 = 4 << 30;
/// The most that the program may write: a path, or an error.
const MOST_SAID: usize = 64 << 10;
/// What the program needs of our environment: how to reach the servers, and what to trust.
const PASSED: [&str; 12] = [
    SERVERS,
    "PATH",
    "LANG",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Fetches files.
#[derive(Debug)]
pub struct Debuginfod {
    program: PathBuf,
    patience: Duration,
    /// Where the program puts files, if it runs as another user than we; else it uses the cache of our user.
    cache: Option<tempfile::TempDir>,
    /// What was asked for.
    known: HashMap<ModuleId, Option<File>, foldhash::fast::RandomState>,
    waited: Duration,
}

impl Debuginfod {
    /// Finds the program.
    ///
    /// # Errors
    /// If it is not installed, if there are no servers, or if there is no place for its files.
    pub fn new() -> Result<Self, Failure> {
        if std::env::var_os(SERVERS).is_none_or(|it| it.is_empty()) {
            let hint = format!(
                "{SERVERS} names the servers, for instance {SERVERS}=https://debuginfod.elfutils.org/; sudo removes it: \
                 `sudo --preserve-env={SERVERS} aiotrace ...`"
            );
            return Err(Failure::new(format!("--debuginfod: {SERVERS} is not set")).with_hint(hint));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|it| it.join(PROGRAM)).find(|it| it.is_file());
        let program = found.ok_or_else(|| {
            Failure::new(format!("--debuginfod: {PROGRAM} is not installed")).with_hint(
                "it comes with elfutils: Debian's package debuginfod, Fedora's elfutils-debuginfod-client",
            )
        })?;
        let cache = || -> io::Result<Option<tempfile::TempDir>> {
            if !geteuid().is_root() {
                return Ok(None);
            }
            let place = std::env::var_os("TMPDIR").unwrap_or_else(|| "/var/tmp".into());
            let cache =
                tempfile::Builder::new().prefix("aiotrace-debuginfod-").tempdir_in(place)?;
            // Where this user does not exist, the program keeps ours: `confine::become_user`.
            let _ = std::os::unix::fs::chown(&cache, Some(user()), Some(user()));
            Ok(Some(cache))
        };
        let cache = cache()
            .map_err(|error| Failure::from(error).during("--debuginfod: no place for files"))?;
        Ok(Self::with(program, cache, PATIENCE))
    }

    fn with(program: PathBuf, cache: Option<tempfile::TempDir>, patience: Duration) -> Self {
        Self { program, patience, cache, known: HashMap::default(), waited: Duration::ZERO }
    }

    /// The debug information of a file with this build id, which is asked for only once. If it cannot be had, the user
    /// is told why.
    pub fn of(&mut self, module: &Module, id: &[u8]) -> Option<&File> {
        if !self.known.contains_key(&module.id) {
            if self.known.len() >= MOST_FILES || self.waited >= MOST_WAITED {
                return None;
            }
            let start = Instant::now();
            let fetched = self.fetch(id);
            self.waited += start.elapsed();
            if let Err(error) = &fetched {
                let path = module.path.escape_ascii();
                eprintln!("aiotrace: no debug information of {path} by debuginfod: {error}");
                if self.waited >= MOST_WAITED {
                    eprintln!(
                        "aiotrace: debuginfod is not asked any more: it took {MOST_WAITED:?}"
                    );
                }
            }
            self.known.insert(module.id, fetched.ok());
        }
        self.known.get(&module.id)?.as_ref()
    }

    fn fetch(&self, id: &[u8]) -> io::Result<File> {
        let hex: String = id.iter().map(|it| format!("{it:02x}")).collect();
        let said = self.run(&["debuginfo".as_ref(), hex.as_ref()])?;
        if !said.status.success() {
            let errors = String::from_utf8_lossy(&said.stderr);
            let last = errors.lines().rfind(|it| !it.trim().is_empty()).unwrap_or("it failed");
            return Err(io::Error::other(last.escape_debug().to_string()));
        }
        let path = Path::new(OsStr::from_bytes(said.stdout.trim_ascii_end()));
        let file = self.open(path)?;
        if let Some(cache) = &self.cache {
            // Nobody asks again: the file stays as long as it is open.
            for entry in fs::read_dir(cache)?.flatten() {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
        Ok(file)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let is_meant = |it: &fs::Metadata| it.len() <= MOST_BYTES;
        let file = match &self.cache {
            // Its user can put links there, and we can follow more of them than it can.
            Some(cache) => {
                let other = || io::Error::other("it named a file at another place");
                let path = path.strip_prefix(cache.path()).map_err(|_| other())?;
                files::beneath(cache.path(), path, is_meant)
            }
            None => {
                let how = libc::O_PATH | libc::O_NOFOLLOW;
                let found = File::options().read(true).custom_flags(how).open(path)?;
                files::read_through(&found, is_meant)
            }
        };
        file.ok_or_else(|| io::Error::other("it named no file that can be read"))
    }

    /// Runs the program, and kills it at the time limit. What it has started is killed with it.
    fn run(&self, arguments: &[&OsStr]) -> io::Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(cache) = &self.cache {
            let of_ours = |name: &&str| Some((OsString::from(name), std::env::var_os(name)?));
            command.env_clear().envs(PASSED.iter().filter_map(of_ours));
            command.env("DEBUGINFOD_CACHE_PATH", cache.path()).env("HOME", cache.path());
        }
        let user = user();
        // SAFETY: only system calls, which allocate nothing and take no locks.
        unsafe {
            command.pre_exec(move || {
                // We may have the priority of the thread that shows events.
                libc::setpriority(libc::PRIO_PROCESS, 0, 0);
                confine::become_user(user)?;
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                setrlimit(Resource::RLIMIT_FSIZE, MOST_BYTES, MOST_BYTES)?;
                Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
            });
        }
        let mut child = command.spawn()?;
        let said = self.listen(&mut child);
        // It is not waited for yet, so nobody else can have the number of its group. It sleeps in no file system but
        // that of its cache, so it ends.
        let _ = child.kill();
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let status = child.wait()?;
        let [stdout, stderr] = said?;
        Ok(Output { status, stdout, stderr })
    }

    /// What the program writes until it ends. Others may have its pipes, too, and go on writing.
    fn listen(&self, child: &mut Child) -> io::Result<[Vec<u8>; 2]> {
        let until = Instant::now() + self.patience;
        let ended = pidfd_open(child.id())?;
        let stdout = child.stdout.take().map(|it| File::from(OwnedFd::from(it)));
        let stderr = child.stderr.take().map(|it| File::from(OwnedFd::from(it)));
        let mut pipes = [stdout, stderr];
        for pipe in pipes.iter().flatten() {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let mut said = [Vec::new(), Vec::new()];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::other(format!("no answer within {:?}", self.patience)));
            }
            let all = [ended.as_fd()].into_iter().chain(pipes.iter().flatten().map(File::as_fd));
            let mut all: Vec<_> = all.map(|it| PollFd::new(it, PollFlags::POLLIN)).collect();
            match poll(&mut all, timeout(left)) {
                Ok(_) | Err(Errno::EINTR) => (),
                Err(error) => return Err(error.into()),
            }
            let is_over = all[0].any() == Some(true);
            for (pipe, said) in pipes.iter_mut().zip(&mut said) {
                if pipe.as_ref().map_or(Ok(false), |it| is_at_end(it, said))? {
                    *pipe = None;
                }
            }
            if is_over {
                return Ok(said);
            }
        }
    }
}

/// Reads what is in a pipe; `true` if nothing more will come.
fn is_at_end(mut pipe: &File, said: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 4096];
    while said.len() <= MOST_SAID {
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(true),
            Ok(count) => said.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("it writes too much"))
}

/// The user as which the program runs.
fn user() -> u32 {
    confine::user_of(std::process::id())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program that takes the place of debuginfod-find.
    fn fetcher(script: &str, patience: Duration) -> (tempfile::TempDir, Debuginfod) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(PROGRAM);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let _ = std::os::unix::fs::chown(&cache, Some(user()), Some(user()));
        (directory, Debuginfod::with(program, Some(cache), patience))
    }

    #[test]
    fn what_the_program_brings_is_kept_and_asked_for_once() {
        let script = "test \"$1 $2\" = 'debuginfo 00abcd' || exit 1\n\
                      echo brought > \"$DEBUGINFOD_CACHE_PATH/file\"; echo \"$DEBUGINFOD_CACHE_PATH/file\"";
        let (directory, mut it) = fetcher(script, PATIENCE);
        let module = Module::new(ModuleId(1), b"/app");
        let read = |it: &mut Debuginfod| {
            let file = it.of(&module, &[0, 0xab, 0xcd])?;
            String::from_utf8(files::read(file, 0, file.metadata().ok()?.len(), 64)?).ok()
        };
        assert_eq!(read(&mut it).as_deref(), Some("brought\n"));
        fs::remove_file(directory.path().join(PROGRAM)).unwrap();
        assert_eq!(read(&mut it).as_deref(), Some("brought\n"));
        assert_eq!(fs::read_dir(it.cache.as_ref().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn the_program_has_no_privilege_and_little_environment() {
        let script = "exec >&2; id -u; grep -c '^CapEff:[[:space:]]*0*$' /proc/self/status; env | cut -d= -f1 | sort | \
                      tr '\\n' ' '; exit 1";
        let (_directory, it) = fetcher(script, PATIENCE);
        let said = String::from_utf8(it.run(&[]).unwrap().stderr).unwrap();
        let mut lines = said.lines();
        let is_root = geteuid().is_root();
        let user = if is_root { user() } else { geteuid().as_raw() };
        assert_eq!(lines.next(), Some(user.to_string().as_str()));
        assert_eq!(lines.next(), Some("1"), "no capabilities");
        let variables: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
        let own = ["DEBUGINFOD_CACHE_PATH", "HOME", "PWD", "_", "OLDPWD", "SHLVL"];
        assert!(
            variables.iter().all(|it| PASSED.contains(it) || own.contains(it)),
            "{variables:?}"
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let (_directory, it) = fetcher("exec sleep 1000", Duration::from_millis(100));
        let error = it.fetch(&[1, 2]).unwrap_err();
        assert_eq!(error.to_string(), "no answer within 100ms");
    }

    #[test]
    fn other_places_and_errors_are_told() {
        let (_directory, it) = fetcher("echo /etc/passwd", PATIENCE);
        let error = it.fetch(&[1, 2]).unwrap_err().to_string();
        assert_eq!(error, "it named a file at another place");
        let (_directory, it) =
            fetcher("echo 'Server query failed: \\033[2J' >&2; exit 1", PATIENCE);
        let error = it.fetch(&[1, 2]).unwrap_err().to_string();
        assert!(error.starts_with("Server query failed: ") && !error.contains('\u{1b}'), "{error}");
    }

    /// It may leave others behind that have its pipes.
    #[test]
    fn what_the_program_leaves_behind_is_not_waited_for() {
        let begun = Instant::now();
        let (directory, it) = fetcher("sleep 1000 & echo $! > $0.pid; echo /etc/passwd", PATIENCE);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let error = it.fetch(&[1, 2]).unwrap_err().to_string();
        assert_eq!(error, "it named a file at another place");
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        let left = fs::read_to_string(directory.path().join("debuginfod-find.pid")).unwrap();
        let left: u32 = left.trim().parse().unwrap();
        let is_over = || {
            let state = crate::proc::thread_state(left, left);
            state.is_none_or(|it| it == b'Z' || it == b'X')
        };
        while !is_over() {
            assert!(begun.elapsed() < PATIENCE, "{left} lives");
            std::thread::yield_now();
        }
        let (_directory, it) = fetcher("yes & sleep 1000", PATIENCE);
        assert_eq!(it.fetch(&[1, 2]).unwrap_err().to_string(), "it writes too much");
    }

    #[test]
    fn no_link_leads_out_of_the_cache() {
        const OUTSIDE: [&str; 3] = [
            "echo \"$DEBUGINFOD_CACHE_PATH/../../etc/passwd\"",
            "ln -s /etc \"$DEBUGINFOD_CACHE_PATH/x\"; echo \"$DEBUGINFOD_CACHE_PATH/x/passwd\"",
            "ln -s /etc/passwd \"$DEBUGINFOD_CACHE_PATH/x\"; echo \"$DEBUGINFOD_CACHE_PATH/x\"",
        ];
        for script in OUTSIDE {
            let (_directory, it) = fetcher(script, PATIENCE);
            let error = it.fetch(&[1, 2]).unwrap_err().to_string();
            assert_eq!(error, "it named no file that can be read", "{script}");
        }
    }
}
