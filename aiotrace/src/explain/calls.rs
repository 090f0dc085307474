//! What an errno of an AIO call means: what the manual pages say (man-pages 6.03: io_setup(2) and so on),
//! what the kernel does (fs/aio.c of Linux 5.10 to 7.2), and what to do about it.

use crate::{errno, event::Syscall};

/// What is known of an errno of a call.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The call.
    pub syscall: Syscall,
    /// The number of the errno.
    pub errno: i32,
    /// What the manual page says; `None` if it does not name this errno.
    pub manual: Option<&'static str>,
    /// What the kernel does when it returns this errno.
    pub kernel: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What a call does, in one line, and how it reports success and failure.
pub fn summary(syscall: Syscall) -> &'static str {
    match syscall {
        Syscall::Setup => {
            "makes a context; 0, or -1 and errno. What it is asked for is taken from fs.aio-max-nr"
        }
        Syscall::Destroy => {
            "ends a context: cancels what can be cancelled, waits for the rest (some 30 ms even if there \
             is none), discards what was not reaped; 0, or -1 and errno"
        }
        Syscall::Submit => {
            "gives requests to the kernel; how many it accepted, or -1 and errno of the first. If it \
             accepts less than it was given, the errno of the next is told to nobody but `aiotrace` \
             (`refused`)"
        }
        Syscall::Getevents => {
            "reaps completions; how many, or -1 and errno. What went wrong with a request is in \
             io_event.res, not here"
        }
        Syscall::Pgetevents => {
            "io_getevents with a signal mask while it waits. Newer libaio calls it first, and falls back \
             to io_getevents only on ENOSYS"
        }
        Syscall::Cancel => {
            "cancels a request, if its kind can be cancelled: polls and some USB gadget requests, no \
             file. It worked if it returns -1 and EINPROGRESS: the event comes through the ring"
        }
    }
}

/// All errnos that are known of a call, in the order of the manual.
pub fn of(syscall: Syscall) -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().filter(move |entry| entry.syscall == syscall)
}

/// How libaio reports this errno of this call.
pub fn libaio(syscall: Syscall, errno: i32) -> String {
    let name = errno::name(errno).unwrap_or("?");
    let function = syscall.name();
    format!(
        "libaio's {function}() returns -{errno} (-{name}) and leaves `errno` alone; the raw system call \
         returns -1 and sets it. A program that mixes the two prints a stale errno"
    )
}

const SECCOMP: &str = "A sandbox (seccomp): the kernel's AIO is never reached. `aiotrace` shows such a \
                       call as denied.";
const ALLOW: &str =
    "Allow the call in the sandbox's filter. Container engines deny AIO in some profiles.";
const NO_AIO: &str = "The kernel is built without CONFIG_AIO, or a sandbox (seccomp) answers.";
const WITH_AIO: &str = "Use a kernel with CONFIG_AIO=y; `aiotrace doctor` tells. In a container, look at the seccomp profile.";

macro_rules! entries {
    ($($syscall:ident $errno:ident $manual:expr, $kernel:expr, $remedy:expr;)*) => {
        &[$(Entry {
            syscall: Syscall::$syscall,
            errno: errno::$errno,
            manual: $manual,
            kernel: $kernel,
            remedy: $remedy,
        }),*]
    };
}

