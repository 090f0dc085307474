//! Names of errnos.

use std::sync::LazyLock;

use nix::errno::Errno;

/// By number. nix knows the names, but only as `Debug`.
static NAMES: LazyLock<Vec<Option<String>>> = LazyLock::new(|| {
    let name = |number| match Errno::from_raw(number) {
        Errno::UnknownErrno => None,
        errno => Some(format!("{errno:?}")),
    };
    (0..=133).map(name).collect()
});

/// The name of an errno (a positive number), if it has one.
pub fn name(number: i32) -> Option<&'static str> {
    NAMES.get(usize::try_from(number).ok()?)?.as_deref()
}
