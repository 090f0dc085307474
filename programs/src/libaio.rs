//! Calls through libaio, which returns a negative errno on failure. It is loaded at run time, so
//! that building does not need it.

use std::ffi::{CStr, c_int, c_long, c_void};

use crate::aio::{self, IoEvent, Iocb, Timespec};

type Setup = unsafe extern "C" fn(c_int, *mut u64) -> c_int;
type Destroy = unsafe extern "C" fn(u64) -> c_int;
type Submit = unsafe extern "C" fn(u64, c_long, *mut *mut Iocb) -> c_int;
type Cancel = unsafe extern "C" fn(u64, *mut Iocb, *mut IoEvent) -> c_int;
type Getevents = unsafe extern "C" fn(u64, c_long, c_long, *mut IoEvent, *mut Timespec) -> c_int;

/// The functions of libaio.
pub struct Libaio {
    pub setup: Setup,
    pub destroy: Destroy,
    pub submit: Submit,
    pub getevents: Getevents,
    pub cancel: Cancel,
}

/// Loads libaio. It is never unloaded.
pub fn load() -> Libaio {
    // SAFETY: the names are constants, and the types are those of libaio's header.
    unsafe {
        let library = libc::dlopen(c"libaio.so.1".as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "libaio.so.1 is not installed");
        Libaio {
            setup: std::mem::transmute::<*mut c_void, Setup>(function(library, c"io_setup")),
            destroy: std::mem::transmute::<*mut c_void, Destroy>(function(library, c"io_destroy")),
            submit: std::mem::transmute::<*mut c_void, Submit>(function(library, c"io_submit")),
            cancel: std::mem::transmute::<*mut c_void, Cancel>(function(library, c"io_cancel")),
            getevents: std::mem::transmute::<*mut c_void, Getevents>(function(
                library,
                c"io_getevents",
            )),
        }
    }
}

/// Makes a read and an error of each kind, and destroys the context.
pub fn all() {
    let Libaio { setup, destroy, submit, getevents, .. } = load();
    // SAFETY: everything that the pointers lead to lives until the end of the block.
    unsafe {
        assert_eq!(setup(0, &mut 0), -libc::EINVAL);
        let mut ctx = 0;
        assert_eq!(setup(4, &mut ctx), 0);
        let mut buffer = 0;
        let mut iocb = aio::pread(aio::zero(), &mut buffer, 3);
        let mut pointers = [&raw mut iocb];
        assert_eq!(submit(ctx, 1, pointers.as_mut_ptr()), 1);
        let mut events = [IoEvent::default()];
        assert_eq!(getevents(ctx, 1, 1, events.as_mut_ptr(), std::ptr::null_mut()), 1);
        assert_eq!((events[0].data, events[0].res), (3, 8));
        (*pointers[0]).fildes = 999;
        assert_eq!(submit(ctx, 1, pointers.as_mut_ptr()), -libc::EBADF);
        assert_eq!(destroy(ctx), 0);
    }
}

unsafe fn function(library: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: the library is loaded, and the name ends with NUL.
    let function = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!function.is_null(), "{name:?}");
    function
}
