//! A 32-bit program, static and without any library. xtask builds it for i686 and for armv7 with
//! nothing but the source of `core`, and it runs on every kernel that has the 32-bit entry. It exits
//! with 0, or with the number of the line whose check failed.
#![no_std]
#![no_main]

mod arch;

use arch::*;

/// `struct iocb`, which is the same as for 64-bit programs.
#[derive(Clone, Copy)]
#[repr(C)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved2: u64,
    flags: u32,
    resfd: u32,
}

/// `struct io_event`
#[derive(Clone, Copy)]
#[repr(C)]
struct IoEvent {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

fn address<T>(of: &mut T) -> usize {
    &raw mut *of as usize
}

/// Exits with the number of the line if the condition does not hold.
macro_rules! check {
    ($holds:expr) => {
        if !$holds {
            call(EXIT, [line!() as usize, 0, 0, 0, 0, 0]);
        }
    };
}

fn main() {
    const EBADF: i32 = 9;
    const EINVAL: i32 = 22;
    const ENOSYS: i32 = 38;
    let mut ctx = 0u32;
    check!(call(IO_SETUP, [4, address(&mut ctx), 0, 0, 0, 0]) == 0);
    let ctx = ctx as usize;
    let path = c"/dev/zero";
    let fd = call(OPEN, [path.as_ptr() as usize, 0, 0, 0, 0, 0]);
    check!(fd >= 0);
    let mut buffer = 1u64;
    let mut good = Iocb {
        data: 5,
        key: 0,
        rw_flags: 0,
        opcode: 0,
        reqprio: 0,
        fildes: fd as u32,
        buf: address(&mut buffer) as u64,
        nbytes: size_of::<u64>() as u64,
        offset: 0,
        reserved2: 0,
        flags: 0,
        resfd: 0,
    };
    let mut bad = Iocb { fildes: 999, ..good };
    let mut pointers = [address(&mut good), address(&mut bad), address(&mut good)];
    let array = address(&mut pointers);
    let mut event = IoEvent { data: 0, obj: 0, res: 0, res2: 0 };
    let events = address(&mut event);
    check!(call(IO_SUBMIT, [ctx, 3, array, 0, 0, 0]) == 1);
    check!(call(IO_SUBMIT, [ctx, usize::MAX, array, 0, 0, 0]) == -EINVAL);
    // One timeout has 32-bit numbers, the other 64-bit ones.
    let mut narrow = [1i32, 5];
    let mut wide = [1i64, 6];
    let timeout = address(&mut narrow);
    // A kernel may be built without timeouts of 32-bit numbers.
    let has_narrow = call(IO_GETEVENTS, [ctx, 1, 1, events, timeout, 0]) != -ENOSYS;
    if !has_narrow {
        check!(call(IO_PGETEVENTS_TIME64, [ctx, 1, 1, events, address(&mut wide), 0]) == 1);
    }
    check!(event.data == 5 && event.res == 8 && event.obj == address(&mut good) as u64);
    let mut mask = 0x200u64;
    let mut sigset = [address(&mut mask), 8];
    check!(call(IO_SUBMIT, [ctx, 1, array, 0, 0, 0]) == 1);
    let sigset = address(&mut sigset);
    let (number, timeout) = if has_narrow {
        (IO_PGETEVENTS, timeout)
    } else {
        (IO_PGETEVENTS_TIME64, address(&mut wide))
    };
    check!(call(number, [ctx, 1, 1, events, timeout, sigset]) == 1);
    check!(call(IO_PGETEVENTS_TIME64, [ctx, 0, 1, events, address(&mut wide), 0]) == 0);
    check!(call(IO_CANCEL, [ctx, address(&mut good), 0, 0, 0, 0]) == -EINVAL);
    // The write is volatile because the compiler does not know that the kernel reads the array.
    // SAFETY: the pointer is to an element of our array.
    unsafe { (array as *mut usize).write_volatile(address(&mut bad)) };
    check!(call(IO_SUBMIT, [ctx, 1, array, 0, 0, 0]) == -EBADF);
    check!(call(IO_DESTROY, [ctx, 0, 0, 0, 0, 0]) == 0);
}

extern "C" fn run() -> ! {
    main();
    loop {
        call(EXIT, [0; 6]);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        call(EXIT, [255, 0, 0, 0, 0, 0]);
    }
}
