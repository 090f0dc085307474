//! Programs that want whoever traces them to come to harm: they make calls with a false return address, in a
//! file that they have mapped as code and never run, so that a tracer that unwinds their stacks opens it.
//!
//! After the work of [`WORK`] they end with status 0: then nothing held them up.

use std::{arch::global_asm, fs::File, os::fd::AsRawFd as _, ptr};

use crate::aio;

/// Contexts made, and destroyed, with a false return address in the file.
const WORK: u64 = 8;

// io_setup with one word more on the stack than its table says: so what is below it passes for the return address.
global_asm!(
    ".pushsection .text.setup_with_false_return, \"ax\"",
    ".globl setup_with_false_return",
    ".type setup_with_false_return, @function",
    "setup_with_false_return:",
    ".cfi_startproc",
    "push rdx",
    "mov eax, 206",
    "syscall",
    "lea rsp, [rsp + 8]",
    "ret",
    ".cfi_endproc",
    ".size setup_with_false_return, . - setup_with_false_return",
    ".popsection",
);

unsafe extern "C" {
    fn setup_with_false_return(nr: u32, ctx: *mut u64, address: u64) -> i64;
}

/// The first argument says how, the second names the file: a copy of this program.
pub fn run(arguments: &[String]) {
    let [how, path] = arguments else { panic!("how, and a file") };
    let file = File::options().read(true).write(how == "cut-short").open(path).expect("the file");
    let code = map(&file);
    if how == "lease" {
        // SAFETY: no memory is involved; the signal that says that somebody wants the file is not for us.
        unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            assert_eq!(
                libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK),
                0,
                "a lease"
            );
        }
    }
    let code = code + our_code();
    crate::wait();
    work(code);
    if how == "cut-short" {
        // It was read once, so the tracer knows it.
        crate::wait();
        file.set_len(0).expect("cut");
        work(code + 4096);
    }
}

fn work(code: u64) {
    for index in 0..WORK {
        let mut ctx = 0;
        // SAFETY: room for a handle.
        let made = unsafe { setup_with_false_return(1, &mut ctx, code + 64 * index) };
        assert_eq!(made, 0, "io_setup");
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}

/// Where in the file of this program its code is.
fn our_code() -> u64 {
    let here = run as *const () as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our maps");
    let place = maps.lines().find_map(|line| {
        // `START-END r-xp OFFSET ...`
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        let number = |hex| u64::from_str_radix(hex, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let offset = number(words.nth(1)?)?;
        (start..end).contains(&here).then(|| here - start + offset)
    });
    place.expect("our code is mapped")
}

/// The whole file as code, which nobody runs.
fn map(file: &File) -> u64 {
    let length = file.metadata().expect("its size").len() as usize;
    // SAFETY: new memory, which nobody looks at.
    let code = unsafe {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        libc::mmap(ptr::null_mut(), length, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    assert_ne!(code, libc::MAP_FAILED, "mmap");
    code as u64
}
