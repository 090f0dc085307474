//! Why aiotrace could not do what was asked, and what can be done about it. A failure is made where the cause is known,
//! and is printed in one place, by the command line.

use std::fmt::Display;

/// The result of a function that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// What could not be done, with all its causes in one line.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    text: String,
    hint: Option<String>,
    status: Option<u8>,
}

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None, status: None }
    }

    /// Puts what was being done before the text.
    #[must_use]
    pub fn during(mut self, what: impl Display) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }

    /// Adds what the user can do about it. If there is a hint already, it stays: it was made closer
    /// to the cause.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Sets the exit status for this failure.
    #[must_use]
    pub fn with_status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    /// What could not be done, and why.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit status, if this failure has one of its own.
    pub fn status(&self) -> Option<u8> {
        self.status
    }
}

/// A failure from an error and its causes.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(text)
    }
}

/// Adds to an error what was being done.
pub trait Context<T> {
    /// Puts what was being done before the error.
    ///
    /// # Errors
    /// The failure, with `what` before it.
    fn context(self, what: impl Display) -> Result<T>;

    /// Does the same, if it takes time to make the text.
    ///
    /// # Errors
    /// The failure, with `what` before it.
    fn with_context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

/// Adds to an error what the user can do about it.
pub trait Hint<T> {
    /// Adds what the user can do about it.
    ///
    /// # Errors
    /// The failure, with this hint.
    fn hint(self, hint: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|error| error.into().during(what))
    }

    fn with_context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().during(what()))
    }
}

impl<T, E: Into<Failure>> Hint<T> for std::result::Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().with_hint(hint))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, what: impl Display) -> Result<T> {
        self.ok_or_else(|| Failure::new(what.to_string()))
    }

    fn with_context<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.ok_or_else(|| Failure::new(what().to_string()))
    }
}

/// Returns from a function with a failure of this text.
macro_rules! bail {
    ($($text:tt)*) => {
        return Err($crate::failure::Failure::new(format!($($text)*)))
    };
}
pub(crate) use bail;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_causes_are_in_one_line_and_the_first_hint_stays() {
        let cause = || Err::<(), _>(std::io::Error::from_raw_os_error(2));
        let failure = cause()
            .context("cannot open it")
            .hint("look for it")
            .with_context(|| "no trace")
            .hint("give up")
            .unwrap_err();
        assert_eq!(
            failure.text(),
            "no trace: cannot open it: No such file or directory (os error 2)"
        );
        assert_eq!((failure.hint(), failure.status()), (Some("look for it"), None));
        assert_eq!(None::<()>.context("gone").unwrap_err(), Failure::new("gone"));
    }
}
