//! The word without which the admin listener only says whether the gateway lives and is ready.

use hyper::header::{AUTHORIZATION, HeaderMap};
use std::fmt;
use std::hint::black_box;

/// What a request must bring as `Authorization: Bearer …`; nothing when there is none.
#[derive(Clone, Default)]
pub struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Token(none)" } else { "Token(set)" })
    }
}

impl Token {
    /// This one; an empty one asks for nothing.
    pub fn new(secret: Vec<u8>) -> Self {
        Self(secret)
    }

    /// Whether a request with these headers may see what is not for everybody.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return false };
        let Some((scheme, token)) = given.as_bytes().split_at_checked(7) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && is_same(token.trim_ascii(), &self.0)
    }
}

/// Compares in a time that only depends on the lengths: who measures it learns nothing of where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn only_the_token_opens() {
        let token = Token::new(b"a secret of 20 bytes".to_vec());
        for (values, expected) in [
            (&[][..], false),
            (&["Bearer a secret of 20 bytes"], true),
            (&["bearer  a secret of 20 bytes "], true),
            (&["Bearer a secret of 20 byte"], false),
            (&["Bearer a secret of 20 bytes!"], false),
            (&["Bearer A secret of 20 bytes"], false),
            (&["Bearer "], false),
            (&["Bearer"], false),
            (&["Basic a secret of 20 bytes"], false),
            (&["a secret of 20 bytes"], false),
            (&["\u{e9}"], false),
            (&["Bearer a secret of 20 bytes", "Bearer a secret of 20 bytes"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(token.admits(&headers), expected, "{values:?}");
            assert!(Token::default().admits(&headers), "none is asked for");
        }
        assert_eq!(format!("{token:?}"), "Token(set)");
    }
}
