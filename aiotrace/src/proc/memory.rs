//! The memory of other processes. Reading it may have to wait for a server of the page
//! (userfaultfd, FUSE).

use std::{fs::File, io, os::unix::fs::FileExt as _};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

/// Reads memory of a process: all of it, or nothing.
pub fn read_memory(pid: u32, from: u64, to: &mut [u8]) -> Option<()> {
    try_read_memory(pid, from, to).ok()
}

/// Reads memory of a process, or says why it cannot.
///
/// # Errors
/// What the kernel says; `EFAULT` also if a part of the memory is not mapped.
pub fn try_read_memory(pid: u32, from: u64, to: &mut [u8]) -> Result<(), Errno> {
    let base = usize::try_from(from).ok().filter(|it| *it != 0).ok_or(Errno::EFAULT)?;
    let remote = [RemoteIoVec { base, len: to.len() }];
    let wanted = to.len();
    let read =
        process_vm_readv(Pid::from_raw(pid as i32), &mut [io::IoSliceMut::new(to)], &remote)?;
    if read == wanted { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Writes memory of a process, even where the program itself may not write.
///
/// # Errors
/// What the kernel says.
pub fn write_memory(tid: u32, address: u64, bytes: &[u8]) -> Result<(), Errno> {
    // Read first: if there is something to wait for, this read waits, and a helper that is killed
    // meanwhile never writes. So the memory is not changed at a later time.
    try_read_memory(tid, address, &mut vec![0; bytes.len()])?;
    let errno = |it: io::Error| it.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let file = File::options().write(true).open(format!("/proc/{tid}/mem")).map_err(errno)?;
    file.write_all_at(bytes, address).map_err(errno)
}
