//! The kernel's names of errnos, operations and flags.

use crate::opcode::{self, Opcode};

/// The kernel's own codes for "make the call again", which a program never sees (include/linux/errno.h).
const RESTART: [(i64, &str); 4] = [
    (512, "ERESTARTSYS"),
    (513, "ERESTARTNOINTR"),
    (514, "ERESTARTNOHAND"),
    (516, "ERESTART_RESTARTBLOCK"),
];

/// The name of a negative errno, `None` for success or an unknown number.
pub fn errno_name(ret: i64) -> Option<&'static str> {
    if ret >= 0 {
        return None;
    }
    if let Some((_, name)) = RESTART.iter().find(|(number, _)| -*number == ret) {
        return Some(name);
    }
    crate::errno::name(i32::try_from(ret.checked_neg()?).ok()?)
}

/// The lower-case name of an `IOCB_CMD_*`.
pub fn opcode_name(opcode: Opcode) -> Option<&'static str> {
    Some(match opcode {
        opcode::PREAD => "pread",
        opcode::PWRITE => "pwrite",
        opcode::FSYNC => "fsync",
        opcode::FDSYNC => "fdsync",
        opcode::POLL => "poll",
        opcode::NOOP => "noop",
        opcode::PREADV => "preadv",
        opcode::PWRITEV => "pwritev",
        _ => return None,
    })
}

/// `RWF_*` of include/uapi/linux/fs.h, by bit.
pub const RW_FLAGS: [(u64, &str); 8] = [
    (0x01, "RWF_HIPRI"),
    (0x02, "RWF_DSYNC"),
    (0x04, "RWF_SYNC"),
    (0x08, "RWF_NOWAIT"),
    (0x10, "RWF_APPEND"),
    (0x20, "RWF_NOAPPEND"),
    (0x40, "RWF_ATOMIC"),
    (0x80, "RWF_DONTCACHE"),
];

/// `IOCB_FLAG_*`, by bit.
pub const IOCB_FLAGS: [(u64, &str); 2] = [(1, "IOCB_FLAG_RESFD"), (2, "IOCB_FLAG_IOPRIO")];

/// `POLL*` of include/uapi/asm-generic/poll.h, by bit.
pub const POLL_EVENTS: [(u64, &str); 11] = [
    (0x001, "POLLIN"),
    (0x002, "POLLPRI"),
    (0x004, "POLLOUT"),
    (0x008, "POLLERR"),
    (0x010, "POLLHUP"),
    (0x020, "POLLNVAL"),
    (0x040, "POLLRDNORM"),
    (0x080, "POLLRDBAND"),
    (0x100, "POLLWRNORM"),
    (0x200, "POLLWRBAND"),
    (0x2000, "POLLRDHUP"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_have_the_names_of_the_manual() {
        assert_eq!(errno_name(-11), Some("EAGAIN"));
        assert_eq!(errno_name(-115), Some("EINPROGRESS"));
        assert_eq!(errno_name(-514), Some("ERESTARTNOHAND"));
        assert_eq!(errno_name(-4000), None);
        assert_eq!(errno_name(i64::MIN), None);
        assert_eq!(errno_name(0), None);
    }
}
