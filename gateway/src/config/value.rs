//! A value on its way into the configuration: plain or with a unit, checked against the kind of its key.

use super::FeedConfig;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A value of the type that its key wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(u64),
    Flag(bool),
    Text(String),
    Address(SocketAddr),
    List(Vec<String>),
    Numbers(Vec<u64>),
    Properties(BTreeMap<String, String>),
    Feeds(Vec<FeedConfig>),
}

/// What a source gave, before the key says what it must be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Raw {
    Integer(i64),
    Flag(bool),
    Text(String),
    List(Vec<Raw>),
    /// A type that no plain key takes, by its name.
    Other(&'static str),
    /// Text from the environment or a flag, where a list or a number cannot be told from a string.
    Loose(String),
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Milliseconds,
    Seconds,
    /// Things, by their name.
    Count(&'static str),
}

/// A check of a text: what is wrong with it.
pub(super) type TextCheck = fn(&str) -> Result<(), String>;

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A whole number within bounds; `zero` allows 0 as well and says what it means.
    Number {
        unit: Unit,
        min: u64,
        max: u64,
        zero: Option<&'static str>,
    },
    Flag,
    Text(TextCheck),
    /// A text that is masked wherever it is shown; its check must not repeat it.
    Secret(TextCheck),
    Address,
    List(TextCheck),
    /// Several numbers that differ, at most so many, each within bounds.
    Numbers {
        unit: Unit,
        min: u64,
        max: u64,
        most: usize,
    },
    Properties,
}

impl Unit {
    /// `number` as a person would write it in this unit; what it prints is accepted as input.
    pub(super) fn show(self, number: u64) -> String {
        match self {
            Self::Bytes => {
                let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
                    .into_iter()
                    .find(|(_, shift)| number > 0 && number.trailing_zeros() >= *shift);
                unit.map_or_else(|| number.to_string(), |(name, shift)| format!("{}{name}", number >> shift))
            }
            Self::Milliseconds if number > 0 && number.is_multiple_of(1_000) => {
                format!("{}s", number / 1_000)
            }
            Self::Milliseconds => format!("{number}ms"),
            Self::Seconds => format!("{number}s"),
            Self::Count(_) => number.to_string(),
        }
    }

    /// Its name in sentences.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Milliseconds => "milliseconds",
            Self::Seconds => "seconds",
            Self::Count(things) => things,
        }
    }

    /// Reads a number of this unit: digits are in the unit itself, anything else names its own.
    fn parse(self, text: &str) -> Result<u64, String> {
        let text = text.trim();
        let digits = text.replace('_', "");
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return digits.parse().map_err(|_| format!("`{text}` is too large"));
        }
        match self {
            Self::Bytes => parse_bytes(text),
            Self::Milliseconds => whole(text, parse_duration(text)?, 1_000_000, "milliseconds"),
            Self::Seconds => whole(text, parse_duration(text)?, 1_000_000_000, "seconds"),
            Self::Count(things) => Err(format!("must be a whole number of {things}, not `{text}`")),
        }
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = (&text[..split], text[split..].trim());
    let scale: Option<u64> = match unit {
        "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        _ => None,
    };
    let (Ok(number), Some(scale)) = (digits.parse::<u64>(), scale) else {
        return Err(format!("must be bytes, plain or as \"64KiB\", \"1MiB\" or \"1MB\", not `{text}`"));
    };
    number.checked_mul(scale).ok_or_else(|| format!("`{text}` is too large"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("must be a time, a plain number or as \"500ms\", \"5s\" or \"2m\", not `{text}`")
    })
}

fn whole(text: &str, duration: Duration, unit_ns: u128, name: &str) -> Result<u64, String> {
    let ns = duration.as_nanos();
    if !ns.is_multiple_of(unit_ns) {
        return Err(format!("`{text}` is not a whole number of {name}"));
    }
    u64::try_from(ns / unit_ns).map_err(|_| format!("`{text}` is too large"))
}