static ENTRIES: &[Entry] = entries! {
    Setup EAGAIN
        Some("The specified nr_events exceeds the limit of available events, as defined in \
              /proc/sys/fs/aio-max-nr (see proc(5))."),
        "fs.aio-nr + nr_events would be more than fs.aio-max-nr. The charge is exactly what is asked \
         for, of all contexts of the whole machine, containers included, until io_destroy or exit.",
        "`aiotrace ls` shows who holds it. Ask for less, destroy contexts, or raise it: \
         `sysctl -w fs.aio-max-nr=1048576`.";
    Setup EFAULT
        Some("An invalid pointer is passed for ctx_idp."),
        "ctx_idp cannot be read; or it cannot be written after the context was made, which is then ended \
         again: nothing is live.",
        "Pass the address of an aio_context_t.";
    Setup EINVAL
        Some("ctx_idp is not initialized, or the specified nr_events exceeds internal limits. nr_events \
              should be greater than 0."),
        "*ctx_idp is not 0, or nr_events is 0 or more than 4,194,304.",
        "Set *ctx_idp to 0 before the call. A handle that is still in it is a context that was not \
         destroyed.";
    Setup ENOMEM
        Some("Insufficient kernel resources are available."),
        "Nearly anything: memory, or the mapping of the ring (RLIMIT_AS, vm.max_map_count, a full \
         address space).",
        "Look at `ulimit -v` and vm.max_map_count, and whether the program leaks mappings.";
    Setup ENOSYS
        Some("io_setup() is not implemented on this architecture."),
        NO_AIO,
        WITH_AIO;
    Setup EPERM None, SECCOMP, ALLOW;

    Destroy EFAULT
        Some("The context pointed to is invalid."),
        "Linux gives EINVAL for that; EFAULT does not come from fs/aio.c.",
        "See io_destroy EINVAL.";
    Destroy EINVAL
        Some("The AIO context specified by ctx_id is invalid."),
        "No such context in this address space: never made, destroyed already (perhaps by another \
         thread), moved with mremap, made before fork or exec, or its ring was unmapped: then it stays \
         charged until exit.",
        "Harmless after a failed io_setup (the handle is 0). Else look for two owners of the handle.";
    Destroy ENOSYS
        Some("io_destroy() is not implemented on this architecture."),
        NO_AIO,
        WITH_AIO;
    Destroy EPERM None, SECCOMP, ALLOW;

    Submit EAGAIN
        Some("Insufficient resources are available to queue any iocbs."),
        "No slot of the ring is free: requests in flight and completions not yet reaped both hold one, \
         and each processor keeps some, so that it can come below the capacity. Or no memory.",
        "Reap (io_getevents), then submit again: without reaping it never ends. Or ask io_setup for \
         more.";
    Submit EBADF
        Some("The file descriptor specified in the first iocb is invalid."),
        "aio_fildes is not open, or open with O_PATH, or not open for that: a read of a file opened for writing; or \
         IOCB_FLAG_RESFD is set in aio_flags, and aio_resfd is not open (one that is open and no eventfd gives EINVAL).",
        "Look for a close(2) between preparing and submitting: descriptors are used again. If no eventfd is wanted, \
         aio_flags must be 0: an iocb that was not cleared has any.";
    Submit EFAULT
        Some("One of the data structures points to invalid data."),
        "The array of pointers, an iocb, or the array of iovecs of a preadv or pwritev cannot be read; or the iocb's \
         aio_key, which the kernel writes, cannot be written; or the buffer, or an iovec's, is beyond the addresses of \
         a program (0xffff800000000000). A buffer that is only not mapped, or not writable, is no error of io_submit: \
         it is res=-14 in the completion.",
        "iocbs must be writable memory, not constants. Look for a pointer that was never set, or is used after free.";
    Submit EINVAL
        Some("The AIO context specified by ctx_id is invalid. nr is less than 0. The iocb at *iocbpp[0] \
              is not properly initialized, the operation specified is invalid for the file descriptor in \
              the iocb, or the value in the aio_reqprio field is invalid."),
        "Also: an opcode that there is not, IOCB_CMD_NOOP (6) included; aio_reserved2 not 0; fsync and fdsync with \
         aio_buf, aio_nbytes, aio_offset or aio_rw_flags set, or of a file that has no fsync; poll with aio_nbytes, \
         aio_offset or aio_rw_flags set, more than 16 bits of events, or of a file that cannot be polled; more than \
         1024 iovecs (UIO_MAXIOV), or lengths that overflow; a negative offset, or one that overflows with the length; aio_resfd that is no eventfd; an \
         aio_reqprio of no class; a file that has no read or write of that kind (a directory); a ring that was \
         unmapped or moved, the handle of another process or of before a fork. A misaligned O_DIRECT is not it: \
         that is res=-22 in the completion. aio_key does not matter here: the kernel writes it.",
        "`aiotrace attach --only error` shows the iocb with all fields that are not 0, and refused-calls names the \
         field that is wrong.";
    Submit ENOSYS
        Some("io_submit() is not implemented on this architecture."),
        NO_AIO,
        WITH_AIO;
    Submit EPERM
        Some("The aio_reqprio field is set with the class IOPRIO_CLASS_RT, but the submitting context does \
              not have the CAP_SYS_ADMIN capability."),
        "That, or a security module (security_file_permission), or a file sealed or immutable, or a \
         sandbox (seccomp).",
        "Leave aio_reqprio at 0, or look at the audit log.";
    Submit EOPNOTSUPP None,
        "The file does not do that asynchronously: an RWF_ flag it does not know (RWF_NOWAIT on a file \
         without it), or flags that this kernel does not know.",
        "Do without the flag on this file.";

    Getevents EFAULT
        Some("Either events or timeout is an invalid pointer."),
        "If nothing could be copied, no event is lost: they stay in the ring.",
        "events needs room for nr io_event of 32 bytes.";
    Getevents EINTR
        Some("Interrupted by a signal handler; see signal(7)."),
        "Only if nothing was reaped and a signal is pending; also with SA_RESTART.",
        "Call it again.";
    Getevents EINVAL
        Some("ctx_id is invalid. min_nr is out of range or nr is out of range."),
        "min_nr or nr negative, min_nr more than nr; or another thread destroyed the context while \
         this one waited, as some programs do to end it.",
        "At shutdown it is by design. Else see io_destroy EINVAL.";
    Getevents ENOSYS
        Some("io_getevents() is not implemented on this architecture."),
        NO_AIO,
        WITH_AIO;
    Getevents EPERM None, SECCOMP, ALLOW;

    Pgetevents EFAULT
        Some("Either events or timeout is an invalid pointer."),
        "As for io_getevents, and the signal set with its mask.",
        "The last argument is the address of two words: that of the mask, and its size.";
    Pgetevents EINTR
        Some("Interrupted by a signal handler; see signal(7)."),
        "Inside of the kernel it is -514 (ERESTARTNOHAND), which `aiotrace` shows: the program sees \
         EINTR, or the call starts again if the signal has no handler.",
        "Call it again.";
    Pgetevents EINVAL
        Some("ctx_id is invalid. min_nr is out of range or nr is out of range."),
        "As for io_getevents; or the size of the signal mask is not 8.",
        "sigsetsize is that of the kernel's sigset, 8 bytes, not sizeof(sigset_t).";
    Pgetevents ENOSYS
        Some("io_getevents() is not implemented on this architecture."),
        "A kernel before 4.18, one without CONFIG_AIO, or a sandbox (seccomp). libaio then falls back to \
         io_getevents.",
        WITH_AIO;
    Pgetevents EPERM None,
        "A sandbox (seccomp). libaio does not fall back on EPERM, so this is fatal for its users.",
        "Have the filter answer ENOSYS, or allow the call.";

    Cancel EAGAIN
        Some("The iocb specified was not canceled."),
        "It does not come from fs/aio.c.",
        "See io_cancel EINVAL.";
    Cancel EFAULT
        Some("One of the data structures points to invalid data."),
        "The iocb is not there.",
        "Pass the address that was submitted.";
    Cancel EINPROGRESS None,
        "It worked. The cancelled request's event comes through the ring.",
        "Reap it. It does not come in `result`, which the kernel ignores.";
    Cancel EINVAL
        Some("The AIO context specified by ctx_id is invalid."),
        "That; or aio_key of the iocb is not 0 (the kernel wrote it at io_submit, and looks at nothing else then); \
         or no request of an iocb at this address is in flight: it has completed, or was submitted from another \
         address, a copy of which is not the same; or its kind cannot be cancelled: reads, writes and syncs of \
         files never can.",
        "Give it the address that io_submit got, and leave aio_key alone. Else wait for the request instead.";
    Cancel ENOSYS
        Some("io_cancel() is not implemented on this architecture."),
        NO_AIO,
        WITH_AIO;
    Cancel EPERM None, SECCOMP, ALLOW;
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_each_errno_once() {
        for syscall in Syscall::ALL {
            let mut errnos: Vec<i32> = of(syscall).map(|entry| entry.errno).collect();
            assert!(errnos.contains(&errno::ENOSYS), "{}", syscall.name());
            let all = errnos.len();
            errnos.sort_unstable();
            errnos.dedup();
            assert_eq!(errnos.len(), all, "{}", syscall.name());
        }
    }

    #[test]
    fn what_is_explained_is_what_can_be_returned() {
        for syscall in Syscall::ALL {
            let explained: Vec<i32> = of(syscall).map(|entry| entry.errno).collect();
            assert_eq!(explained, errno::of_call(syscall), "{}", syscall.name());
        }
    }

    /// All errnos that the manual pages name (man-pages 6.03) are explained.
    #[test]
    fn every_errno_of_the_manual_is_there() {
        let manual = [
            (Syscall::Setup, vec!["EAGAIN", "EFAULT", "EINVAL", "ENOMEM", "ENOSYS"]),
            (Syscall::Destroy, vec!["EFAULT", "EINVAL", "ENOSYS"]),
            (Syscall::Submit, vec!["EAGAIN", "EBADF", "EFAULT", "EINVAL", "ENOSYS", "EPERM"]),
            (Syscall::Getevents, vec!["EFAULT", "EINTR", "EINVAL", "ENOSYS"]),
            (Syscall::Pgetevents, vec!["EFAULT", "EINTR", "EINVAL", "ENOSYS"]),
            (Syscall::Cancel, vec!["EAGAIN", "EFAULT", "EINVAL", "ENOSYS"]),
        ];
        for (syscall, names) in manual {
            let quoted: Vec<_> = of(syscall)
                .filter(|entry| entry.manual.is_some())
                .filter_map(|entry| errno::name(entry.errno))
                .collect();
            assert_eq!(quoted, names, "{}", syscall.name());
        }
    }
}
