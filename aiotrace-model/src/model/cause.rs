//! What the arguments of a call that failed tell of the reason: the field that the kernel refuses.
//!
//! Only what suffices for that errno is said, whatever else there may be
//! (<https://elixir.bootlin.com/linux/v6.12/source/fs/aio.c>: `io_submit_one`, `aio_fsync`, `aio_poll`,
//! `do_io_getevents`, `io_cancel`). What may be the reason, and cannot be seen in the arguments, is said as that.

use aiotrace_common::abi;

use crate::{
    errno,
    event::{Args, Iocb, RW_FLAGS},
};

const EPERM: i64 = -(errno::EPERM as i64);
const EBADF: i64 = -(errno::EBADF as i64);
const EFAULT: i64 = -(errno::EFAULT as i64);
const EINVAL: i64 = -(errno::EINVAL as i64);
const EOPNOTSUPP: i64 = -(errno::EOPNOTSUPP as i64);

const RESFD: u32 = 1;
const IOPRIO: u32 = 2;
/// More iovecs are not taken at once (`UIO_MAXIOV`).
const MOST_IOVECS: u64 = 1024;
/// More requests are not given to a context.
const MOST_REQUESTS: u32 = 4_194_304;
/// The kernel's own value of `aio_key` (`KIOCB_KEY`).
const KEY: u32 = 0;

/// What is wrong with the arguments of a call that returned this errno; `None` if they do not tell.
pub fn of(args: &Args, ret: i64) -> Option<String> {
    let causes = match args {
        Args::Setup { nr_events, ctxp, stored } => match (ret, stored) {
            (EINVAL, _) if *nr_events == 0 => vec!["nr_events is 0".to_owned()],
            (EINVAL, _) if *nr_events > MOST_REQUESTS => {
                vec![format!("nr_events is more than {MOST_REQUESTS}")]
            }
            (EINVAL, Some(stored)) if stored.0 != 0 => {
                vec![format!("*ctxp is {:#x}, and not 0", stored.0)]
            }
            (EFAULT, _) => vec![format!("ctxp, {:#x}, cannot be read or written", ctxp.0)],
            _ => Vec::new(),
        },
        Args::Submit { nr, .. } if ret == EINVAL && *nr < 0 => vec!["nr is negative".to_owned()],
        Args::Submit { iocbs, iocbpp, .. } => match (ret, iocbs.first()) {
            (_, Some(Some(iocb))) => iocb_causes(iocb, ret),
            (EFAULT, None) => {
                vec![format!("the array of pointers, {:#x}, cannot be read", iocbpp.0)]
            }
            _ => Vec::new(),
        },
        Args::Getevents { min_nr, nr, sigset_value, .. } if ret == EINVAL => {
            let size = sigset_value.map(|it| it.size);
            let causes = [
                (*min_nr < 0, "min_nr is negative"),
                (min_nr > nr, "min_nr is more than nr"),
                (
                    sigset_value.is_some_and(|it| it.address.0 != 0) && size != Some(8),
                    "sigsetsize is not 8",
                ),
            ];
            said(&causes)
        }
        Args::Getevents { .. } if ret == EFAULT => {
            vec!["the timeout cannot be read, or the events cannot be written".to_owned()]
        }
        Args::Cancel { iocb, .. } if ret == EFAULT => {
            vec![format!("the iocb at {:#x} cannot be read", iocb.0)]
        }
        Args::Cancel { value, .. } if ret == EINVAL => key(value.as_ref()).into_iter().collect(),
        Args::Getevents { .. } | Args::Cancel { .. } | Args::Destroy { .. } => Vec::new(),
    };
    (!causes.is_empty()).then(|| causes.join("; "))
}

/// A key that io_cancel refuses, before it looks for the request.
pub fn key(iocb: Option<&abi::Iocb>) -> Option<String> {
    let key = iocb?.key;
    (key != KEY)
        .then(|| format!("aio_key is {key} and not 0, so the kernel did not look for the request"))
}

fn said(causes: &[(bool, &str)]) -> Vec<String> {
    causes.iter().filter(|it| it.0).map(|it| it.1.to_owned()).collect()
}

