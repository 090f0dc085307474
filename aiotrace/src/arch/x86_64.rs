//! x86-64, with i386 for 32-bit programs.

use aiotrace_common::arch::Place;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use nix::errno::Errno;

use super::{Before, Ended, RESTART};

/// `AUDIT_ARCH_X86_64` of include/uapi/linux/audit.h.
pub const NATIVE: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`
pub const COMPAT: u32 = 0x4000_0003;

/// The oldest kernel that has all that aiotrace needs (ring buffers came with 5.8; it is tested
/// from 5.10 on).
pub const MINIMUM_KERNEL: (u32, u32) = (5, 10);
/// The same in words.
pub const TOO_OLD: &str = "aiotrace needs Linux 5.10 or newer";

/// The numbers of clone, for 64-bit and for 32-bit programs.
pub const CLONE: [u64; 2] = [56, 120];

/// The numbers of prctl(2) and seccomp(2) in each table: by them a program may install a filter of its own.
pub const INSTALLS: [(u32, [u64; 2]); 2] = [(NATIVE, [157, 317]), (COMPAT, [172, 354])];

/// Calls that fail with EINTR when they are interrupted, also by a stop, and that may simply be made again, because
/// they have done nothing then. They are those of signal(7), others in which we saw it (io_uring_enter), and others
/// that reach the same code (read and write of a socket with a timeout, or of a file of FUSE). close(2) is not among
/// them, because the descriptor is closed already.
pub const AGAIN_IN_64_BIT: &[u64] = &[
    0, 1, 17, 18, 19, 20, 295, 296, 327, 328, // read, write, and all their kinds
    40, 275, // sendfile, splice
    42, 43, 288, // connect, accept, accept4
    44, 45, 46, 47, 299, 307, // sendto, recvfrom, sendmsg, recvmsg, recvmmsg, sendmmsg
    65, 220, // semop, semtimedop
    128, // rt_sigtimedwait
    208, // io_getevents
    232, 281, 441, // epoll_wait, epoll_pwait, epoll_pwait2
    426, // io_uring_enter
];
/// The same calls in 32-bit programs. `socketcall` and `ipc` stand for several calls each; those of them that may not
/// be made again do not fail with EINTR.
pub const AGAIN_IN_32_BIT: &[u64] = &[
    3, 4, 145, 146, 180, 181, 333, 334, 378, 379, // read, write, and all their kinds
    187, 239, 313, // sendfile, sendfile64, splice
    102, 362, 364, // socketcall, connect, accept4
    369, 371, 370, 372, 337, 417, 345, // sendto to sendmmsg, and recvmmsg_time64
    117, 392, 420, // ipc, semtimedop twice (`semtimedop_time64`)
    177, 421, // rt_sigtimedwait, and with 64-bit times
    247, // io_getevents
    256, 319, 441, // epoll_wait, epoll_pwait, epoll_pwait2
    426, // io_uring_enter
];

/// write(2) and sendto(2), in 64-bit and in 32-bit programs.
pub const WRITE: [[u64; 2]; 2] = [[1, 44], [4, 369]];

/// Whether what [`Registers::ended`] needs must be looked up before a thread is interrupted: here the
/// registers have it all.
pub const NEEDS_BEFORE: bool = false;

/// Length of `syscall` and of `int 0x80`; the kernel goes back by as much where it makes a call again.
const INSTRUCTION: u64 = 2;
/// `__USER32_CS` of arch/x86/include/asm/segment.h.
const USER_32: u64 = 0x23;

/// The registers of a stopped thread.
#[derive(Clone, Copy)]
pub struct Registers(libc::user_regs_struct);

impl Registers {
    /// The registers of this thread.
    ///
    /// # Errors
    /// The thread is dead.
    pub fn of(tid: u32) -> Result<Self, Errno> {
        // SAFETY: the structure holds only numbers.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: there is room for the registers.
        let got = unsafe {
            libc::ptrace(libc::PTRACE_GETREGS, tid as libc::pid_t, 0, &raw mut registers)
        };
        Errno::result(got).map(|_| Self(registers))
    }

    /// Changes the registers of this thread.
    ///
    /// # Errors
    /// The thread is dead.
    pub fn put(&self, tid: u32) -> Result<(), Errno> {
        // SAFETY: the registers are complete.
        let put =
            unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid as libc::pid_t, 0, &raw const self.0) };
        Errno::result(put).map(drop)
    }

    /// Whether the thread runs 32-bit code.
    pub fn is_32_bit(&self) -> bool {
        self.0.cs == USER_32
    }

    /// The number of the call in which the thread is stopped; negative, if it is in none.
    pub fn number(&self) -> i64 {
        self.0.orig_rax as i64
    }

    /// What the call returns.
    pub fn ret(&self) -> i64 {
        if self.is_32_bit() { i64::from(self.0.rax as i32) } else { self.0.rax as i64 }
    }

    /// What a call returns in which the thread was killed.
    pub fn ret_of_killed(&self, _first: u64) -> i64 {
        match self.0.rax as i64 {
            ret if ret == -i64::from(libc::ENOSYS) => -i64::from(libc::EINTR),
            ret => ret,
        }
    }

    /// Lets the call return this.
    pub fn set_ret(&mut self, ret: i64) {
        self.0.rax = ret as u64;
    }

    /// The arguments of the call.
    pub fn args(&self) -> [u64; 6] {
        let it = &self.0;
        if self.is_32_bit() {
            [it.rbx, it.rcx, it.rdx, it.rsi, it.rdi, it.rbp]
        } else {
            [it.rdi, it.rsi, it.rdx, it.r10, it.r8, it.r9]
        }
    }

    /// Changes the first argument of a call by this table. (A 64-bit program can use the 32-bit table, too.)
    pub fn set_first(&mut self, table: u32, value: u64) {
        *(if table == COMPAT { &mut self.0.rbx } else { &mut self.0.rdi }) = value;
    }

    /// Changes the second argument, and returns what it was.
    pub fn replace_second(&mut self, value: u64) -> u64 {
        let register = if self.is_32_bit() { &mut self.0.rcx } else { &mut self.0.rsi };
        std::mem::replace(register, value)
    }

    /// The place of the call.
    pub fn place(&self) -> Place {
        Place { ip: self.0.rip, sp: self.0.rsp, bp: self.0.rbp, link: [] }
    }

    /// Leaves out the call that is about to begin: it returns this.
    pub fn leave_out(&mut self, ret: i64) {
        self.0.orig_rax = u64::MAX;
        self.0.rax = ret as u64;
    }

    /// Makes the call that is about to begin a moment later: instead of it, one that does nothing and changes no
    /// register is made, and then the thread goes back to the instruction.
    pub fn put_off(&mut self) {
        let number = self.0.orig_rax;
        self.leave_out(number as i64);
        self.0.rip = self.0.rip.wrapping_sub(INSTRUCTION);
    }

    /// The call at whose end the thread is stopped.
    pub fn ended(&self, _before: Option<&Before>) -> Option<Ended> {
        let number = u64::try_from(self.number()).ok()?;
        Some(Ended { number, args: self.args(), ret: self.ret() })
    }

    /// Lets the thread make the call again at whose end it is stopped. The kernel decides when it has looked at all
    /// signals: one that comes after our look still interrupts.
    pub fn make_again(&mut self, _ended: &Ended) {
        self.set_ret(RESTART);
    }
}

// PTRACE_SEIZE, for [`crate::source::ptrace`]. The call has a name, so that a signal handler can see whether a thread
// is in it.
core::arch::global_asm!(
    ".globl aiotrace_seize",
    ".hidden aiotrace_seize",
    "aiotrace_seize:",
    "mov r10, rcx",
    "mov eax, {number}",
    ".globl aiotrace_seize_call",
    ".hidden aiotrace_seize_call",
    "aiotrace_seize_call:",
    "syscall",
    "ret",
    number = const libc::SYS_ptrace,
);

/// The type of a register in the context of a signal handler.
pub type Word = i64;

/// Where the context of a signal handler has the instruction pointer.
pub fn ip_of(context: &mut libc::ucontext_t) -> &mut Word {
    &mut context.uc_mcontext.gregs[libc::REG_RIP as usize]
}

/// Where it has the result of a system call.
pub fn result_of(context: &mut libc::ucontext_t) -> &mut Word {
    &mut context.uc_mcontext.gregs[libc::REG_RAX as usize]
}

/// Length of the instruction of a system call, in bytes.
pub const LENGTH: i64 = INSTRUCTION as i64;

/// Makes the tables of a file such that the unwinder reads them: it does.
pub fn prepare_tables(_eh_frame: &mut [u8]) {}

/// Unwinds stacks.
pub type Unwinder<D> = UnwinderX86_64<D>;
/// What an unwinder remembers.
pub type Cache = CacheX86_64;

/// The registers with which unwinding begins.
pub fn unwound_from(place: &Place, _highest: u64) -> UnwindRegsX86_64 {
    UnwindRegsX86_64::new(place.ip, place.sp, place.bp)
}
