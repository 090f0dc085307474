//! The reasons why a conclusion is *unsure*.

/// The reason why a conclusion, or what is known of a context, may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doubt {
    /// Events of the process were lost.
    Lost,
    /// Something in its memory could not be read.
    Unread,
    /// There were more contexts or requests than are followed.
    TooMany,
    /// Not every call has an event: `-c`, `--only`, `--sample`.
    LeftOut,
    /// The context became known by a call on it, so its earlier state is unknown.
    Older,
    /// Some completions belong to no request that was seen.
    Unmatched,
    /// The probes see completions only at the next call, and there was none.
    Window,
    /// The trace ended before it was certain.
    Ended,
    /// A scan sees neither registers nor handles that are kept in another form.
    Scan,
    /// A process that is not traced shares the memory, and the contexts with it.
    SharedMemory,
    /// Something else is mapped where the ring was, and the kernel may take it for the ring.
    Covered,
    /// The same request was submitted to another context.
    OtherContext,
    /// The program called io_setup again: for the same context, or for another one.
    OtherSetup,
    /// A completion was changed in the ring of a program that reaps by itself.
    InRing,
    /// A synchronous call did the same at an unknown place in the file.
    UnknownPlace,
    /// A synchronous call did the same through another descriptor.
    OtherDescriptor,
    /// A vectored call began at the same place, and the sizes of its vectors are unknown.
    UnknownLength,
    /// syncfs(2) was called on another descriptor.
    Syncfs,
    /// The vectors of a request or of a call are unknown.
    Vectors,
    /// Other requests have done a part of the request.
    Partly,
    /// The descriptor of the request was closed, so what is done through its number may be done to another file.
    Closed,
    /// The file is open with O_APPEND, so offsets say nothing.
    Append,
    /// The descriptor leads to something without offsets: a pipe, a socket, a character device.
    Stream,
    /// The program makes the same request at other times, too.
    Used,
    /// It came again later than a retry does.
    Late,
    /// It came again in another thread.
    AnotherThread,
    /// A call came again with other arguments.
    OtherArguments,
    /// A write came again from another place in memory.
    OtherBuffer,
    /// The program made other requests before it came again.
    Submitted,
    /// A call moved data, and nobody sees where.
    Unseen,
    /// The file is mapped.
    Mapped,
    /// Another process has the file.
    SharedFile,
    /// There are more descriptors than are looked at.
    ManySharers,
    /// A process that was made meanwhile has the same files, and is not watched, or goes on.
    Forked,
    /// A process below this one is not traced.
    Below,
    /// Calls of poll(2) and epoll_wait(2) are not seen.
    Poll,
    /// It is unknown where contexts were made.
    NoStack,
    /// A read may have ended at the end of the file at that time.
    Grown,
    /// Nobody could look in time by what else it may have been done.
    Unlooked,
    /// Memory was unmapped before the mappings were looked at.
    Unmapped,
    /// The process runs another program, which has its descriptors.
    Exec,
    /// fdatasync(2) was called instead of fsync(2).
    Fdatasync,
    /// The address of the context was given to another one.
    Reused,
    /// A call came again from another place in the program.
    OtherPlace,
    /// Completions were never reaped.
    Unreaped,
    /// It came again after a time, and was not watched for long enough after that.
    Periodic,
    /// The program read something else into the memory of a write.
    Refilled,
    /// Synchronous calls are not watched.
    NotWatched,
    /// A look at a process got no answer.
    Unanswered,
    /// It existed before the attach.
    BeforeAttach,
    /// The program handles a signal that would interrupt the wait.
    Signal,
    /// Another thread lives, which has not submitted so far.
    OtherThread,
    /// Memory was read later than the kernel read it.
    ReadLater,
    /// Somebody else wrote to the file, too.
    OtherWriter,
    /// A flag of the descriptor may have been another one meanwhile.
    Cleared,
    /// What belongs to a request was looked up only after it.
    Later,
    /// The source stops the thread before io_submit returns, and requests go on meanwhile.
    Stopped,
    /// statx(2) does not say what alignment the file asks for.
    Guessed,
    /// The source stops the thread before the call returns, and nobody knows for how long.
    Tracer,
}

