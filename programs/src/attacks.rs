//! Programs that try to harm a program that traces them. They make calls with a false return
//! address, in a file that they have mapped as code and never run, so that a tracer that unwinds
//! their stacks opens this file.
//!
//! After making [`WORK`] contexts they end with status 0: then nothing held them up.

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::{aio, arch::setup_with_false_return};

/// How many contexts are made and destroyed with a false return address in the file.
const WORK: u64 = 8;

/// The first argument says what to do. The second one names a file, which is a copy of this
/// program, or gives a number.
pub fn run(arguments: &[String]) {
    let [how, path] = arguments else { panic!("how, and a file") };
    if how == "size" {
        return size(path.parse().expect("a size"));
    }
    if how == "rings" {
        return rings(path.parse().expect("how many rounds"));
    }
    if how == "tails" {
        return tails(path.parse().expect("how many calls"));
    }
    if how == "exec" {
        return exec_when_traced(path.parse().expect("how many threads"));
    }
    if how == "storm" {
        return storm(path.parse().expect("how many makers"));
    }
    if how == "maps" {
        return long_maps(path);
    }
    if how == "reserve" {
        return reserve(path.parse().expect("how many GiB"));
    }
    let file = File::options().read(true).write(how == "cut-short").open(path).expect("the file");
    let code = map(&file);
    if how == "regions" {
        return regions(&file);
    }
    if how == "lease" {
        // SAFETY: the calls use no memory of ours. The signal by which the kernel says that
        // somebody wants the file is ignored.
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
    if how == "race" {
        return race(code, path);
    }
    work(code);
    if how == "stay" {
        crate::wait();
    }
    if how == "cut-short" {
        // The tracer has read the file once, so it knows it.
        crate::wait();
        file.set_len(0).expect("cut");
        work(code + 4096);
    }
}

/// Maps the file in many places, and makes a call from each of them.
fn regions(file: &File) {
    const PLACES: usize = 120;
    /// Where its code is.
    const CODE: u64 = 4096;
    let places: Vec<u64> = (0..PLACES).map(|_| map(file)).collect();
    crate::wait();
    for place in places {
        let mut ctx = 0;
        // SAFETY: `ctx` has room for a handle.
        let made = unsafe { setup_with_false_return(1, &mut ctx, place + CODE + 64) };
        assert_eq!(made, 0, "io_setup");
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}

/// Does the work while a FIFO and the file take turns at the path.
fn race(code: u64, path: &str) {
    let (fifo, aside) = (format!("{path}.fifo"), format!("{path}.aside"));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rename = |from: &str, to: &str| std::fs::rename(from, to).expect("rename");
            while !is_over.load(Ordering::Relaxed) {
                rename(path, &aside);
                rename(&fifo, path);
                std::thread::yield_now();
                rename(path, &fifo);
                rename(&aside, path);
            }
        });
        work(code);
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Reserves memory, touches none of it, and leaves a context whose handle is in no variable: whoever looks for it in
/// memory that is only reserved makes page tables for all of it.
fn reserve(gibibytes: usize) {
    let (length, protection) = (gibibytes << 30, libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a mapping at an address that the kernel chooses.
    let reserved = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
    assert_ne!(reserved, libc::MAP_FAILED, "mmap");
    crate::faults::contexts::lost();
}

/// Lets a tracer see the ring first at an address of its own choice, with this size in its header.
/// Then the tail jumps ahead, as if that many requests had completed, and the program rests until
/// somebody has looked at the ring.
fn size(size: u32) {
    let ctx = aio::setup(8);
    crate::wait();
    let header = ctx as *mut u32;
    // SAFETY: the ring is our memory, and nobody uses the place to which it is moved.
    let moved = unsafe {
        header.add(1).write_volatile(size);
        let room = libc::mmap(
            ptr::null_mut(),
            1 << 16,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        );
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        libc::mremap(ctx as *mut libc::c_void, 4096, 4096, flags, room)
    };
    assert_ne!(moved, libc::MAP_FAILED, "mremap");
    let mut events = [aio::IoEvent::default()];
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let array = events.as_mut_ptr() as u64;
    aio::pgetevents_at(moved as u64, 0, 1, array, &raw const none as u64, 0);
    // SAFETY: as above; the word is the ring's tail.
    unsafe { moved.cast::<u32>().add(3).write_volatile(size / 2 - 1) };
    std::thread::sleep(Duration::from_millis(2500));
}

/// Writes into the headers of rings what no kernel writes there, and makes calls with these rings.
/// Says how many calls.
fn rings(rounds: u64) {
    const MAGIC: u32 = 0xa10a_10a1;
    crate::wait();
    let (mut ctx, mut random, mut calls) = (0, 77u32, 0u64);
    for round in 0..rounds {
        if ctx == 0 {
            ctx = aio::setup(8);
            calls += 1;
        }
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        let values =
            [0, 1, u32::MAX, 1 << 31, random, random >> 16, random & 127, 126, 128, 0x7fff_ffff];
        let header = ctx as *mut u32;
        // SAFETY: the ring is our memory, and its header has eight words.
        unsafe {
            let at = header.add(random as usize >> 8 & 7);
            at.write_volatile(values[(random >> 16) as usize % values.len()]);
            if random >> 20 & 1 == 1 {
                header.add(4).write_volatile(MAGIC);
            }
        }
        let mut events = [aio::IoEvent::default()];
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let array = events.as_mut_ptr() as u64;
        aio::pgetevents_at(ctx, 0, 1, array, &raw const none as u64, 0);
        let pointers = [u64::from(random)];
        aio::submit_at(ctx, i64::from(random & 3), pointers.as_ptr() as u64);
        calls += 2;
        if round % 64 == 63 {
            aio::destroy(ctx);
            calls += 1;
            ctx = 0;
        }
    }
    crate::say(&calls.to_string());
}

/// Before each call, writes into the header of a ring that half of its entries are new, although
/// nothing was submitted: first with a context that existed before the line came, and then with one
/// that is made after it.
fn tails(calls: u64) {
    let make = || aio::setup(8000);
    let before = make();
    crate::wait();
    for ctx in [before, make()] {
        let header = ctx as *mut u32;
        for _ in 0..calls {
            // SAFETY: the ring is our memory; the words are its size and its tail.
            unsafe {
                let (nr, tail) = (header.add(1).read_volatile(), header.add(3).read_volatile());
                header.add(3).write_volatile((tail + nr / 2) % nr);
            }
            assert_eq!(aio::getevents_at(ctx, 0, 0, 0, 0), 0, "io_getevents");
        }
        aio::destroy(ctx);
    }
}

/// Makes and destroys contexts with false return addresses, which begin at `code`.
pub fn work(code: u64) {
    for index in 0..WORK {
        let mut ctx = 0;
        // SAFETY: `ctx` has room for a handle.
        let made = unsafe { setup_with_false_return(1, &mut ctx, code + 64 * index) };
        assert_eq!(made, 0, "io_setup");
        assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    }
}

/// The offset of this program's code in its file.
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

/// Maps the whole file as code, which nobody runs.
pub fn map(file: &File) -> u64 {
    let length = file.metadata().expect("its size").len() as usize;
    // SAFETY: the mapping is new, and nobody reads it.
    let code = unsafe {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        libc::mmap(ptr::null_mut(), length, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    assert_ne!(code, libc::MAP_FAILED, "mmap");
    code as u64
}

/// Has many threads, one of which calls execve as soon as it sees that the first thread is traced.
/// execve waits until the other threads have ended, and they have only ended once their tracer has
/// waited for them.
fn exec_when_traced(threads: u64) {
    let idle = || {
        for _ in 0..threads / 2 {
            let thread = std::thread::Builder::new().stack_size(64 << 10);
            thread
                .spawn(|| {
                    loop {
                        std::thread::park()
                    }
                })
                .expect("a thread");
        }
    };
    idle();
    std::thread::spawn(|| {
        let status = format!("/proc/self/task/{}/status", std::process::id());
        let is_traced = |text: &str| {
            let line = text.lines().find_map(|it| it.strip_prefix("TracerPid:"));
            line.is_some_and(|it| it.trim() != "0")
        };
        while !is_traced(&std::fs::read_to_string(&status).expect("our status")) {}
        let path = std::fs::read_link("/proc/self/exe").expect("our path");
        let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).expect("it");
        let arguments = [path.as_ptr(), c"wait".as_ptr(), c"1".as_ptr(), ptr::null()];
        // SAFETY: the strings live, and the list ends with null.
        unsafe { libc::execv(path.as_ptr(), arguments.as_ptr()) };
        panic!("execv");
    });
    idle();
    crate::say("ready");
    loop {
        std::thread::park();
    }
}

/// So many threads, each of which makes others as fast as it can; and those make a call, and end. For ever.
fn storm(makers: u64) {
    let make = || -> ! {
        loop {
            let thread = std::thread::Builder::new().stack_size(16 << 10);
            // If there are too many, some end soon.
            if thread.spawn(|| aio::destroy(0x1000)).is_err() {
                std::thread::yield_now();
            }
        }
    };
    crate::wait();
    for _ in 1..makers {
        std::thread::spawn(make);
    }
    make()
}

/// A file in a directory so deep, with names of newlines, which the kernel writes as four characters each, that a line of
/// /proc/PID/maps is a million characters; and many mappings of it.
fn long_maps(directory: &str) {
    use std::os::fd::{FromRawFd as _, OwnedFd};
    const DEPTH: usize = 1000;
    const MAPPINGS: usize = 300;
    let name = std::ffi::CString::new(vec![b'\n'; 255]).expect("no NUL");
    let mut at: OwnedFd = File::open(directory).expect("the directory").into();
    let open = |at: &OwnedFd, name: &std::ffi::CStr, flags: i32| -> OwnedFd {
        // SAFETY: the name lives during the call, and the descriptor is new and ours.
        unsafe {
            let fd = libc::openat(at.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, 0o700);
            assert!(fd >= 0, "openat");
            OwnedFd::from_raw_fd(fd)
        }
    };
    for _ in 0..DEPTH {
        // SAFETY: the name lives during the call.
        assert_eq!(unsafe { libc::mkdirat(at.as_raw_fd(), name.as_ptr(), 0o700) }, 0, "mkdirat");
        at = open(&at, &name, libc::O_RDONLY);
    }
    let file = File::from(open(&at, c"file", libc::O_RDWR | libc::O_CREAT));
    file.set_len(2 * 4096).expect("its length");
    for index in 0..MAPPINGS {
        // The kernel merges neighbours that could be one mapping, so neighbours differ here.
        let (protection, offset) = match index % 2 {
            0 => (libc::PROT_READ | libc::PROT_EXEC, 0),
            _ => (libc::PROT_READ, 4096),
        };
        let (no, fd) = (ptr::null_mut(), file.as_raw_fd());
        // SAFETY: the kernel chooses an address where nothing is mapped.
        let mapped = unsafe { libc::mmap(no, 4096, protection, libc::MAP_PRIVATE, fd, offset) };
        assert_ne!(mapped, libc::MAP_FAILED, "mmap");
    }
    crate::wait();
    let ctx = aio::setup(8);
    assert_eq!(aio::destroy(ctx), 0, "io_destroy");
    crate::wait_for_a_line();
}
