//! arm64, with arm (EABI) for 32-bit programs.

use std::mem::size_of;

use aiotrace_common::arch::Place;
use framehop::aarch64::{CacheAarch64, UnwindRegsAarch64, UnwinderAarch64};
use nix::errno::Errno;

use super::{Before, Ended, RESTART, signed};

/// `AUDIT_ARCH_AARCH64` of include/uapi/linux/audit.h.
pub const NATIVE: u32 = 0xc000_00b7;
/// `AUDIT_ARCH_ARM`
pub const COMPAT: u32 = 0x4000_0028;

/// The oldest kernel that has all that aiotrace needs (before 5.18 programs cannot add to a
/// counter and read it; it is tested from 6.1 on).
pub const MINIMUM_KERNEL: (u32, u32) = (6, 1);
/// The same in words.
pub const TOO_OLD: &str = "aiotrace needs Linux 6.1 or newer";

/// The numbers of clone, for 64-bit and for 32-bit programs.
pub const CLONE: [u64; 2] = [220, 120];

/// The numbers of prctl(2) and seccomp(2) in each table: by them a program may install a filter of its own.
pub const INSTALLS: [(u32, [u64; 2]); 2] = [(NATIVE, [167, 277]), (COMPAT, [172, 383])];

/// Calls that fail with EINTR when they are interrupted, also by a stop, and that may simply be made again, because
/// they have done nothing then. They are those of signal(7), others in which we saw it (io_uring_enter), and others
/// that reach the same code (read and write of a socket with a timeout, or of a file of FUSE). close(2) is not among
/// them, because the descriptor is closed already.
pub const AGAIN_IN_64_BIT: &[u64] = &[
    63, 64, 65, 66, 67, 68, 69, 70, 286, 287, // read, write, and all their kinds
    71, 76, // sendfile, splice
    203, 202, 242, // connect, accept, accept4
    206, 207, 211, 212, 243, 269, // sendto, recvfrom, sendmsg, recvmsg, recvmmsg, sendmmsg
    193, 192, // semop, semtimedop
    137, // rt_sigtimedwait
    4,   // io_getevents
    22, 441, // epoll_pwait, epoll_pwait2
    426, // io_uring_enter
];
/// The same calls in 32-bit programs.
pub const AGAIN_IN_32_BIT: &[u64] = &[
    3, 4, 145, 146, 180, 181, 361, 362, 392, 393, // read, write, and all their kinds
    187, 239, 340, // sendfile, sendfile64, splice
    283, 285, 366, // connect, accept, accept4
    289, 290, 291, 292, 296, 297, 365, 417, 374, // send to sendmmsg, and recvmmsg_time64
    298, 312, 420, // semop, semtimedop twice (`semtimedop_time64`)
    177, 421, // rt_sigtimedwait, and with 64-bit times
    245, // io_getevents
    252, 346, 441, // epoll_wait, epoll_pwait, epoll_pwait2
    426, // io_uring_enter
];

/// write(2) and sendto(2), in 64-bit and in 32-bit programs.
pub const WRITE: [[u64; 2]; 2] = [[64, 206], [4, 290]];

/// Whether what [`Registers::ended`] needs must be looked up before a thread is interrupted: the kernel has forgotten the
/// call when the thread stops for anything but the end of the call (`do_signal`,
/// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/kernel/signal.c#L1271>).
pub const NEEDS_BEFORE: bool = true;

/// `NT_PRSTATUS` and `NT_ARM_SYSTEM_CALL` of include/uapi/linux/elf.h.
const NT_PRSTATUS: usize = 1;
const NT_ARM_SYSTEM_CALL: usize = 0x404;
/// `CPSR.T`: a 32-bit program runs Thumb code, whose `svc` has two bytes.
const THUMB: u32 = 0x20;

/// The registers of a 32-bit program: r0 to r15, cpsr, and r0 as it was when the call began.
type Narrow = [u32; 18];

/// Which registers a thread has.
#[derive(Clone, Copy)]
enum Form {
    Wide(libc::user_regs_struct),
    Narrow(Narrow),
}

/// The registers of a stopped thread.
#[derive(Clone, Copy)]
pub struct Registers {
    form: Form,
    number: i32,
    is_left_out: bool,
}