impl Doubt {
    /// The reason in words, to be put after "unsure:".
    pub fn text(self) -> &'static str {
        match self {
            Self::Lost => "events were lost",
            Self::Unread => "memory of the program could not be read",
            Self::TooMany => "there were too many contexts or requests to follow",
            Self::LeftOut => "not every call was recorded (-c, --only, --sample)",
            Self::Older => "the context was not seen to be made, nor found at the attach",
            Self::Unmatched => "some completions belong to no request that was seen",
            Self::Window => "these probes see completions only at the next call",
            Self::Ended => "the trace ended first",
            Self::Scan => "a scan sees no registers, and no handle in another form",
            Self::SharedMemory => {
                "a child that shares its memory, and is not traced (-f traces it), may live on, and the contexts with it"
            }
            Self::Covered => {
                "something else is mapped where its ring was, and if the kernel takes that for the ring, the handle works"
            }
            Self::OtherContext => "the same request was submitted to another context",
            Self::OtherSetup => {
                "another io_setup was called, for another number of requests or with another ctxp: perhaps in its place"
            }
            Self::InRing => {
                "the program reaps from the ring by itself, and may have read the result before it was changed"
            }
            Self::UnknownPlace => {
                "a read(2) or write(2) on the descriptor may have done it: its offset is unknown"
            }
            Self::OtherDescriptor => {
                "the same range was read or written through another descriptor: perhaps of the same file"
            }
            Self::UnknownLength => {
                "a call at the same offset may have done it: the sizes of its vectors are unknown"
            }
            Self::Syncfs => {
                "syncfs(2) was called on another descriptor: perhaps of the same file system"
            }
            Self::Vectors => {
                "its iovecs are unknown (they could not be read, or there were too many), so it may have had other memory"
            }
            Self::Closed => {
                "its descriptor was closed: what was done through its number may be of another file"
            }
            Self::Append => {
                "the file is open with O_APPEND, so it may have been the next write, which looks the same"
            }
            Self::Stopped => {
                "ptrace stops the thread before io_submit returns to it, and a disk may have completed them meanwhile"
            }
            Self::Late => "it came more than a second later, so it may be the program's next one",
            Self::AnotherThread => {
                "another thread made it, for itself, or instead of the one that got the fault"
            }
            Self::OtherArguments => {
                "the call had other arguments, so it may have been for something else"
            }
            Self::OtherBuffer => {
                "it was made with other memory, so it may be the program's next one"
            }
            Self::Submitted => {
                "the program did something else in between, so it may be its next one"
            }
            Self::Used => {
                "the program makes the same request at other times, too, so what seems to be a retry may be its next \
                 one, and the one that met the fault may be lost"
            }
            Self::Stream => {
                "the descriptor leads to a pipe, a socket or a character device, where places say nothing: the next \
                 write looks the same, and send(2) may have done it"
            }
            Self::Unseen => {
                "sendfile(2), copy_file_range(2), splice(2), fallocate(2), msync(2) or io_uring may have done it: what \
                 they do is not seen"
            }
            Self::Mapped => {
                "the process has mapped the file, and what it reads from the mapping, or stores there, is not seen"
            }
            Self::SharedFile => {
                "another process has the file open, and what it does with it is not seen"
            }
            Self::ManySharers => {
                "there are more descriptors on this machine than are looked at, and some may be of the file"
            }
            Self::Forked => {
                "a child process that has the same files may do it: it is not watched, or goes on"
            }
            Self::Below => {
                "a process below this one is not traced (-f traces it), and may have opened the file since"
            }
            Self::Partly => "other requests have done a part of the same range",
            Self::Poll => "poll(2) and epoll_wait(2), which may do it, are not watched",
            Self::NoStack => {
                "it is unknown where contexts were made, so they may come from several places"
            }
            Self::Grown => {
                "the file may have grown since: perhaps the read ended where the file did"
            }
            Self::Unlooked => {
                "nobody could look in time by what else it may have been done (the process had ended, or faults came \
                 too fast): a mapping of the file, io_uring, or another process that has the file"
            }
            Self::Unmapped => {
                "memory was unmapped before the mappings were looked at, perhaps of the file: what was stored there is \
                 not seen"
            }
            Self::Exec => {
                "the program that it ran next has its descriptors, and may do it: what that does is not watched"
            }
            Self::Fdatasync => {
                "an fdatasync was made instead, which leaves out what is not needed to read the data"
            }
            Self::Reused => "the address of the context was given to another one meanwhile",
            Self::OtherPlace => {
                "it was called from another place in the program: perhaps for another context"
            }
            Self::Unreaped => {
                "requests were left that nobody reaped, so the program may have taken the failed call for one of its \
                 waits"
            }
            Self::Periodic => {
                "it came after a pause, and was not watched for long enough after that to tell a retry from a request \
                 that is made again and again"
            }
            Self::Refilled => {
                "the program read something else into the same memory in between, so it may be its next one"
            }
            Self::NotWatched => {
                "pread(2), pwrite(2) and the like, which may do it, are not watched"
            }
            Self::Unanswered => "a process did not answer when it was looked at",
            Self::Signal => {
                "a signal that the program handles, also of a timer, would end the wait, and its handler may submit"
            }
            Self::OtherThread => {
                "another thread is alive and may submit, although it never has so far"
            }
            Self::ReadLater => {
                "the timeout was read later than the kernel had read it, and may have been another one"
            }
            Self::BeforeAttach => "what the program did before the attach is unknown",
            Self::OtherWriter => {
                "something else has written to the file, too, and may have cut it before"
            }
            Self::Cleared => "O_APPEND may have been cleared for some of the writes, and set again",
            Self::Later => {
                "it was looked up only after the request, and may have changed in between"
            }
            Self::Tracer => {
                "ptrace stops the thread before io_submit returns to it, and a part of the time may be aiotrace's"
            }
            Self::Guessed => "the alignment is a guess, because statx(2) does not report it",
        }
    }
}
