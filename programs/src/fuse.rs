//! A file whose reads and writes are held back unanswered: only in this way does a request for a
//! file stay in flight for as long as a test wants. Needs root and /dev/fuse; without them, the
//! program says so and ends with status 77.
//!
//! It is the only file of a file system that a child of ours serves, so that the user of AIO does
//! not wait for itself. The protocol is that of include/uapi/linux/fuse.h, as much of it as reads
//! and writes with O_DIRECT need:
//! https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/fuse.h

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _, stdin},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{overlay, processes::wait_for, tasks};

/// How many bytes the file has.
pub const SIZE: u64 = 1 << 20;
/// The status of a program that cannot run here.
const CANNOT_RUN: i32 = 77;
/// The longest time for which a request is held if nobody says when to answer it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pace at which the server checks for what nobody tells it.
const PACE: Duration = Duration::from_millis(5);

/// When reads and writes are answered. Once our process gives up its memory, all are answered,
/// except with [`Answer::AtLineAfter`].
#[derive(Clone, Copy)]
pub enum Answer {
    AtOnce,
    /// When [`Held::release`] is called.
    WhenTold,
    /// This many at once, and the others when a line or the end comes on our standard input (even
    /// if our process is ending, or cannot answer any more).
    AtLineAfter(usize),
    /// When our process waits in this system call, but no later than after [`PATIENCE`].
    InCall(i64),
    /// When our process is ending, but no later than after [`PATIENCE`].
    AtExit,
    /// At once; but from this offset on the quota is used up (`EDQUOT`).
    WithQuota(u64),
}

/// The file, opened with O_DIRECT.
pub struct Held {
    // This field is dropped first, so that the server holds nothing back when the file is closed.
    tell: PipeWriter,
    pub file: File,
    server: i32,
}

impl Held {
    /// Starts the server and opens the file. The process must have one thread.
    pub fn open(answer: Answer) -> Self {
        Self::open_by(answer, |directory| {
            let mut options = File::options();
            options.read(true).write(true).custom_flags(libc::O_DIRECT);
            options.open(directory.join("held")).expect("the held file")
        })
    }

    /// Opens the file for reading and through the page cache, so that it can be mapped or executed.
    pub fn open_to_read(answer: Answer) -> Self {
        Self::open_by(answer, |directory| {
            File::open(directory.join("held")).expect("the held file")
        })
    }

    /// Opens the file for reading through an overlay, which only this process and its children see.
    pub fn open_on_overlay(answer: Answer) -> Self {
        overlay::unshare();
        Self::open_by(answer, |directory| overlay::open_above(directory, "held"))
    }

    fn open_by(answer: Answer, open: impl FnOnce(&Path) -> File) -> Self {
        let Ok(device) = File::options().read(true).write(true).open("/dev/fuse") else {
            crate::say("no /dev/fuse");
            std::process::exit(CANNOT_RUN);
        };
        let mount = Mount::of(&device);
        let (told, tell) = io::pipe().expect("a pipe");
        let user = std::process::id().cast_signed();
        // SAFETY: this process has one thread.
        let server = unsafe { libc::fork() };
        assert!(server >= 0, "fork");
        if server == 0 {
            drop(tell);
            let input = stdin().as_fd().try_clone_to_owned().expect("standard input");
            // The server must not keep our output open: a reader of it would wait for the server's
            // end.
            for fd in [0, 1] {
                // SAFETY: the server uses neither descriptor.
                unsafe { libc::close(fd) };
            }
            Server { device, answer, user, told, input, served: 0 }.run();
            std::process::exit(0);
        }
        // Only the server may hold the connection, so that it ends with the server.
        drop(device);
        let file = open(&mount.directory);
        Self { tell, file, server }
    }

    /// Lets the server answer all requests.
    pub fn release(&mut self) {
        self.tell.write_all(b"x").expect("the server");
    }

    /// Closes the file, which ends the server.
    pub fn close(self) {
        let Self { tell, file, server } = self;
        drop((tell, file));
        wait_for(server);
    }
}

/// Where the file system is mounted. The mount is only there until the file is open: the open file
/// keeps the file system alive, so nothing is left behind, however we end after that.
struct Mount {
    directory: PathBuf,
}