impl Registers {
    /// The registers of this thread.
    ///
    /// # Errors
    /// The thread is dead.
    pub fn of(tid: u32) -> Result<Self, Errno> {
        // SAFETY: the structure holds only numbers.
        let mut wide: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: there is room for the larger of both forms.
        let size = unsafe { get(tid, NT_PRSTATUS, (&raw mut wide).cast(), size_of_val(&wide))? };
        let form = if size == size_of::<Narrow>() {
            // SAFETY: any bytes are numbers, and the structure is larger.
            Form::Narrow(unsafe { (&raw const wide).cast::<Narrow>().read() })
        } else {
            Form::Wide(wide)
        };
        let mut number = -1i32;
        // SAFETY: there is room for the number.
        unsafe { get(tid, NT_ARM_SYSTEM_CALL, (&raw mut number).cast(), size_of_val(&number))? };
        Ok(Self { form, number, is_left_out: false })
    }

    /// Changes the registers of this thread.
    ///
    /// # Errors
    /// The thread is dead.
    pub fn put(&self, tid: u32) -> Result<(), Errno> {
        let (at, size) = match &self.form {
            Form::Wide(it) => (std::ptr::from_ref(it).cast(), size_of_val(it)),
            Form::Narrow(it) => (std::ptr::from_ref(it).cast(), size_of_val(it)),
        };
        // SAFETY: the registers are complete.
        unsafe { set(tid, NT_PRSTATUS, at, size)? };
        if self.is_left_out {
            let none = -1i32;
            // SAFETY: the number lives during the call.
            unsafe {
                set(tid, NT_ARM_SYSTEM_CALL, (&raw const none).cast(), size_of_val(&none))?;
            }
        }
        Ok(())
    }

    /// Whether the thread runs 32-bit code.
    pub fn is_32_bit(&self) -> bool {
        matches!(self.form, Form::Narrow(_))
    }

    /// The number of the call in which the thread is stopped; negative, if it is in none.
    pub fn number(&self) -> i64 {
        self.number.into()
    }

    fn word(&self, index: usize) -> u64 {
        match &self.form {
            Form::Wide(it) => it.regs[index],
            Form::Narrow(it) => it[index].into(),
        }
    }

    fn set_word(&mut self, index: usize, value: u64) {
        match &mut self.form {
            Form::Wide(it) => it.regs[index] = value,
            Form::Narrow(it) => it[index] = value as u32,
        }
    }

    /// The instruction pointer.
    fn ip(&self) -> u64 {
        match &self.form {
            Form::Wide(it) => it.pc,
            Form::Narrow(it) => it[15].into(),
        }
    }

    fn step_back(&mut self) {
        let back = self.ip().wrapping_sub(self.instruction());
        match &mut self.form {
            Form::Wide(it) => it.pc = back,
            Form::Narrow(it) => it[15] = back as u32,
        }
    }

    /// Length of the instruction of a system call.
    fn instruction(&self) -> u64 {
        match &self.form {
            Form::Narrow(it) if it[16] & THUMB != 0 => 2,
            _ => 4,
        }
    }

    /// What the call returns.
    pub fn ret(&self) -> i64 {
        let word = self.word(0);
        if self.is_32_bit() { i64::from(word as u32 as i32) } else { word as i64 }
    }

    /// What a call returns in which the thread was killed. The register still has the first argument, if the call
    /// had no result yet.
    pub fn ret_of_killed(&self, first: u64) -> i64 {
        if self.word(0) == first { -i64::from(libc::EINTR) } else { self.ret() }
    }

    /// Lets the call return this.
    pub fn set_ret(&mut self, ret: i64) {
        self.set_word(0, ret as u64);
    }

    /// The arguments of the call. At its end, the result is in the place of the first one.
    pub fn args(&self) -> [u64; 6] {
        std::array::from_fn(|index| self.word(index))
    }

    /// Changes the first argument of a call.
    pub fn set_first(&mut self, _table: u32, value: u64) {
        self.set_word(0, value);
    }

    /// Changes the second argument, and returns what it was.
    pub fn replace_second(&mut self, value: u64) -> u64 {
        let was = self.word(1);
        self.set_word(1, value);
        was
    }

    /// The place of the call.
    pub fn place(&self) -> Place {
        match &self.form {
            Form::Wide(it) => Place { ip: it.pc, sp: it.sp, bp: it.regs[29], link: [it.regs[30]] },
            Form::Narrow(it) => {
                let of = |index: usize| u64::from(it[index]);
                Place { ip: of(15), sp: of(13), bp: of(11), link: [of(14)] }
            }
        }
    }

