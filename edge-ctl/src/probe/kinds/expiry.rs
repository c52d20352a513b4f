//! Extracts the end of a certificate's validity, the only X.509 field that is shown to operators.

/// Tags of ASN.1.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER, in seconds since 1970 (RFC 5280, 4.1); `None` if it can't be parsed.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (whole, _) = value(certificate, SEQUENCE)?;
    let (mut rest, _) = value(whole, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = element(rest)?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        (_, rest) = element(rest)?;
    }
    let (validity, _) = value(rest, SEQUENCE)?;
    let (_, after) = element(validity)?;
    if let Some((text, _)) = value(after, UTC_TIME) {
        let (year, rest) = number(text, 2)?;
        return time(if year < 50 { 2000 + year } else { 1900 + year }, rest);
    }
    let (text, _) = value(after, GENERALIZED_TIME)?;
    let (year, rest) = number(text, 4)?;
    time(year, rest)
}

/// The content of the first element, which must have this tag, and the bytes after the element.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    (bytes.first() == Some(&tag)).then(|| element(bytes)).flatten()
}

/// The content of the first element, and the bytes after the element.
fn element(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn number(digits: &[u8], length: usize) -> Option<(i64, &[u8])> {
    let (front, rest) = digits.split_at_checked(length)?;
    let number = str::from_utf8(front).ok()?.parse::<u16>().ok()?;
    Some((number.into(), rest))
}

/// The time of `MMDDhhmmssZ` in `year`, in seconds since 1970.
fn time(year: i64, rest: &[u8]) -> Option<i64> {
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, _) = number(rest, 2)?;
    // Days of the Gregorian calendar, in years that begin in March.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 719_469;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(1970, b"0101000000Z"), Some(0));
        assert_eq!(time(2000, b"0301000000Z"), Some(951_868_800));
        assert_eq!(time(2026, b"1129043147Z"), Some(1_795_926_707));
        assert_eq!(time(2026, b"11290431"), None);
    }

    #[test]
    fn a_certificate_cut_anywhere_is_none() {
        // Version 3, serial 1, empty algorithm and issuer, valid from 1970 to 1 March 2000.
        let validity = [&[0x30, 30, 0x17, 13][..], b"700101000000Z", &[0x17, 13], b"000301000000Z"].concat();
        let body = [&[0xa0, 3, 2, 1, 2, 2, 1, 1, 0x30, 0, 0x30, 0][..], &validity].concat();
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let inner = [&[0x30, length(&body)][..], &body].concat();
        let whole = [&[0x30, length(&inner)][..], &inner].concat();
        assert_eq!(not_after(&whole), Some(951_868_800));
        for end in 0..whole.len() {
            assert_eq!(not_after(&whole[..end]), None, "{end}");
        }
    }
}
