//! File systems that a test makes for itself.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::harness::cannot_run;

/// A file system that is mounted while this value lives.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a file system; `None` if that is not possible here, and then the test is ignored.
    fn new(kind: &str, source: &Path, options: &str, at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mut command = Command::new("mount");
        let output =
            command.args(["-t", kind, "-o", options]).args([source, &at]).output().unwrap();
        if !output.status.success() {
            cannot_run(&format!("no {kind}: {}", String::from_utf8_lossy(&output.stderr)));
            return None;
        }
        Some(Self(at))
    }

    /// An overlay of `lower` and `upper` in this directory.
    pub fn overlay(directory: &Path) -> Option<Self> {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| {
            let place = directory.join(name);
            std::fs::create_dir_all(&place).unwrap();
            place.display().to_string()
        });
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        Self::new("overlay", Path::new("overlay"), &options, directory.join("merged"))
    }

    /// A new file system of this kind, in a file in this directory.
    pub fn image(kind: &str, directory: &Path) -> Option<Self> {
        /// mkfs.xfs makes none below 300 MiB.
        const SIZE: u64 = 512 << 20;
        let (image, make) = (directory.join("image"), format!("mkfs.{kind}"));
        std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        match Command::new(&make).arg("-q").arg(&image).output() {
            Err(error) => {
                cannot_run(&format!("{make}: {error}"));
                return None;
            }
            Ok(output) => assert!(output.status.success(), "{make}: {output:?}"),
        }
        Self::new(kind, &image, "loop", directory.join("mounted"))
    }

    /// A file system in memory, at this place.
    pub fn memory(at: &Path, options: &str) -> Option<Self> {
        Self::new("tmpfs", Path::new("tmpfs"), options, at.to_owned())
    }

    /// The directory where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