    /// Leaves out the call that is about to begin: it returns this. (The kernel sets no result then, so we do:
    /// <https://elixir.bootlin.com/linux/v6.12/source/arch/arm64/kernel/syscall.c#L95>)
    pub fn leave_out(&mut self, ret: i64) {
        self.is_left_out = true;
        self.set_ret(ret);
    }

    /// Makes the call that is about to begin a moment later: instead of it, one that does nothing and changes no
    /// register is made, and then the thread goes back to the instruction.
    pub fn put_off(&mut self) {
        self.is_left_out = true;
        self.step_back();
    }

    /// The call at whose end the thread is stopped.
    pub fn ended(&self, before: Option<&Before>) -> Option<Ended> {
        if let Ok(number) = u64::try_from(self.number) {
            return Some(Ended { number, args: self.args(), ret: self.ret() });
        }
        let Before { number, args, ip } = *before?;
        // The kernel has already gone back to the instruction of a call that it will make again.
        let ret = if self.ip() == ip {
            self.ret()
        } else if self.ip() == ip.wrapping_sub(self.instruction()) && self.word(0) == args[0] {
            RESTART
        } else {
            return None;
        };
        Some(Ended { number, args, ret })
    }

    /// Lets the thread make the call again at whose end it is stopped. At the end of a call, the kernel decides when it
    /// has looked at all signals: one that comes after our look still interrupts. At other stops it has decided.
    pub fn make_again(&mut self, ended: &Ended) {
        if self.number >= 0 {
            return self.set_ret(RESTART);
        }
        self.set_word(0, ended.args[0]);
        self.step_back();
    }
}

/// Reads a set of registers, and returns how many bytes it has.
///
/// # Safety
/// There is room for `size` bytes.
unsafe fn get(tid: u32, set: usize, to: *mut libc::c_void, size: usize) -> Result<usize, Errno> {
    let mut room = libc::iovec { iov_base: to, iov_len: size };
    // SAFETY: the caller's.
    let got =
        unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid as libc::pid_t, set, &raw mut room) };
    Errno::result(got).map(|_| room.iov_len)
}

/// Changes a set of registers.
///
/// # Safety
/// There are `size` bytes.
unsafe fn set(tid: u32, set: usize, from: *const libc::c_void, size: usize) -> Result<(), Errno> {
    let bytes = libc::iovec { iov_base: from.cast_mut(), iov_len: size };
    // SAFETY: the caller's; the kernel only reads.
    let put =
        unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid as libc::pid_t, set, &raw const bytes) };
    Errno::result(put).map(drop)
}

// PTRACE_SEIZE, for [`crate::source::ptrace`]. The call has a name, so that a signal handler can see whether a thread
// is in it.
core::arch::global_asm!(
    ".globl aiotrace_seize",
    ".hidden aiotrace_seize",
    "aiotrace_seize:",
    "mov x8, {number}",
    ".globl aiotrace_seize_call",
    ".hidden aiotrace_seize_call",
    "aiotrace_seize_call:",
    "svc 0",
    "ret",
    number = const libc::SYS_ptrace,
);

/// The type of a register in the context of a signal handler.
pub type Word = u64;

/// Where the context of a signal handler has the instruction pointer.
pub fn ip_of(context: &mut libc::ucontext_t) -> &mut Word {
    &mut context.uc_mcontext.pc
}

/// Where it has the result of a system call.
pub fn result_of(context: &mut libc::ucontext_t) -> &mut Word {
    &mut context.uc_mcontext.regs[0]
}

/// Length of the instruction of a system call, in bytes.
pub const LENGTH: i64 = 4;

/// Unwinds stacks.
pub type Unwinder<D> = UnwinderAarch64<D>;
/// What an unwinder remembers.
pub type Cache = CacheAarch64;

/// Makes the tables of a file such that the unwinder reads them.
pub use super::signed::unmark as prepare_tables;

/// The registers with which unwinding begins. Return addresses may be signed.
pub fn unwound_from(place: &Place, highest: u64) -> UnwindRegsAarch64 {
    let mask = signed::mask(highest, place.sp);
    UnwindRegsAarch64::new_with_ptr_auth_mask(mask, place.link[0], place.sp, place.bp)
}