impl Kind {
    /// What the key takes, for the annotated file and for errors.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Number { unit, min, max, zero } => {
                let zero = zero.map_or_else(String::new, |meaning| format!("; 0 {meaning}"));
                format!("{}, {} to {}{zero}", unit.name(), unit.show(min), unit.show(max))
            }
            Self::Flag => "true or false".to_owned(),
            Self::Text(_) | Self::Secret(_) => "text".to_owned(),
            Self::Address => "address:port, [address]:port for IPv6".to_owned(),
            Self::List(_) => "list of texts".to_owned(),
            Self::Numbers { unit, min, max, most } => {
                format!(
                    "list of at most {most} numbers ({}), {} to {}",
                    unit.name(),
                    unit.show(min),
                    unit.show(max)
                )
            }
            Self::Properties => "table of names and values".to_owned(),
        }
    }

    /// Turns what a source gave into what the key takes, or says what is wrong with it.
    pub(super) fn convert(self, raw: Raw) -> Result<Value, String> {
        match (self, raw) {
            (Self::Number { unit, .. }, Raw::Integer(number)) => {
                let number = u64::try_from(number)
                    .map_err(|_| format!("must not be negative ({}), not {number}", unit.name()))?;
                self.bounded(number)
            }
            (Self::Number { unit, .. }, Raw::Text(text) | Raw::Loose(text)) => {
                self.bounded(unit.parse(&text)?)
            }
            (Self::Flag, Raw::Flag(flag)) => Ok(Value::Flag(flag)),
            (Self::Flag, Raw::Loose(text)) => match text.trim() {
                "true" | "1" => Ok(Value::Flag(true)),
                "false" | "0" => Ok(Value::Flag(false)),
                other => Err(format!("must be true or false, not `{other}`")),
            },
            (Self::Text(check) | Self::Secret(check), Raw::Text(text) | Raw::Loose(text)) => {
                check(&text)?;
                Ok(Value::Text(text))
            }
            (Self::Address, Raw::Text(text) | Raw::Loose(text)) => parse_address(&text).map(Value::Address),
            (Self::List(check), Raw::List(items)) => {
                let texts = items.into_iter().map(|item| match item {
                    Raw::Text(text) => check(&text).map(|()| text),
                    other => Err(format!("must be a list of texts; one is {}", other.type_name())),
                });
                texts.collect::<Result<_, _>>().map(Value::List)
            }
            (Self::List(check), Raw::Loose(text)) => {
                let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
                let texts = texts.map(|text| check(text).map(|()| text.to_owned()));
                texts.collect::<Result<_, _>>().map(Value::List)
            }
            (Self::Numbers { unit, .. }, Raw::List(items)) => {
                let number = |item| match item {
                    Raw::Integer(number) => u64::try_from(number)
                        .map_err(|_| format!("must not be negative ({}), not {number}", unit.name())),
                    Raw::Text(text) => unit.parse(&text),
                    other => Err(format!("must be {}; one is {}", self.wanted(), other.type_name())),
                };
                self.listed(items.into_iter().map(number).collect::<Result<_, _>>()?)
            }
            (Self::Numbers { unit, .. }, Raw::Loose(text)) => {
                let texts = text.split(',').filter(|text| !text.trim().is_empty());
                self.listed(texts.map(|text| unit.parse(text)).collect::<Result<_, _>>()?)
            }
            // What it is instead may be the secret, without its quotes.
            (kind @ Self::Secret(_), _) => Err(format!("must be {}", kind.wanted())),
            (kind, raw) => Err(format!("must be {}, not {}", kind.wanted(), raw.type_name())),
        }
    }

    /// Checks the bounds of a number.
    pub(super) fn bounded(self, number: u64) -> Result<Value, String> {
        let Self::Number { unit, min, max, zero } = self else { unreachable!("only numbers have bounds") };
        if (min..=max).contains(&number) || (number == 0 && zero.is_some()) {
            return Ok(Value::Number(number));
        }
        let zero = if zero.is_some() { " or 0" } else { "" };
        let given = unit.show(number);
        Err(format!("must be {} to {}{zero} ({}), not {given}", unit.show(min), unit.show(max), unit.name()))
    }

    /// Checks a list of numbers.
    pub(super) fn listed(self, numbers: Vec<u64>) -> Result<Value, String> {
        let Self::Numbers { unit, min, max, most } = self else {
            unreachable!("only lists of numbers are listed")
        };
        if numbers.len() > most {
            return Err(format!("must be at most {most} numbers, not {}", numbers.len()));
        }
        let each = Self::Number { unit, min, max, zero: None };
        numbers.iter().try_for_each(|number| each.bounded(*number).map(drop))?;
        let twice = numbers.iter().enumerate().find(|(at, number)| numbers[..*at].contains(number));
        match twice {
            Some((_, number)) => Err(format!("names {} twice", unit.show(*number))),
            None => Ok(Value::Numbers(numbers)),
        }
    }

    fn wanted(self) -> String {
        match self {
            Self::Number { unit: unit @ Unit::Count(_), .. } => format!("a whole number of {}", unit.name()),
            Self::Number { unit: Unit::Bytes, .. } => {
                "a whole number of bytes or a text as \"1MiB\"".to_owned()
            }
            Self::Number { unit, .. } => format!("a whole number of {} or a text as \"5s\"", unit.name()),
            other => other.describe(),
        }
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let with_host = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    with_host.trim().parse().map_err(|_| {
        format!("must be an IP address and a port, as \"127.0.0.1:8080\" or \"[::]:8080\", not `{text}`")
    })
}

