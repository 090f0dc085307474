//! Programs that run in place of a kernel function (fmod_ret). The loader library does not know
//! them, so this module takes them from the same object, with its maps, and gives them to the
//! kernel.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use super::error::objection;
use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object,
    btf::{Btf, BtfKind},
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type},
};

/// Why a program could not be put in place of a function.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object cannot be parsed.
    #[error("the BPF object cannot be read again")]
    Object,
    /// A map of the object is not loaded, or of an unknown kind.
    #[error("the BPF object has a map that is not loaded, or is of an unknown kind: {0}")]
    Map(String),
    /// The object has no program of this name.
    #[error("the BPF object has no program {0}")]
    Missing(&'static str),
    /// The kernel has no such function, or its BTF does not have it.
    #[error("this kernel has no function {0}")]
    Function(&'static str),
    /// The kernel refused the program.
    #[error("the kernel does not let BPF stand in for {at}: {reason}")]
    Refused {
        /// The function.
        at: &'static str,
        /// What the verifier says, or the errno.
        reason: String,
    },
    /// The kernel refused to attach the program.
    #[error("the kernel refuses to attach to {at}")]
    Attach {
        /// The function.
        at: &'static str,
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
}

/// The programs of an object, with the maps of one that is loaded.
pub struct Programs(Object);

impl Programs {
    /// Parses the object of `ebpf` again.
    ///
    /// # Errors
    /// [`Error::Object`]
    pub fn new(object: &[u8], ebpf: &Ebpf) -> Result<Self, Error> {
        let mut object = Object::parse(object).map_err(|_| Error::Object)?;
        let maps = std::mem::take(&mut object.maps);
        // Every map must be here: in place of a missing one, the library would put another into the
        // program.
        let with_fd = maps.iter().map(|(name, map)| {
            let fd = ebpf.map(name).and_then(fd).ok_or_else(|| Error::Map(name.clone()))?;
            Ok((name.as_str(), fd, map))
        });
        let with_fd = with_fd.collect::<Result<Vec<_>, Error>>()?;
        let sections: HashSet<usize> =
            object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(with_fd.into_iter(), &sections).map_err(|_| Error::Object)?;
        object.relocate_calls(&sections).map_err(|_| Error::Object)?;
        Ok(Self(object))
    }

    /// Loads a program and attaches it to a function; it stays attached until the descriptor is
    /// closed.
    ///
    /// # Errors
    /// If the kernel refuses the program.
    pub fn attach(
        &self,
        program: &'static str,
        at: &'static str,
        btf: &Btf,
    ) -> Result<OwnedFd, Error> {
        let found = self.0.programs.get(program).ok_or(Error::Missing(program))?;
        let function =
            self.0.functions.get(&found.function_key()).ok_or(Error::Missing(program))?;
        let id = btf.id_by_type_name_kind(at, BtfKind::Func).map_err(|_| Error::Function(at))?;
        let license = CString::from(found.license.as_c_str());
        let mut log = vec![0u8; 64 << 10];
        // SAFETY: all its fields are numbers.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: this is the part of the union for this command.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
        load.expected_attach_type = bpf_attach_type::BPF_MODIFY_RETURN as u32;
        load.attach_btf_id = id;
        load.insns = function.instructions.as_ptr() as u64;
        load.insn_cnt = function.instructions.len() as u32;
        load.license = license.as_ptr() as u64;
        load.log_level = 1;
        load.log_size = log.len() as u32;
        load.log_buf = log.as_mut_ptr() as u64;
        let loaded = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map_err(|error| Error::Refused {
            at,
            reason: CStr::from_bytes_until_nul(&log)
                .ok()
                .and_then(|log| objection(&log.to_string_lossy()))
                .unwrap_or_else(|| error.to_string()),
        })?;
        // SAFETY: all its fields are numbers.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        attr.raw_tracepoint.prog_fd = loaded.as_fd().as_raw_fd() as u32;
        bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
            .map_err(|source| Error::Attach { at, source })
    }
}

fn fd(map: &Map) -> Option<RawFd> {
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::PerCpuHashMap(data)
    | Map::PerCpuLruHashMap(data)
    | Map::Queue(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}

/// bpf(2), for commands that return a descriptor.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: everything that the attributes point to lives in the caller.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i64,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
