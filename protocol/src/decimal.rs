//! Prices and sizes: fixed point, exact, printed as they came.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// Most digits after the decimal point that a [`Decimal`] can carry.
pub const SCALE_MAX: u8 = 18;

/// A decimal number: `mantissa × 10^-scale`, with `scale` in 0..=[`SCALE_MAX`].
///
/// Trailing zeros are kept, so `487.50` prints as `487.50`; comparison is by value, so it equals `487.5`.
#[derive(Clone, Copy)]
pub struct Decimal {
    mantissa: i64,
    scale: u8,
}

/// Why a text is not a [`Decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number of at most 18 digits")]
pub struct NotDecimal;

const POW10: [i64; 19] = {
    let mut table = [1i64; 19];
    let mut i = 1;
    while i < 19 {
        table[i] = table[i - 1] * 10;
        i += 1;
    }
    table
};

impl Decimal {
    /// Zero, with no digits after the point.
    pub const ZERO: Self = Self { mantissa: 0, scale: 0 };

    /// `mantissa × 10^-scale`; `None` when `scale` is over [`SCALE_MAX`].
    pub const fn new(mantissa: i64, scale: u8) -> Option<Self> {
        if scale > SCALE_MAX { None } else { Some(Self { mantissa, scale }) }
    }

    /// The integer `mantissa` of `mantissa × 10^-scale`.
    pub const fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// Digits after the decimal point.
    pub const fn scale(self) -> u8 {
        self.scale
    }

    /// Whether the value is zero, in whatever number of digits.
    pub const fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// Parses `-12.50`, `0.001`, `7` or `1e-7` (the exponent form is printed as a plain decimal).
    ///
    /// # Errors
    /// [`NotDecimal`] for anything else, and for numbers that need more than 64 bits or 18 decimal places.
    pub fn parse(text: &str) -> Result<Self, NotDecimal> {
        let bytes = text.as_bytes();
        let (negative, digits) = match bytes.first() {
            Some(b'-') => (true, &bytes[1..]),
            Some(_) => (false, bytes),
            None => return Err(NotDecimal),
        };
        let mut mantissa: i64 = 0;
        let mut scale: i32 = 0;
        let mut seen_point = false;
        let mut seen_digit = false;
        let mut exponent: i32 = 0;
        for (i, &byte) in digits.iter().enumerate() {
            match byte {
                b'0'..=b'9' => {
                    // Accumulated as a negative number so that i64::MIN needs no special case.
                    mantissa = mantissa
                        .checked_mul(10)
                        .and_then(|m| m.checked_sub(i64::from(byte - b'0')))
                        .ok_or(NotDecimal)?;
                    seen_digit = true;
                    scale += i32::from(seen_point);
                }
                b'.' if !seen_point && seen_digit => seen_point = true,
                b'e' | b'E' if seen_digit => {
                    exponent = parse_exponent(&digits[i + 1..])?;
                    break;
                }
                _ => return Err(NotDecimal),
            }
        }
        if !seen_digit || digits.last() == Some(&b'.') {
            return Err(NotDecimal);
        }
        if !negative {
            mantissa = mantissa.checked_neg().ok_or(NotDecimal)?;
        }
        Self::scaled(mantissa, scale - exponent)
    }

    fn scaled(mantissa: i64, scale: i32) -> Result<Self, NotDecimal> {
        if scale < 0 {
            if mantissa == 0 {
                return Ok(Self::ZERO);
            }
            let power = usize::try_from(-scale).ok().and_then(|p| POW10.get(p)).ok_or(NotDecimal)?;
            let mantissa = mantissa.checked_mul(*power).ok_or(NotDecimal)?;
            return Ok(Self { mantissa, scale: 0 });
        }
        let scale = u8::try_from(scale).map_err(|_| NotDecimal)?;
        Self::new(mantissa, scale).ok_or(NotDecimal)
    }

    /// The decimal with the fewest digits that reads back as `value`.
    ///
    /// # Errors
    /// [`NotDecimal`] for NaN, infinities and what does not fit.
    pub fn from_f64(value: f64) -> Result<Self, NotDecimal> {
        if !value.is_finite() {
            return Err(NotDecimal);
        }
        Self::parse(&format!("{value}"))
    }

    /// The nearest double, for statistics and display; never for comparisons.
    pub fn to_f64(self) -> f64 {
        self.mantissa as f64 / POW10[usize::from(self.scale)] as f64
    }

