//! Distinguishes absence from failure: an object is absent if the kernel reports so, not if the lookup failed.

use std::io;

/// Turns the errors that report absence (`ENOENT`, `ENODEV`) into `None`.
pub(crate) fn if_present<T>(looked_up: io::Result<T>) -> io::Result<Option<T>> {
    match looked_up {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_errors_are_an_absence() {
        let looked_up = |code| if_present(Err::<(), _>(io::Error::from_raw_os_error(code)));
        for code in 1..=133 {
            let absent = matches!(looked_up(code), Ok(None));
            assert_eq!(absent, [libc::ENOENT, libc::ENODEV].contains(&code), "{}", io::Error::from_raw_os_error(code));
        }
        assert!(matches!(if_present(Ok(7)), Ok(Some(7))));
    }
}
