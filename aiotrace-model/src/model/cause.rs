//! Why the kernel refused a call, as far as the arguments show: the field that it refuses.
//!
//! A cause is given only if it suffices for the errno, whatever other causes there may be ([`io_submit_one`],
//! [`aio_fsync`], [`aio_poll`], [`do_io_getevents`], [`io_cancel`]). A possible cause that the arguments cannot show
//! is called possible.
//!
//! [`io_submit_one`]: https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L2038
//! [`aio_fsync`]: https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L1661
//! [`aio_poll`]: https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L1909
//! [`do_io_getevents`]: https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L2234
//! [`io_cancel`]: https://elixir.bootlin.com/linux/v6.12.117/source/fs/aio.c#L2191

use aiotrace_common::abi;

use super::ContextId;
use crate::{
    errno::returned::{EBADF, EFAULT, EINVAL, EOPNOTSUPP, EPERM},
    event::{Args, Handle, Iocb, RW_FLAGS},
    opcode::{self, FDSYNC, FSYNC, NOOP, Opcode, POLL, PREAD, PREADV, PWRITE, PWRITEV},
};

const RESFD: u32 = 1;
const IOPRIO: u32 = 2;
/// The kernel takes no more iovecs at once (`UIO_MAXIOV`).
const MOST_IOVECS: u64 = 1024;
/// More bytes are not moved at once (`MAX_RW_COUNT`), however many are asked for.
const MOST_BYTES: u64 = 0x7fff_f000;
/// More requests are not given to a context.
const MOST_REQUESTS: u32 = 4_194_304;
/// Bits that all addresses of the kernel have, and no address of a program has: not even one with a tag in its first
/// byte (<https://docs.kernel.org/arch/arm64/tagged-address-abi.html>), because bit 55 is not part of the tag.
const KERNEL: u64 = 1 << 63 | 1 << 55;
/// The largest page size: the last page of the address space may be kept free.
const PAGE: u64 = 1 << 16;
/// The kernel's own value of `aio_key` (`KIOCB_KEY`).
const KEY: u32 = 0;

