//! `--host-root`: where the files of container engines are.

use std::path::PathBuf;

use clap::Args;

use crate::names::Names;

/// Where the names of containers and pods are read.
#[derive(Clone, Debug, Args)]
pub struct HostRoot {
    /// Read the names of containers and pods below this directory: in a container, where the machine's own root is mounted
    #[arg(hide_short_help = true, long, value_name = "DIRECTORY", default_value = "/", value_hint = clap::ValueHint::DirPath)]
    host_root: PathBuf,
}

impl HostRoot {
    /// What knows the names.
    pub fn names(&self) -> Names {
        Names::below(&self.host_root)
    }

    /// The directory.
    pub fn path(self) -> PathBuf {
        self.host_root
    }
}
