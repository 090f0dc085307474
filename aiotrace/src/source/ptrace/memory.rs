//! The memory of a tracee. What cannot be read is unread: no error, and zeros in its place.

use std::{fs::File, io::IoSliceMut, os::unix::fs::FileExt as _};

use aiotrace_common::{
    abi::{Abi, Timespec},
    record::Memory as Mark,
};
use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use zerocopy::{FromBytes, IntoBytes};

/// The memory that a thread has.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The thread: the first one of a process may have ended.
    pub tid: u32,
}

impl Memory {
    /// All of it, or nothing.
    pub fn read(self, address: u64, to: &mut [u8]) -> bool {
        if to.is_empty() {
            return true;
        }
        let wanted = to.len();
        let Ok(base) = usize::try_from(address) else { return false };
        let remote = [RemoteIoVec { base, len: wanted }];
        let pid = Pid::from_raw(self.tid as i32);
        let read =
            base != 0 && process_vm_readv(pid, &mut [IoSliceMut::new(to)], &remote) == Ok(wanted);
        if !read {
            to.fill(0);
        }
        read
    }

    /// A value.
    pub fn value<T: FromBytes + IntoBytes + Default>(self, address: u64) -> Option<T> {
        let mut value = T::default();
        self.read(address, value.as_mut_bytes()).then_some(value)
    }

    /// A value, and whether it could be read.
    pub fn marked<T: FromBytes + IntoBytes + Default>(self, address: u64, how: Mark) -> (T, Mark) {
        let value = self.value(address);
        let mark = if value.is_some() { how } else { Mark::Unread };
        (value.unwrap_or_default(), mark)
    }

    /// A pointer of the program: of four bytes or of eight.
    pub fn pointer(self, address: u64, abi: Abi) -> Option<u64> {
        match abi.is_32_bit() {
            true => self.value::<u32>(address).map(u64::from),
            false => self.value(address),
        }
    }

    /// A timeout.
    pub fn timespec(self, address: u64, abi: Abi) -> Option<Timespec> {
        if !matches!(abi, Abi::I386) {
            return self.value(address);
        }
        let [sec, nsec] = self.value::<[i32; 2]>(address)?.map(i64::from);
        Some(Timespec { sec, nsec })
    }

    /// Writes, also where the program itself may not; whether that was possible.
    pub fn write(self, address: u64, bytes: &[u8]) -> bool {
        let file = File::options().write(true).open(format!("/proc/{}/mem", self.tid));
        file.is_ok_and(|file| file.write_all_at(bytes, address).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_whole_or_not_at_all() {
        let ours = Memory { tid: std::process::id() };
        let words = [7u32, 8];
        let at = words.as_ptr() as u64;
        assert_eq!(ours.value::<[u32; 2]>(at), Some([7, 8]));
        assert_eq!(ours.pointer(at, Abi::I386), Some(7));
        assert_eq!(ours.pointer(at, Abi::X86_64), Some(7 | 8 << 32));
        assert_eq!(ours.timespec(at, Abi::I386), Some(Timespec { sec: 7, nsec: 8 }));
        assert_eq!(ours.value::<u64>(0), None);
        let mut bytes = [1; 8];
        assert!(!ours.read(8, &mut bytes));
        assert_eq!(bytes, [0; 8]);
    }
}