/// What is wrong with the arguments of a call that returned this errno; `None` if they do not show it.
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
        Args::Submit { ctx, iocbs, iocbpp, .. } => match (ret, iocbs.first()) {
            (EFAULT, Some(Some(iocb))) => out_of_reach(iocb, *ctx).into_iter().collect(),
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

/// What is wrong with the key that io_cancel checks before it looks for the request.
pub fn key(iocb: Option<&abi::Iocb>) -> Option<String> {
    let key = iocb?.key;
    (key != KEY)
        .then(|| format!("aio_key is {key} and not 0, so the kernel did not look for the request"))
}

fn said(causes: &[(bool, &str)]) -> Vec<String> {
    causes.iter().filter(|it| it.0).map(|it| it.1.to_owned()).collect()
}

/// What is wrong with the iocb that was refused.
fn iocb_causes(iocb: &Iocb, ret: i64) -> Vec<String> {
    let Some(it) = &iocb.value else { return Vec::new() };
    match ret {
        EINVAL => invalid(it),
        EBADF => {
            let resfd = it.resfd as i32;
            let or_resfd = if it.flags & RESFD != 0 {
                format!(", or aio_resfd {resfd} is not open")
            } else {
                String::new()
            };
            let mode = match Opcode::of(it) {
                PREAD | PREADV => ", or not open for reading",
                PWRITE | PWRITEV => ", or not open for writing",
                _ => ", or open with O_PATH",
            };
            vec![format!("fd {} is not open{mode}{or_resfd}", it.fildes as i32)]
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

/// What the kernel could not reach: the iocb, its aio_key, its buffer, its iovecs or what they point to.
///
/// Of a buffer, `access_ok` checks only the addresses; if it is not mapped, the completion has the error.
/// ([`import_ubuf`], [`__import_iovec`])
///
/// [`import_ubuf`]: https://elixir.bootlin.com/linux/v6.12.117/source/lib/iov_iter.c#L1527
/// [`__import_iovec`]: https://elixir.bootlin.com/linux/v6.12.117/source/lib/iov_iter.c#L1446
fn out_of_reach(iocb: &Iocb, ctx: Handle) -> Option<String> {
    let at = format!("the iocb at {:#x}", iocb.address?.0);
    let Some(it) = &iocb.value else { return Some(format!("{at} cannot be read")) };
    let key = format!("{at}'s aio_key cannot be written");
    let buf = it.buf;
    let end = buf.saturating_add(it.nbytes.min(i32::MAX as u64));
    let is_used =
        matches!((Opcode::of(it), it.nbytes), (PREAD | PWRITE, _) | (PREADV | PWRITEV, 1..));
    Some(match Opcode::of(it) {
        _ if is_used && buf & KERNEL == KERNEL => {
            format!("aio_buf, {buf:#x}, is an address of the kernel, and not of the program")
        }
        PREAD | PWRITE if end > reach(ctx) => {
            format!("aio_buf, {buf:#x}, is beyond the addresses of a program, or {key}")
        }
        PREADV | PWRITEV if is_used => format!(
            "its iovecs at {buf:#x} cannot be read, or one is beyond the addresses of a program, or {key}"
        ),
        _ => format!("{key}: is it constant?"),
    })
}

/// A lower bound for the end of the program's addresses, which include its ring: the next power of two, less a page.
fn reach(ctx: Handle) -> u64 {
    ctx.0.checked_next_power_of_two().unwrap_or(0).saturating_sub(PAGE)
}

/// <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/read_write.c?h=v6.12.117#n464>
fn ends_beyond_all_files(it: &abi::Iocb) -> bool {
    it.offset >= 0 && it.offset.checked_add(it.nbytes.min(MOST_BYTES) as i64).is_none()
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
    match Opcode::of(it) {
        FSYNC => causes.extend(set(&fields, "fsync")),
        FDSYNC => causes.extend(set(&fields, "fdsync")),
        POLL => {
            causes.extend(set(&fields[1..], "poll"));
            if it.buf > 0xffff {
                causes.push("aio_buf, the events, has more than 16 bits".to_owned());
            }
        }
        PREAD | PWRITE | PREADV | PWRITEV => {
            let priority = it.reqprio as u16;
            // From 6.5 on, the bits above the level are hints: include/uapi/linux/ioprio.h.
            let priority = (priority >> 13, priority & 7);
            let has_priority = it.flags & IOPRIO != 0;
            causes.extend(said(&[
                (it.offset < 0, "aio_offset is negative"),
                (
                    matches!(Opcode::of(it), PREAD | PWRITE) && ends_beyond_all_files(it),
                    "aio_offset + aio_nbytes is more than 2^63 - 1, where the largest file ends",
                ),
                (
                    opcode::is_vectored(Opcode::of(it)) && it.nbytes > MOST_IOVECS,
                    "aio_nbytes, the number of iovecs, is more than 1024 (UIO_MAXIOV)",
                ),
                (
                    has_priority && (priority.0 > 3 || (priority.0 == 0 && priority.1 != 0)),
                    "aio_reqprio has no class of ioprio_set(2)",
                ),
            ]));
        }
        NOOP => causes.push("IOCB_CMD_NOOP (6) is not an operation of the kernel".to_owned()),
        other => causes.push(format!("there is no operation {other}")),
    }
    causes
}

/// Why a handle is not valid any more.
pub const UNMAPPED: &str = "its ring was unmapped, and not destroyed";

/// Likewise: the kernel knows the context by its new place only.
pub fn moved(to: Handle) -> String {
    format!("its ring was moved with mremap(2): its handle is {:#x} now", to.0)
}

/// Likewise: the context is one of the process that called fork(2).
pub fn of_parent(pid: u32, id: ContextId) -> String {
    format!("it is context {id} of process {pid}: a child of fork(2) does not inherit contexts")
}

/// A possible reason when the arguments are in order and the context exists. (Of vectors the iovecs are shown as well.)
///
/// EINVAL is for a file that has no such operation, or, of a poll, that is not ready and has no single wait queue
/// (<https://elixir.bootlin.com/linux/v6.12/source/fs/aio.c>: `aio_read`, `aio_write`, `aio_fsync`, `aio_poll`).
///
/// `ring`: whether the ring could be read when the call returned. The kernel reads its first word before anything else
/// (`lookup_ioctx`), and what the kernel could read can be read then.
pub fn perhaps(args: &Args, ret: i64, ring: RingThen) -> Option<String> {
    if ret != EINVAL {
        return None;
    }
    let of_ring = format!(
        "the ring at {:#x} cannot be read (munmap, mremap or mprotect), so that the handle is not valid",
        args.handle().0
    );
    let of_ring = Some(of_ring).filter(|_| ring != RingThen::Readable);
    let of_iocb = of_iocb(args).filter(|_| ring != RingThen::Gone);
    let all: Vec<String> = of_ring.into_iter().chain(of_iocb).collect();
    (!all.is_empty()).then(|| format!("perhaps {}", all.join(", or ")))
}

/// A ring when a call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingThen {
    /// It could be read, or that does not matter to the call.
    Readable,
    /// It could not be read, and could be read before.
    Gone,
    /// It could not be read, and never could so far.
    Unread,
}

fn of_iocb(args: &Args) -> Option<String> {
    let Args::Submit { iocbs, .. } = args else { return None };
    let it = iocbs.first()?.as_ref()?.value?;
    let fd = it.fildes as i32;
    let which = match Opcode::of(&it) {
        PREAD => Some(format!("fd {fd} cannot be read by AIO, as a directory cannot")),
        PWRITE => Some(format!("fd {fd} cannot be written by AIO")),
        FSYNC | FDSYNC => {
            Some(format!("fd {fd} has no fsync, as pipes, sockets and eventfds have none"))
        }
        POLL => Some(format!("fd {fd} cannot be polled by AIO")),
        _ => None,
    };
    let resfd =
        (it.flags & RESFD != 0).then(|| format!("aio_resfd {} is no eventfd", it.resfd as i32));
    let all: Vec<String> = which.into_iter().chain(resfd).collect();
    (!all.is_empty()).then(|| all.join(", or "))
}

/// A list in words: `a, b and c`.
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
    use crate::event::{Address, Syscall};

    fn submit(iocb: abi::Iocb) -> Args {
        let (address, value) = (Some(Address(0x1000)), Some(iocb));
        let iocbs = vec![Some(Iocb { address, value, read_late: false, vectors: None })];
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
        let at_end = |nbytes| abi::Iocb { offset: i64::MAX - 511, nbytes, ..iocb(1) };
        assert_eq!(of_iocb(at_end(511), EINVAL), "");
        assert!(of_iocb(at_end(512), EINVAL).starts_with("aio_offset + aio_nbytes is more"));
        let many = abi::Iocb { offset: i64::MAX - 0x7fff_f000, nbytes: 1 << 40, ..iocb(0) };
        assert_eq!(of_iocb(many, EINVAL), "", "it is cut before");
        assert_eq!(of_iocb(abi::Iocb { opcode: 7, ..at_end(512) }, EINVAL), "", "512 iovecs");
        assert_eq!(of_iocb(iocb(1), EBADF), "fd 3 is not open, or not open for writing");
        let nowait = abi::Iocb { rw_flags: 0x48, ..iocb(1) };
        let text = "the file, or this kernel, cannot do RWF_NOWAIT|RWF_ATOMIC";
        assert_eq!(of_iocb(nowait, EOPNOTSUPP), text);
    }

    #[test]
    fn what_cannot_be_reached_is_the_iocb_or_the_buffer_or_the_iovecs() {
        let fault = |iocb| {
            let Args::Submit { nr, iocbpp, iocbs, truncated, .. } = submit(iocb) else { panic!() };
            let ctx = Handle(0x7f12_3456_7000);
            of(&Args::Submit { ctx, nr, iocbpp, iocbs, truncated }, EFAULT).unwrap()
        };
        let iocb = |opcode, buf, nbytes| abi::Iocb { opcode, buf, nbytes, ..Default::default() };
        let key = "the iocb at 0x1000's aio_key cannot be written";
        assert_eq!(fault(iocb(0, 0x7ffc_0000_0000, 4096)), format!("{key}: is it constant?"));
        assert_eq!(fault(iocb(2, 0, 0)), format!("{key}: is it constant?"));
        assert_eq!(fault(iocb(7, 0, 0)), format!("{key}: is it constant?"), "no iovecs");
        let kernel =
            "aio_buf, 0xffff800000000000, is an address of the kernel, and not of the program";
        assert_eq!(fault(iocb(1, 0xffff_8000_0000_0000, 0)), kernel);
        assert_eq!(fault(iocb(7, 0xffff_8000_0000_0000, 1)), kernel);
        for (buf, nbytes) in [(0x7fff_ffff_0000, 1 << 20), (1 << 47, 1), (0xb400_7f00_0000_0000, 1)]
        {
            let or = format!("aio_buf, {buf:#x}, is beyond the addresses of a program, or {key}");
            assert_eq!(fault(iocb(0, buf, nbytes)), or);
        }
        assert_eq!(fault(iocb(0, 0x1000, u64::MAX >> 1)), format!("{key}: is it constant?"));
        let iovecs = fault(iocb(8, 0x5000, 2));
        assert!(iovecs.starts_with("its iovecs at 0x5000 cannot be read, or one is"), "{iovecs}");
        assert!(iovecs.ends_with(key), "{iovecs}");
    }

    #[test]
    fn what_may_be_the_reason_is_said_as_that() {
        let iocb = |opcode| abi::Iocb { opcode, fildes: 3, ..Default::default() };
        let perhaps_with = |iocb, ret, ring| perhaps(&submit(iocb), ret, ring).unwrap_or_default();
        let perhaps = |iocb, ret| perhaps_with(iocb, ret, RingThen::Readable);
        assert!(perhaps(iocb(2), EINVAL).starts_with("perhaps fd 3 has no fsync"));
        let resfd = abi::Iocb { flags: RESFD, resfd: 4, ..iocb(5) };
        assert_eq!(of_iocb(resfd, EINVAL), "", "it says nothing for certain");
        let text = "perhaps fd 3 cannot be polled by AIO, or aio_resfd 4 is no eventfd";
        assert_eq!(perhaps(resfd, EINVAL), text);
        assert_eq!(perhaps(iocb(0), EBADF), "");
        let ring = "perhaps the ring at 0x1 cannot be read (munmap, mremap or mprotect), so that the handle is not valid";
        assert_eq!(perhaps_with(iocb(0), EINVAL, RingThen::Gone), ring);
        let or = format!("{ring}, or fd 3 cannot be read by AIO, as a directory cannot");
        assert_eq!(perhaps_with(iocb(0), EINVAL, RingThen::Unread), or);
        assert_eq!(perhaps_with(iocb(0), EBADF, RingThen::Gone), "");
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
