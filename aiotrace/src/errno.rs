//! Names of errnos, and what strerror(3) says of them.

use std::sync::LazyLock;

use nix::errno::Errno;

struct Known {
    name: String,
    text: String,
}

/// By number. nix knows the names, but only as `Debug`.
static KNOWN: LazyLock<Vec<Option<Known>>> = LazyLock::new(|| {
    let known = |number| match Errno::from_raw(number) {
        Errno::UnknownErrno => None,
        errno => {
            let text = std::io::Error::from_raw_os_error(number).to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            Some(Known { name: format!("{errno:?}"), text })
        }
    };
    (0..=133).map(known).collect()
});

/// The name of an errno (a positive number), if it has one.
pub fn name(number: i32) -> Option<&'static str> {
    known(number).map(|it| it.name.as_str())
}

/// What strerror(3) says of it.
pub fn text(number: i32) -> Option<&'static str> {
    known(number).map(|it| it.text.as_str())
}

fn known(number: i32) -> Option<&'static Known> {
    KNOWN.get(usize::try_from(number).ok()?)?.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_strace() {
        assert_eq!(name(libc::EAGAIN), Some("EAGAIN"));
        assert_eq!(text(libc::EAGAIN), Some("Resource temporarily unavailable"));
        assert_eq!(text(libc::EBADF), Some("Bad file descriptor"));
        assert_eq!(name(-1), None);
        assert_eq!(name(4000), None);
    }
}
