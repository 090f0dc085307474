//! A program with known callers of io_setup: main, caller, leak_here. tests/kernel/stacks.rs builds it with rustc,
//! with frame pointers and without. `callers raw|libaio [MILLISECONDS [wait]]`: it lives for this time after the
//! call. With `wait`, it says `ready`, and goes on when it gets a line.

use std::{
    ffi::{CStr, c_char, c_int, c_long, c_void},
    hint::black_box,
    time::Duration,
};

const SYS_IO_SETUP: c_long = 206;
const RTLD_NOW: c_int = 2;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Setup = unsafe extern "C" fn(c_int, *mut u64) -> c_int;

fn main() {
    let mut args = std::env::args().skip(1);
    let libaio = args.next().as_deref() == Some("libaio");
    let millis = args.next().map_or(500, |it| it.parse().expect("milliseconds"));
    if args.next().is_some() {
        println!("ready");
        std::io::stdin().read_line(&mut String::new()).expect("a line");
    }
    let setup = libaio.then(|| load(c"libaio.so.1", c"io_setup"));
    black_box(caller(black_box(setup)));
    std::thread::sleep(Duration::from_millis(millis));
}

#[inline(never)]
fn caller(setup: Option<Setup>) -> u64 {
    black_box(leak_here(setup)) + 1
}

#[inline(never)]
fn leak_here(setup: Option<Setup>) -> u64 {
    // An array, so that the frame holds more than a return address.
    let mut some = [0u64; 40];
    black_box(&mut some);
    let mut ctx = 0;
    // SAFETY: `ctx` has room for a handle.
    let ret = unsafe {
        match setup {
            Some(setup) => c_long::from(setup(4, &mut ctx)), // here: libaio
            None => syscall(SYS_IO_SETUP, 4 as c_long, &mut ctx as *mut u64), // here: raw
        }
    };
    assert_eq!(ret, 0);
    black_box(ctx + some[0])
}

fn load(path: &CStr, name: &CStr) -> Setup {
    // SAFETY: libaio stays loaded, and the type of the function is that of its header.
    unsafe {
        let library = dlopen(path.as_ptr(), RTLD_NOW);
        assert!(!library.is_null(), "libaio is not installed");
        let function = dlsym(library, name.as_ptr());
        assert!(!function.is_null(), "it has no such function");
        std::mem::transmute(function)
    }
}
