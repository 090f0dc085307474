//! What an errno in a completion means: `io_event.res` of a request that io_submit had accepted.

/// What is known of an errno of a completion.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The number of the errno.
    pub errno: i32,
    /// What the file, or the kernel, means by it.
    pub means: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What is known of this errno in a completion.
pub fn of(errno: i32) -> Option<&'static Entry> {
    ALL.iter().find(|it| it.errno == errno)
}

macro_rules! entries {
    ($($errno:ident $means:expr, $remedy:expr;)*) => {
        &[$(Entry { errno: libc::$errno, means: $means, remedy: $remedy }),*]
    };
}

/// All known errnos of completions, by name.
pub static ALL: &[Entry] = entries! {
    EAGAIN
        "With RWF_NOWAIT: the request would have had to wait inside of io_submit (no O_DIRECT, a write that \
         extends the file, a lock, a full queue), and was not made. Without it: a file that does not wait, opened \
         with O_NONBLOCK.",
        "Make it again without RWF_NOWAIT, or where waiting does no harm. If it always comes, leave the flag out.";
    ECANCELED "The request was cancelled, by io_cancel or by the end of what served it.", "Nothing.";
    EDQUOT "The quota of the user, or of the project, is used up.", "`quota`, or the limits of the project.";
    EFAULT
        "The buffer is not mapped, or not writable for a read. io_submit looks only whether its addresses can be \
         a program's at all.",
        "Look for a buffer that was freed, or whose length is wrong.";
    EFBIG
        "Beyond the largest size of a file: of the file system, or RLIMIT_FSIZE of the process.",
        "`ulimit -f`, and the offset of the request.";
    EINTR "A signal came while the file waited; requests of AIO are not started again.", "Make it again.";
    EINVAL
        "Mostly an O_DIRECT request that is not aligned: the address of the buffer, the offset and the length have \
         to be multiples of the device's block (statx with STATX_DIOALIGN says it; 512 or 4096). Or a file that \
         cannot do what is asked.",
        "Align all three. The last piece of a file is the usual one that is not.";
    EIO "The device failed, or a path to it.", "`dmesg`, and SMART or multipath of the device.";
    ENODEV "The device is gone.", "`dmesg`.";
    ENOMEM "Memory was short, in the kernel or in the cgroup.", "memory.max of the cgroup, and make it again.";
    ENOSPC "The file system is full, or a thin device below it.", "`df`, `df -i`, and the pool of a thin device.";
    ENXIO "No such place on the device, or it is gone.", "Its size, and `dmesg`.";
    EOPNOTSUPP "The file cannot do it: a flag of rw_flags, for instance.", "Leave the flag out on this file.";
    EPERM "The file is sealed, immutable or append-only.", "`lsattr`, or the seals of the memfd.";
    EROFS "The file system became read-only, mostly after an error.", "`dmesg`.";
    ESTALE "The server of a network file system does not know the file any more.", "Open it again.";
    ETIMEDOUT "The device, or the server, did not answer in time.", "`dmesg`, and the network.";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_is_there_once_and_by_name() {
        let names: Vec<_> = ALL.iter().filter_map(|it| crate::errno::name(it.errno)).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }
}