/// Of the iocb that was refused.
fn iocb_causes(iocb: &Iocb, ret: i64) -> Vec<String> {
    let at = |address: u64| format!("the iocb at {address:#x}");
    let Some(it) = &iocb.value else {
        let unread = iocb.address.filter(|_| ret == EFAULT);
        return unread.map(|it| format!("{} cannot be read", at(it.0))).into_iter().collect();
    };
    match ret {
        EINVAL => invalid(it),
        EBADF => {
            let resfd = it.resfd as i32;
            let or_resfd = if it.flags & RESFD != 0 {
                format!(", or aio_resfd {resfd} is not open")
            } else {
                String::new()
            };
            let mode = match it.opcode {
                0 | 7 => ", or not open for reading",
                1 | 8 => ", or not open for writing",
                _ => "",
            };
            vec![format!("fd {} is not open{mode}{or_resfd}", it.fildes as i32)]
        }
        EFAULT if matches!(it.opcode, 7 | 8) => {
            vec![format!(
                "{}'s aio_key cannot be written, or its iovecs at {:#x} cannot be read",
                at(iocb.address.map_or(0, |it| it.0)),
                it.buf
            )]
        }
        EFAULT => {
            vec![format!(
                "{}'s aio_key cannot be written: is it constant?",
                at(iocb.address.map_or(0, |it| it.0))
            )]
        }
        EOPNOTSUPP if it.rw_flags != 0 => {
            vec![format!("the file, or this kernel, cannot do {}", rw_flags(it.rw_flags))]
        }
        EPERM if it.flags & IOPRIO != 0 => {
            vec![format!("aio_reqprio {:#x} may need CAP_SYS_ADMIN or CAP_SYS_NICE", it.reqprio)]
        }
        _ => Vec::new(),
    }
}

fn invalid(it: &abi::Iocb) -> Vec<String> {
    let mut causes = said(&[
        (it.reserved2 != 0, "aio_reserved2 is not 0"),
        ((it.nbytes as i64) < 0, "aio_nbytes is negative as a signed number"),
    ]);
    let fields = [
        (it.buf != 0, "aio_buf"),
        (it.nbytes != 0, "aio_nbytes"),
        (it.offset != 0, "aio_offset"),
        (it.rw_flags != 0, "aio_rw_flags"),
    ];
    let set = |fields: &[(bool, &str)], what: &str| {
        let set = said(fields);
        let verb = if set.len() == 1 { "is" } else { "are" };
        (!set.is_empty()).then(|| format!("{} {verb} set, and {what} takes none", listed(&set)))
    };
    match it.opcode {
        2 => causes.extend(set(&fields, "fsync")),
        3 => causes.extend(set(&fields, "fdsync")),
        5 => {
            causes.extend(set(&fields[1..], "poll"));
            if it.buf > 0xffff {
                causes.push("aio_buf, the events, has more than 16 bits".to_owned());
            }
        }
        0 | 1 | 7 | 8 => {
            let priority = it.reqprio as u16;
            let priority = (priority >> 13, priority & 0x1fff);
            let has_priority = it.flags & IOPRIO != 0;
            causes.extend(said(&[
                (it.offset < 0, "aio_offset is negative"),
                (
                    matches!(it.opcode, 7 | 8) && it.nbytes > MOST_IOVECS,
                    "aio_nbytes, the number of iovecs, is more than 1024 (UIO_MAXIOV)",
                ),
                (
                    has_priority && (priority.0 > 3 || (priority.0 == 0 && priority.1 != 0)),
                    "aio_reqprio has no class of ioprio_set(2)",
                ),
            ]));
        }
        6 => causes.push("IOCB_CMD_NOOP (6) is not an operation of the kernel".to_owned()),
        other => causes.push(format!("there is no operation {other}")),
    }
    causes
}

/// A possible reason when the arguments are in order and the context exists. (Of vectors the iovecs are shown as well.)
///
/// EINVAL is for a file that has no such operation, or, of a poll, that is not ready and has no single wait queue
/// (<https://elixir.bootlin.com/linux/v6.12/source/fs/aio.c>: `aio_read`, `aio_write`, `aio_fsync`, `aio_poll`).
pub fn perhaps(args: &Args, ret: i64) -> Option<String> {
    let Args::Submit { iocbs, .. } = args else { return None };
    let it = iocbs.first()?.as_ref()?.value.filter(|_| ret == EINVAL)?;
    let fd = it.fildes as i32;
    let which = match it.opcode {
        0 => Some(format!("fd {fd} cannot be read by AIO, as a directory cannot")),
        1 => Some(format!("fd {fd} cannot be written by AIO")),
        2 | 3 => Some(format!("fd {fd} has no fsync, as pipes, sockets and eventfds have none")),
        5 => Some(format!("fd {fd} cannot be polled by AIO")),
        _ => None,
    };
    let resfd =
        (it.flags & RESFD != 0).then(|| format!("aio_resfd {} is no eventfd", it.resfd as i32));
    let all: Vec<String> = which.into_iter().chain(resfd).collect();
    (!all.is_empty()).then(|| format!("perhaps {}", all.join(", or ")))
}

