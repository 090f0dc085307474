//! A file on overlayfs, which passes each request on to a file below it: the kernel asks for both
//! whether access is allowed. Needs root and overlayfs; without them, the program says so and ends
//! with status 77.

use std::{
    ffi::CString,
    fs::File,
    path::{Path, PathBuf},
};

/// The status of a program that cannot run here.
const CANNOT_RUN: i32 = 77;

/// Mounts an overlay that only this process and its children see, and calls `work` with a file on
/// it.
pub fn with_a_file(work: impl FnOnce(&Path)) {
    unshare();
    let root = root();
    std::fs::create_dir_all(root.join("lower")).expect("a temporary directory");
    std::fs::write(root.join("lower/file"), [0; 4096]).expect("a temporary file");
    mount(&root, &root.join("lower"));
    work(&root.join("merged/file"));
    unmount(&root);
}

/// Opens a file of a directory through an overlay above it. The overlay is unmounted once the file
/// is open.
pub fn open_above(lower: &Path, name: &str) -> File {
    let root = root();
    mount(&root, lower);
    let file = File::open(root.join("merged").join(name)).expect("the file on an overlay");
    unmount(&root);
    file
}

/// From this call on, only this process and its children see what it mounts.
pub fn unshare() {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|it| it.ends_with("\toverlay")) {
        cannot("this kernel has no overlayfs");
    }
    let none = std::ptr::null();
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the strings end with NUL; the calls change only the mounts of our own namespace.
    let failed = unsafe {
        libc::unshare(libc::CLONE_NEWNS) != 0
            || libc::mount(none, c"/".as_ptr(), none, private, none.cast()) != 0
    };
    if failed {
        cannot(&format!("no mounts of our own: {}", std::io::Error::last_os_error()));
    }
}

fn root() -> PathBuf {
    std::env::temp_dir().join(format!("aio-overlay-{}", std::process::id()))
}

fn mount(root: &Path, lower: &Path) {
    for name in ["upper", "work", "merged"] {
        std::fs::create_dir_all(root.join(name)).expect("a temporary directory");
    }
    let (at, lower) = (root.display(), lower.display());
    let options = format!("lowerdir={lower},upperdir={at}/upper,workdir={at}/work");
    let merged = format!("{at}/merged");
    let [options, merged] = [options, merged].map(|it| CString::new(it).expect("no zero byte"));
    let kind = c"overlay".as_ptr();
    // SAFETY: the strings end with NUL.
    let failed =
        unsafe { libc::mount(kind, merged.as_ptr(), kind, 0, options.as_ptr().cast()) != 0 };
    if failed {
        cannot(&format!("cannot mount overlayfs: {}", std::io::Error::last_os_error()));
    }
}

fn unmount(root: &Path) {
    let merged = CString::new(root.join("merged").into_os_string().into_encoded_bytes());
    // SAFETY: the string ends with NUL, and the mount is ours.
    unsafe { libc::umount2(merged.expect("no zero byte").as_ptr(), libc::MNT_DETACH) };
    let _ = std::fs::remove_dir_all(root);
}

fn cannot(why: &str) -> ! {
    crate::say(why);
    std::process::exit(CANNOT_RUN)
}
