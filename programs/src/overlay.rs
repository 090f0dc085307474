//! A file on overlayfs, which passes each request on to a file below: both are asked whether it is
//! allowed. Needs root and overlayfs; where one is missing, the program says so and ends with status 77.

use std::{
    ffi::CString,
    fs::File,
    path::{Path, PathBuf},
};

/// The status of a program that cannot run here.
const CANNOT_RUN: i32 = 77;

/// Mounts it where only this process and its children see it, and does this with the file.
pub fn with_a_file(work: impl FnOnce(&Path)) {
    unshare();
    let root = root();
    std::fs::create_dir_all(root.join("lower")).expect("a temporary directory");
    std::fs::write(root.join("lower/file"), [0; 4096]).expect("a temporary file");
    mount(&root, &root.join("lower"));
    work(&root.join("merged/file"));
    unmount(&root);
}

/// Opens a file of a directory through an overlay above that, which is there until then.
pub fn open_above(lower: &Path, name: &str) -> File {
    let root = root();
    mount(&root, lower);
    let file = File::open(root.join("merged").join(name)).expect("the file on an overlay");
    unmount(&root);
    file
}

/// From now on, what this process mounts is for it and its children.
pub fn unshare() {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.lines().any(|it| it.ends_with("\toverlay")) {
        cannot("this kernel has no overlayfs");
    }
    let none = std::ptr::null();
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: strings that end with a zero byte; the namespace is our own.
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
    // SAFETY: strings that end with a zero byte.
    let failed =
        unsafe { libc::mount(kind, merged.as_ptr(), kind, 0, options.as_ptr().cast()) != 0 };
    if failed {
        cannot(&format!("cannot mount overlayfs: {}", std::io::Error::last_os_error()));
    }
}

fn unmount(root: &Path) {
    let merged = CString::new(root.join("merged").into_os_string().into_encoded_bytes());
    // SAFETY: a string that ends with a zero byte. The mount is ours.
    unsafe { libc::umount2(merged.expect("no zero byte").as_ptr(), libc::MNT_DETACH) };
    let _ = std::fs::remove_dir_all(root);
}

fn cannot(why: &str) -> ! {
    crate::say(why);
    std::process::exit(CANNOT_RUN)
}
