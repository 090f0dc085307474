//! Memory of other processes. Whoever reads it may have to wait for whoever serves the page.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

/// Memory of a process: all of it, or nothing.
pub fn read_memory(pid: u32, from: u64, to: &mut [u8]) -> Option<()> {
    try_read_memory(pid, from, to).ok()
}

/// The same.
///
/// # Errors
/// What the kernel says; `EFAULT` also if it is not all there.
pub fn try_read_memory(pid: u32, from: u64, to: &mut [u8]) -> Result<(), Errno> {
    let base = usize::try_from(from).ok().filter(|it| *it != 0).ok_or(Errno::EFAULT)?;
    let remote = [RemoteIoVec { base, len: to.len() }];
    let wanted = to.len();
    let read =
        process_vm_readv(Pid::from_raw(pid as i32), &mut [io::IoSliceMut::new(to)], &remote)?;
    if read == wanted { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Writes, also where the program itself may not.
///
/// # Errors
/// What the kernel says.
pub fn write_memory(tid: u32, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    // This waits, if one of the two has to: a helper that is killed meanwhile never writes, so nothing is changed later.
    try_read_memory(tid, address, &mut vec![0; bytes.len()])?;
    let errno = |it: io::Error| it.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let file = File::options().write(true).open(format!("/proc/{tid}/mem")).map_err(errno)?;
    file.write_all_at(bytes, address).map_err(errno)
}