impl Raw {
    fn type_name(&self) -> String {
        match self {
            Self::Integer(number) => format!("the number {number}"),
            Self::Flag(flag) => format!("`{flag}`"),
            Self::Text(text) | Self::Loose(text) => format!("the text \"{}\"", text.escape_debug()),
            Self::List(_) => "a list".to_owned(),
            Self::Other(name) => format!("a {name}"),
        }
    }
}

impl Value {
    /// As TOML; empty tables and lists of tables are not written in this way.
    pub(super) fn to_toml(&self) -> toml::Value {
        match self {
            Self::Number(number) => {
                toml::Value::Integer(i64::try_from(*number).expect("the upper bound of every key fits"))
            }
            Self::Flag(flag) => toml::Value::Boolean(*flag),
            Self::Text(text) => toml::Value::String(text.clone()),
            Self::Address(address) => toml::Value::String(address.to_string()),
            Self::List(items) => items.iter().cloned().map(toml::Value::String).collect::<Vec<_>>().into(),
            Self::Numbers(numbers) => {
                let number = |number: &u64| Self::Number(*number).to_toml();
                numbers.iter().map(number).collect::<Vec<_>>().into()
            }
            Self::Properties(map) => {
                let entry = |(name, value): (&String, &String)| (name.clone(), value.clone().into());
                toml::Value::Table(map.iter().map(entry).collect())
            }
            Self::Feeds(feeds) => {
                let table = |feed| toml::Value::Table(super::render::feed_table(feed));
                feeds.iter().map(table).collect::<Vec<_>>().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: Kind = Kind::Number { unit: Unit::Bytes, min: 1, max: 1 << 40, zero: None };
    const MS: Kind = Kind::Number { unit: Unit::Milliseconds, min: 100, max: 600_000, zero: Some("is none") };

    fn check(kind: Kind, text: &str, expected: Result<u64, &str>) {
        let found = kind.convert(Raw::Text(text.to_owned()));
        match expected {
            Ok(number) => assert_eq!(found, Ok(Value::Number(number)), "{text}"),
            Err(part) => {
                let error = found.expect_err(text);
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }

    #[test]
    fn sizes_and_times_carry_their_unit() {
        check(BYTES, "1MiB", Ok(1 << 20));
        check(BYTES, "64 KiB", Ok(64 << 10));
        check(BYTES, "2MB", Ok(2_000_000));
        check(BYTES, "7B", Ok(7));
        check(BYTES, "1_000", Ok(1_000));
        check(BYTES, "64K", Err("\"64KiB\""));
        check(BYTES, "MiB", Err("must be bytes"));
        check(BYTES, "99999999999GiB", Err("too large"));
        check(MS, "5s", Ok(5_000));
        check(MS, "1m 30s", Ok(90_000));
        check(MS, "250ms", Ok(250));
        check(MS, "1500us", Err("whole number of milliseconds"));
        check(MS, "soon", Err("must be a time"));
        check(MS, "50ms", Err("must be 100ms to 600s or 0 (milliseconds), not 50ms"));
        check(MS, "0", Ok(0));
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = BYTES.convert(Raw::Flag(true)).expect_err("a flag is no number");
        assert_eq!(error, "must be a whole number of bytes or a text as \"1MiB\", not `true`");
        let error = Kind::Flag.convert(Raw::Text("true".to_owned())).expect_err("a file has flags");
        assert_eq!(error, "must be true or false, not the text \"true\"");
        assert_eq!(Kind::Flag.convert(Raw::Loose("true".to_owned())), Ok(Value::Flag(true)));
        assert!(BYTES.convert(Raw::Integer(-1)).expect_err("negative").contains("negative"));
    }

    #[test]
    fn a_list_of_numbers_is_bounded() {
        let kind = Kind::Numbers { unit: Unit::Seconds, min: 1, max: 100, most: 2 };
        let of =
            |numbers: &[i64]| kind.convert(Raw::List(numbers.iter().map(|n| Raw::Integer(*n)).collect()));
        assert_eq!(of(&[5, 1]), Ok(Value::Numbers(vec![5, 1])));
        assert_eq!(kind.convert(Raw::Loose("5s, 1".to_owned())), Ok(Value::Numbers(vec![5, 1])));
        assert_eq!(kind.convert(Raw::Loose(String::new())), Ok(Value::Numbers(Vec::new())));
        for (numbers, part) in [
            (&[0][..], "1s to 100s"),
            (&[101], "1s to 100s"),
            (&[1, 2, 3], "at most 2"),
            (&[7, 7], "7s twice"),
        ] {
            let error = of(numbers).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        assert!(of(&[-1]).is_err() && kind.convert(Raw::Integer(5)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(number in 0..1u64 << 43) {
            for unit in [Unit::Bytes, Unit::Milliseconds, Unit::Seconds, Unit::Count("things")] {
                prop_assert_eq!(unit.parse(&unit.show(number)), Ok(number));
            }
        }
    }
}