/// `a, b and c`
fn listed(items: &[String]) -> String {
    match items.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn rw_flags(flags: u32) -> String {
    let known = RW_FLAGS.iter().filter(|(bit, _)| u64::from(flags) & bit != 0);
    let mut names: Vec<String> = known.map(|(_, name)| (*name).to_owned()).collect();
    let rest = RW_FLAGS.iter().fold(u64::from(flags), |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Address, Handle, Syscall};

    fn submit(iocb: abi::Iocb) -> Args {
        let (address, value) = (Some(Address(0x1000)), Some(iocb));
        let iocbs = vec![Some(Iocb { address, value, read_late: false })];
        Args::Submit { ctx: Handle(1), nr: 1, iocbpp: Address(2), iocbs, truncated: 0 }
    }

    fn of_iocb(iocb: abi::Iocb, ret: i64) -> String {
        of(&submit(iocb), ret).unwrap_or_default()
    }

    #[test]
    fn the_field_that_is_refused_is_named() {
        let iocb = |opcode| abi::Iocb { opcode, fildes: 3, ..Default::default() };
        let fsync = abi::Iocb { buf: 0x5000, nbytes: 4096, offset: 4096, ..iocb(2) };
        let text = "aio_buf, aio_nbytes and aio_offset are set, and fsync takes none";
        assert_eq!(of_iocb(fsync, EINVAL), text);
        assert_eq!(of_iocb(iocb(2), EINVAL), "", "nothing is wrong with it");
        assert!(of_iocb(abi::Iocb { nbytes: 1025, ..iocb(7) }, EINVAL).contains("UIO_MAXIOV"));
        assert_eq!(of_iocb(abi::Iocb { nbytes: 1024, ..iocb(7) }, EINVAL), "");
        assert_eq!(of_iocb(abi::Iocb { nbytes: 1025, ..iocb(0) }, EINVAL), "", "bytes");
        assert!(of_iocb(iocb(6), EINVAL).contains("IOCB_CMD_NOOP"));
        assert_eq!(of_iocb(iocb(99), EINVAL), "there is no operation 99");
        assert!(of_iocb(abi::Iocb { reserved2: 1, ..iocb(0) }, EINVAL).contains("aio_reserved2"));
        assert_eq!(of_iocb(iocb(1), EBADF), "fd 3 is not open, or not open for writing");
        let nowait = abi::Iocb { rw_flags: 0x48, ..iocb(1) };
        let text = "the file, or this kernel, cannot do RWF_NOWAIT|RWF_ATOMIC";
        assert_eq!(of_iocb(nowait, EOPNOTSUPP), text);
    }

    #[test]
    fn what_may_be_the_reason_is_said_as_that() {
        let iocb = |opcode| abi::Iocb { opcode, fildes: 3, ..Default::default() };
        let perhaps = |iocb, ret| perhaps(&submit(iocb), ret).unwrap_or_default();
        assert!(perhaps(iocb(2), EINVAL).starts_with("perhaps fd 3 has no fsync"));
        let resfd = abi::Iocb { flags: RESFD, resfd: 4, ..iocb(5) };
        assert_eq!(of_iocb(resfd, EINVAL), "", "it says nothing for certain");
        let text = "perhaps fd 3 cannot be polled by AIO, or aio_resfd 4 is no eventfd";
        assert_eq!(perhaps(resfd, EINVAL), text);
        assert_eq!(perhaps(iocb(0), EBADF), "");
    }

    #[test]
    fn what_is_asked_of_io_getevents_must_make_sense() {
        let getevents = |min_nr, nr| Args::Getevents {
            syscall: Syscall::Getevents,
            ctx: Handle(1),
            min_nr,
            nr,
            events: Address(0),
            timeout: Address(0),
            timeout_value: None,
            sigset: Address(0),
            sigset_value: None,
            list: Vec::new(),
            truncated: 0,
            changed: Vec::new(),
        };
        assert_eq!(of(&getevents(4, 2), EINVAL).unwrap(), "min_nr is more than nr");
        assert_eq!(of(&getevents(1, 2), EINVAL), None);
    }

    #[test]
    fn a_key_of_ones_own_is_refused_by_io_cancel() {
        let iocb = abi::Iocb { key: 77, ..Default::default() };
        assert!(key(Some(&iocb)).unwrap().starts_with("aio_key is 77"));
        assert_eq!(key(Some(&abi::Iocb::default())), None);
    }
}