impl Mount {
    fn of(device: &File) -> Self {
        let directory = std::env::temp_dir().join(format!("aio-fuse-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        let mount = Self { directory };
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = std::ffi::CString::new(options).expect("no NUL");
        let (at, flags) = (c_string(&mount.directory), libc::MS_NOSUID | libc::MS_NODEV);
        // SAFETY: the strings end with NUL and live during the call.
        let ret = unsafe {
            let kind = c"fuse".as_ptr();
            libc::mount(c"aio-programs".as_ptr(), at.as_ptr(), kind, flags, options.as_ptr().cast())
        };
        assert_eq!(ret, 0, "mount of fuse: {}", io::Error::last_os_error());
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // SAFETY: the path is ours, and ends with NUL.
        unsafe { libc::umount2(c_string(&self.directory).as_ptr(), libc::MNT_DETACH) };
        let _ = std::fs::remove_dir(&self.directory);
    }
}

fn c_string(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL")
}

const ROOT: u64 = 1;
const FILE: u64 = 2;
const HOUR: u64 = 3600;

/// The server of the file system. It sends one reply after the other.
struct Server {
    device: File,
    answer: Answer,
    user: i32,
    told: PipeReader,
    input: OwnedFd,
    /// How many reads and writes it has served.
    served: usize,
}

impl Server {
    /// Serves requests until the file system is gone.
    fn run(mut self) {
        let mut request = vec![0; 1 << 17];
        loop {
            let errno = match self.device.read(&mut request) {
                Ok(length) => {
                    self.serve(&request[..length]);
                    continue;
                }
                Err(error) => error.raw_os_error(),
            };
            match errno {
                // The file system is gone, or is just about to be.
                Some(libc::ENODEV | libc::ECONNABORTED) => return,
                // The request was taken back.
                Some(libc::ENOENT) => (),
                _ => panic!("/dev/fuse: {errno:?}"),
            }
        }
    }

    fn serve(&mut self, request: &[u8]) {
        let u32_at = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight"));
        let (opcode, unique, node) = (u32_at(4), u64_at(8), u64_at(16));
        // The arguments follow after a header of 40 bytes.
        let body = match opcode {
            LOOKUP if &request[40..] == b"held\0" => {
                Body::new().u64s(&[FILE, 0, HOUR, HOUR, 0]).attributes(FILE)
            }
            LOOKUP => return self.reply(unique, Err(libc::ENOENT)),
            GETATTR => Body::new().u64s(&[HOUR, 0]).attributes(node),
            OPEN => Body::new().u64s(&[0]).u32s(&[FOPEN_DIRECT_IO, 0]),
            READ | WRITE => {
                self.hold();
                self.served += 1;
                let (offset, size) = (u64_at(48), u32_at(56));
                match (opcode, self.answer) {
                    (READ, _) => Body(vec![7; size as usize]),
                    (_, Answer::WithQuota(most)) if offset >= most => {
                        return self.reply(unique, Err(libc::EDQUOT));
                    }
                    _ => Body::new().u32s(&[size, 0]),
                }
            }
            // Version 7.31; how many requests may be in flight before io_submit waits; and how many
            // bytes may be written at once.
            INIT => {
                let head = [7, 31, 0, FUSE_ASYNC_DIO, BACKGROUND, 1 << 16, 1, 0];
                Body::new().u32s(&head).u64s(&[0, 0, 0, 0])
            }
            // Numbers of blocks, free blocks and files, which are all 0; the size of blocks; and
            // the greatest length of names.
            STATFS => Body::new().u64s(&[0; 5]).u32s(&[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0]),
            // The kernel expects no reply.
            FORGET | BATCH_FORGET | INTERRUPT => return,
            RELEASE | DESTROY => Body::new(),
            _ => return self.reply(unique, Err(libc::ENOSYS)),
        };
        self.reply(unique, Ok(body));
    }

    fn reply(&mut self, unique: u64, result: Result<Body, i32>) {
        let (error, body) = match result {
            Ok(body) => (0, body.0),
            Err(errno) => (errno, Vec::new()),
        };
        let length = (16 + body.len()) as u32;
        let mut message = Body::new().u32s(&[length, error.wrapping_neg().cast_unsigned()]);
        message = message.u64s(&[unique]);
        message.0.extend(body);
        match self.device.write_all(&message.0) {
            // The request was taken back, or the file system is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => (),
            result => result.expect("/dev/fuse"),
        }
    }

    /// Waits until reads and writes may be answered.
    fn hold(&self) {
        let deadline = Instant::now() + PATIENCE;
        if let Answer::AtLineAfter(count) = self.answer {
            let is_readable = || tasks::is_readable_within(self.input.as_raw_fd(), PATIENCE);
            while self.served >= count && !is_readable() {}
            return;
        }
        while !tasks::has_no_memory(self.user) {
            let is_over = match self.answer {
                Answer::AtOnce | Answer::AtLineAfter(_) | Answer::WithQuota(_) => true,
                // A byte was written, or the other end is closed.
                Answer::WhenTold => tasks::is_readable_within(self.told.as_raw_fd(), PACE),
                Answer::InCall(call) => {
                    std::thread::sleep(PACE);
                    tasks::is_stuck_in(self.user, call) || Instant::now() > deadline
                }
                Answer::AtExit => {
                    std::thread::sleep(PACE);
                    Instant::now() > deadline
                }
            };
            if is_over {
                break;
            }
        }
    }
}

/// What follows the header of a reply.
struct Body(Vec<u8>);

impl Body {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn u64s(mut self, numbers: &[u64]) -> Self {
        self.0.extend(numbers.iter().flat_map(|it| it.to_ne_bytes()));
        self
    }

    fn u32s(mut self, numbers: &[u32]) -> Self {
        self.0.extend(numbers.iter().flat_map(|it| it.to_ne_bytes()));
        self
    }

    /// `struct fuse_attr` of the directory or the file.
    fn attributes(self, node: u64) -> Self {
        let (mode, size) =
            if node == ROOT { (libc::S_IFDIR | 0o755, 0) } else { (libc::S_IFREG | 0o755, SIZE) };
        // The inode, the size, the blocks and three times; then the nanoseconds of the times, the
        // mode, the links, the owner, no device, the size of a block, and no flags.
        self.u64s(&[node, size, size / 512, 0, 0, 0]).u32s(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])
    }
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;
/// Two numbers of 16 bits: how many requests may be in the background, and from which number on the
/// kernel calls that congested.
const BACKGROUND: u32 = 128 << 16 | 128;
const FUSE_ASYNC_DIO: u32 = 1 << 15;
const FOPEN_DIRECT_IO: u32 = 1;
