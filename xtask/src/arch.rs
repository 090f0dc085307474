//! The architectures whose kernels the guests run, and how each is built for and booted.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use clap::ValueEnum;
use flate2::read::GzDecoder;

/// An architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Architecture {
    /// x86-64
    #[value(name = "x86_64")]
    X86,
    /// arm64
    #[value(name = "aarch64")]
    Arm,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::X86, Self::Arm];

    /// This machine's.
    pub fn own() -> Self {
        Self::ALL.into_iter().find(|it| it.target().is_none()).unwrap_or(Self::X86)
    }

    /// The name that Rust has for it, which is also that in `--arch` and in the table of kernels.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// The name that Debian has for it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// What cargo builds for where this is not the machine's own architecture: a target that needs no
    /// C library and no linker but the one that comes with Rust.
    pub fn target(self) -> Option<&'static str> {
        let is_own = std::env::consts::ARCH == self.name();
        (!is_own).then_some(match self {
            Self::X86 => "x86_64-unknown-linux-musl",
            Self::Arm => "aarch64-unknown-linux-musl",
        })
    }

    /// What cargo builds the 32-bit program for. (It is built without a standard library.)
    pub fn target_32(self) -> &'static str {
        match self {
            Self::X86 => "i686-unknown-linux-gnu",
            Self::Arm => "armv7-unknown-linux-gnueabi",
        }
    }

    /// The program that boots kernels of it.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::X86 => "qemu-system-x86_64",
            Self::Arm => "qemu-system-aarch64",
        }
    }

    /// The architecture of a kernel, which may be compressed with gzip: the head of its file says it.
    /// `None`: it is another kind of file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_kernel(file: &Path) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        File::open(file)?.take(HEAD).read_to_end(&mut head)?;
        if head.starts_with(&[0x1f, 0x8b]) {
            let mut inner = Vec::new();
            // The rest of the file is not needed.
            let _ = GzDecoder::new(File::open(file)?).take(HEAD).read_to_end(&mut inner);
            head = inner;
        }
        Ok(Self::of_head(&head))
    }

    /// The magic numbers of the boot protocols:
    /// <https://elixir.bootlin.com/linux/v6.12/source/Documentation/arch/x86/boot.rst>,
    /// <https://elixir.bootlin.com/linux/v6.12/source/Documentation/arch/arm64/booting.rst>.
    fn of_head(head: &[u8]) -> Option<Self> {
        let has = |at: usize, what: &[u8]| head.get(at..at + what.len()) == Some(what);
        match () {
            () if has(0x202, b"HdrS") => Some(Self::X86),
            () if has(0x38, b"ARM\x64") => Some(Self::Arm),
            () => None,
        }
    }
}

/// How much of a kernel says what it is, in bytes.
const HEAD: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_kernel_says_its_architecture() {
        let with = |at: usize, what: &[u8]| {
            let mut head = vec![0; HEAD as usize];
            head[at..at + what.len()].copy_from_slice(what);
            head
        };
        assert_eq!(Architecture::of_head(&with(0x202, b"HdrS")), Some(Architecture::X86));
        assert_eq!(Architecture::of_head(&with(0x38, b"ARM\x64")), Some(Architecture::Arm));
        assert_eq!(Architecture::of_head(&with(0x38, b"RISC")), None);
        assert_eq!(Architecture::of_head(b"#!"), None);
    }

    #[test]
    fn a_compressed_kernel_is_looked_into() {
        use io::Write as _;
        let mut head = vec![0; HEAD as usize];
        head[0x38..0x3c].copy_from_slice(b"ARM\x64");
        let path = std::env::temp_dir().join(format!("xtask-kernel-{}", std::process::id()));
        let mut file = flate2::write::GzEncoder::new(
            File::create(&path).expect("a file"),
            flate2::Compression::fast(),
        );
        file.write_all(&head).expect("room");
        file.finish().expect("room");
        let found = Architecture::of_kernel(&path).expect("a file");
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(found, Some(Architecture::Arm));
    }
}