    /// Appends the decimal text, without quotes.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut buffer = [0u8; 24];
        let text = self.format(&mut buffer);
        out.extend_from_slice(text);
    }

    fn format(self, buffer: &mut [u8; 24]) -> &[u8] {
        let mut rest = self.mantissa.unsigned_abs();
        let mut at = buffer.len();
        let mut written = 0u8;
        loop {
            if written == self.scale && self.scale > 0 {
                at -= 1;
                buffer[at] = b'.';
            }
            at -= 1;
            buffer[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            written += 1;
            if rest == 0 && written > self.scale {
                break;
            }
        }
        if self.mantissa < 0 {
            at -= 1;
            buffer[at] = b'-';
        }
        &buffer[at..]
    }

    fn widened(self, other: Self) -> (i128, i128) {
        let scale = self.scale.max(other.scale);
        let widen = |d: Self| i128::from(d.mantissa) * i128::from(POW10[usize::from(scale - d.scale)]);
        (widen(self), widen(other))
    }
}

fn parse_exponent(bytes: &[u8]) -> Result<i32, NotDecimal> {
    let text = std::str::from_utf8(bytes).map_err(|_| NotDecimal)?;
    let value: i32 = text.parse().map_err(|_| NotDecimal)?;
    if value.abs() > 64 { Err(NotDecimal) } else { Ok(value) }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.mantissa.cmp(&other.mantissa);
        }
        let (a, b) = self.widened(*other);
        a.cmp(&b)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0u8; 24];
        let text = std::str::from_utf8(self.format(&mut buffer)).expect("digits are ASCII");
        f.pad_integral(true, "", text)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Decimal {
    type Err = NotDecimal;
    fn from_str(text: &str) -> Result<Self, NotDecimal> {
        Self::parse(text)
    }
}

impl Serialize for Decimal {
    /// As a decimal string: a JSON number would be read back as a double.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    /// From a decimal string or a JSON number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsDecimal;
        impl Visitor<'_> for AsDecimal {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal string or a number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Decimal, E> {
                Decimal::parse(text).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Decimal, E> {
                Ok(Decimal { mantissa: value, scale: 0 })
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Decimal, E> {
                i64::try_from(value)
                    .map(|m| Decimal { mantissa: m, scale: 0 })
                    .map_err(|_| E::custom(NotDecimal))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Decimal, E> {
                Decimal::from_f64(value).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(AsDecimal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_preserved() {
        for text in ["0", "487.50", "-37.63", "0.00000001", "61659.7", "9223372036854775807", "-0.5", "100"] {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn exponents_become_plain_decimals() {
        for (text, plain) in
            [("1e3", "1000"), ("1e-7", "0.0000001"), ("1.50E+2", "150"), ("0e5", "0"), ("0.0e9", "0")]
        {
            assert_eq!(Decimal::parse(text).unwrap().to_string(), plain, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_decimal() {
        let bad = [
            "",
            "-",
            ".",
            ".5",
            "5.",
            "1.2.3",
            "abc",
            "1e",
            "1e99",
            "NaN",
            "0x10",
            " 1",
            "1 ",
            "+1",
            "99999999999999999999",
            "1.0000000000000000000",
            "--1",
        ];
        for text in bad {
            assert_eq!(Decimal::parse(text), Err(NotDecimal), "{text:?}");
        }
    }

    #[test]
    fn minimum_mantissa_prints() {
        let d = Decimal::new(i64::MIN, 18).unwrap();
        assert_eq!(d.to_string(), "-9.223372036854775808");
        assert_eq!(Decimal::parse("-9.223372036854775808").unwrap(), d);
    }

    proptest! {
        #[test]
        fn reads_back_what_it_prints(mantissa: i64, scale in 0u8..=18) {
            let d = Decimal::new(mantissa, scale).unwrap();
            let again = Decimal::parse(&d.to_string()).unwrap();
            prop_assert_eq!((again.mantissa, again.scale), (mantissa, scale));
        }

        #[test]
        fn orders_by_value(a: i32, b: i32, sa in 0u8..=9, sb in 0u8..=9) {
            let (x, y) = (Decimal::new(a.into(), sa).unwrap(), Decimal::new(b.into(), sb).unwrap());
            let exact = (i128::from(a) * 10i128.pow(u32::from(sb))).cmp(&(i128::from(b) * 10i128.pow(u32::from(sa))));
            prop_assert_eq!(x.cmp(&y), exact);
        }

        #[test]
        fn never_panics(text in "\\PC{0,30}") {
            let _ = Decimal::parse(&text);
        }
    }
}
