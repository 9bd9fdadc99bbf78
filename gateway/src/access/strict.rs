//! JSON objects in which no field stands twice: readers differ in which of two they take, and whoever forges a token
//! wants them to.

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Fields of an object at most: a token has ten.
const FIELDS_MAX: usize = 256;

/// The fields of an object, each once, with its value as it was written.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of the object that `json` is.
    pub(super) fn parse(json: &'a [u8]) -> Option<Self> {
        let json = std::str::from_utf8(json).ok()?;
        serde_json::from_str(json).ok()
    }

    /// The value of a field as it was written.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.get())
    }

    /// The value of a field, if it is there and of that type.
    pub(super) fn get<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, ()> {
        self.raw(name).map(|json| serde_json::from_str(json).map_err(|_| ())).transpose()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if fields.len() == FIELDS_MAX || fields.iter().any(|(field, _)| *field == name) {
                        return Err(de::Error::custom("a field stands twice, or there are too many"));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

/// A name that is borrowed where it can be.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_there_once() {
        let fields = Fields::parse(br#"{"a":1, "b":{"a":2},"\u0063":"x"}"#).expect("an object");
        assert_eq!((fields.get("a"), fields.raw("b")), (Ok(Some(1)), Some(r#"{"a":2}"#)));
        assert_eq!(fields.get("c"), Ok(Some("x")));
        assert_eq!((fields.get::<u64>("d"), fields.get::<u64>("b")), (Ok(None), Err(())));
        // An escape is another spelling of the same name.
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#, "[1]", "7", "", "{", "{}x"] {
            assert!(Fields::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let many: Vec<String> = (0..=FIELDS_MAX).map(|i| format!("\"f{i}\":0")).collect();
        assert!(Fields::parse(format!("{{{}}}", many.join(",")).as_bytes()).is_none());
        assert!(Fields::parse(b"{\"a\":\"\xff\"}").is_none());
    }
}
