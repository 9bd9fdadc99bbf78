//! From when until when a certificate is valid: the one thing of it that nobody else here says.
//!
//! A certificate is nested fields in DER, each a tag, a length and so many bytes. Only the way to the two times is
//! gone; that the certificate as a whole is sound is for rustls to find.

/// From when until when, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from_s: i64,
    /// The last second.
    pub until_s: i64,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Validity {
    /// That of a certificate in DER; `None` when it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (mut certificate, _) = field(certificate, SEQUENCE)?;
        let mut signed = take(&mut certificate, SEQUENCE)?;
        if signed.first() == Some(&VERSION) {
            take(&mut signed, VERSION)?;
        }
        take(&mut signed, INTEGER)?;
        // The algorithm of the signature, and the issuer.
        take(&mut signed, SEQUENCE)?;
        take(&mut signed, SEQUENCE)?;
        let mut times = take(&mut signed, SEQUENCE)?;
        Some(Self { from_s: time(&mut times)?, until_s: time(&mut times)? })
    }
}

/// The content of the field with this tag at the beginning, and what is behind it.
fn field(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match length {
        ..=0x7f => (usize::from(length), rest),
        // So many bytes of length follow; a certificate of 16 MiB is none.
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn take<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (content, rest) = field(bytes, tag)?;
    *bytes = rest;
    Some(content)
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from then on (RFC 5280 4.1.2.5).
fn time(bytes: &mut &[u8]) -> Option<i64> {
    let (year, rest) = match take(bytes, UTC_TIME) {
        Some(text) => {
            let (year, rest) = digits(text, 2)?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
        }
        None => digits(take(bytes, GENERALIZED_TIME)?, 4)?,
    };
    let (month, rest) = digits(rest, 2)?;
    let (day, rest) = digits(rest, 2)?;
    let (hour, rest) = digits(rest, 2)?;
    let (minute, rest) = digits(rest, 2)?;
    let (second, rest) = digits(rest, 2)?;
    let is_right = rest == b"Z" && (1..=12).contains(&month) && (1..=31).contains(&day);
    is_right.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

fn digits(text: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let is_number = digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| (digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')), rest))
}

/// Days since the first of 1970, in the calendar of today.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that a leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for ((year, month, day), expected) in
            [((1970, 1, 1), 0), ((2000, 2, 29), 11_016), ((2026, 11, 23), 20_780), ((2100, 3, 1), 47_541)]
        {
            assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn the_times_of_a_certificate_are_found() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        for (from, until, expected) in [
            ((2020, 1, 2), (2049, 12, 31), (1_577_923_200, 2_524_521_600)),
            ((1999, 12, 31), (2050, 1, 1), (946_598_400, 2_524_608_000)),
        ] {
            params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            let validity = Validity::of(certificate.der()).expect("its times");
            assert_eq!((validity.from_s, validity.until_s), expected);
        }
    }

    proptest! {
        /// It is asked of whatever stands in a file.
        #[test]
        fn anything_else_has_none(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..300) {
            let _ = Validity::of(&bytes);
            let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
            let certificate = key.cert.der();
            if cut < certificate.len() {
                prop_assert_eq!(Validity::of(&certificate[..cut]), None);
            }
        }
    }
}
