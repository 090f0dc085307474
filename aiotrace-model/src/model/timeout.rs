//! How long an io_getevents waits at most, by its arguments, as the kernel reads them.

use super::SECOND;
use crate::event::{Address, Timespec};

/// How long a call waits for the completions that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It takes what is there, and returns.
    AtOnce,
    /// For this many nanoseconds; the kernel may add the slack of the thread's timers, which is 50 us by default.
    Within(u64),
    /// For as long as it takes.
    Ever,
    /// Its timeout could not be read.
    Unknown,
}

impl Until {
    /// The wait of a call with these arguments. A call that wants nothing (`min_nr` 0) returns at once, whatever its
    /// timeout is, even if it has none; a negative timeout never ends.
    /// (<https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n1346>)
    pub fn of(min_nr: i64, timeout: Address, value: Option<Timespec>) -> Self {
        if min_nr <= 0 {
            return Self::AtOnce;
        }
        if timeout.0 == 0 {
            return Self::Ever;
        }
        let Some(Timespec { sec, nsec }) = value else { return Self::Unknown };
        // The kernel does not check the value: `ktime_set`
        // (<https://elixir.bootlin.com/linux/v6.12.117/source/include/linux/ktime.h#L36>).
        if sec >= i64::MAX / SECOND as i64 {
            return Self::Ever;
        }
        match sec.wrapping_mul(SECOND as i64).wrapping_add(nsec) {
            0 => Self::AtOnce,
            nanos => u64::try_from(nanos).map_or(Self::Ever, Self::Within),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_what_the_kernel_makes_of_it() {
        let of = |min_nr, sec, nsec| Until::of(min_nr, Address(8), Some(Timespec { sec, nsec }));
        assert_eq!(of(1, 0, 0), Until::AtOnce);
        assert_eq!(of(0, 9, 0), Until::AtOnce);
        assert_eq!(of(1, 1, 5), Until::Within(1_000_000_005));
        assert_eq!((of(1, -1, 0), of(1, 0, -1)), (Until::Ever, Until::Ever));
        assert_eq!(of(1, -1, 2_000_000_000), Until::Within(1_000_000_000));
        assert_eq!((of(1, i64::MAX, 0), of(1, i64::MIN, i64::MIN)), (Until::Ever, Until::Ever));
        assert_eq!(Until::of(0, Address(0), None), Until::AtOnce);
        assert_eq!(Until::of(1, Address(0), None), Until::Ever);
        assert_eq!(Until::of(1, Address(8), None), Until::Unknown);
    }
}
