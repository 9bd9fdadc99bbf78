//! The negotiation of permessage-deflate: what a client offers, and what the gateway makes of it.

/// Offers that are looked at: a client has reasons for three at the most.
const OFFERS_MAX: usize = 16;

/// What was agreed on: no context on either side, and a window that the client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// The gateway's window, if the client has to be told.
    pub server_max_window_bits: Option<u8>,
}

impl Params {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub fn answer(self) -> String {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if let Some(bits) = self.server_max_window_bits {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        answer
    }
}

/// The first offer in the values of a client's `Sec-WebSocket-Extensions` that a gateway which compresses with a window
/// of `window_bits` can accept. One that is malformed, has a parameter twice or one that RFC 7692 does not know is
/// passed over, as the RFC wants.
pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a [u8]>, window_bits: u8) -> Option<Params> {
    let offers = values.into_iter().flat_map(|value| Split { rest: Some(value), at: b',' });
    offers.take(OFFERS_MAX).find_map(|offer| accept(offer, window_bits))
}

fn accept(offer: &[u8], window_bits: u8) -> Option<Params> {
    let mut parts = Split { rest: Some(offer), at: b';' };
    if parts.next()? != b"permessage-deflate" {
        return None;
    }
    let mut params = Params { server_max_window_bits: None };
    // Of the four that there are.
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (part[..at].trim_ascii_end(), Some(part[at + 1..].trim_ascii_start())),
            None => (part, None),
        };
        let which = match (name, value) {
            (b"server_no_context_takeover", None) => 0,
            (b"client_no_context_takeover", None) => 1,
            (b"server_max_window_bits", Some(value)) => {
                if bits(value)? < window_bits {
                    return None;
                }
                params.server_max_window_bits = Some(window_bits);
                2
            }
            // What the client compresses with is its own business: there is room for any window.
            (b"client_max_window_bits", value) => {
                if let Some(value) = value {
                    bits(value)?;
                }
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[which], true) {
            return None;
        }
    }
    Some(params)
}

/// 8 to 15, in or without quotes.
fn bits(value: &[u8]) -> Option<u8> {
    let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match bare.unwrap_or(value) {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Parts between separators, those in quotes apart.
struct Split<'a> {
    rest: Option<&'a [u8]>,
    at: u8,
}

impl<'a> Iterator for Split<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = rest.iter().position(|byte| {
            let was_escaped = std::mem::replace(&mut is_escaped, false);
            match byte {
                b'\\' if is_quoted && !was_escaped => is_escaped = true,
                b'"' if !was_escaped => is_quoted = !is_quoted,
                byte => return *byte == self.at && !is_quoted,
            }
            false
        });
        let part = match end {
            Some(end) => {
                self.rest = Some(&rest[end + 1..]);
                &rest[..end]
            }
            None => {
                self.rest = None;
                rest
            }
        };
        Some(part.trim_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: Option<&str>) {
        let found = negotiate(values.iter().map(|value| value.as_bytes()), 12).map(Params::answer);
        let whole = expected.map(|more| {
            format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{more}")
        });
        assert_eq!(found, whole, "{values:?}");
    }

    #[test]
    fn what_is_accepted() {
        let (plain, told) = (Some(""), Some("; server_max_window_bits=12"));
        check(&["permessage-deflate"], plain);
        // Browsers; Python's websockets; Node's ws.
        check(&["permessage-deflate; client_max_window_bits"], plain);
        check(&["permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"], told);
        check(&["permessage-deflate; server_no_context_takeover; client_no_context_takeover"], plain);
        check(&[" permessage-deflate;server_max_window_bits = \"15\" ; client_max_window_bits=8"], told);
        check(&["x-other; a=1, permessage-deflate"], plain);
        check(&["x-other; a=\"\\\", permessage-deflate; x\", permessage-deflate"], plain);
        check(&["x-other", "permessage-deflate"], plain);
        // The next one, where the first is none.
        check(&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], plain);
        check(&["permessage-deflate; x, permessage-deflate; server_max_window_bits=13"], told);
        assert!(negotiate([b"permessage-deflate; server_max_window_bits=9".as_slice()], 9).is_some());
    }

    #[test]
    fn what_is_passed_over() {
        for offer in [
            "",
            ",",
            ";",
            "permessage",
            "permessage-deflate2",
            "Permessage-Deflate",
            "x-webkit-deflate-frame",
            "permessage-deflate;",
            "permessage-deflate; ;client_max_window_bits",
            "permessage-deflate; unknown",
            "permessage-deflate; mode=fast",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover=",
            "permessage-deflate; client_no_context_takeover=\"\"",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=12; server_max_window_bits=12",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=11",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=012",
            "permessage-deflate; server_max_window_bits=+12",
            "permessage-deflate; server_max_window_bits=12.0",
            "permessage-deflate; server_max_window_bits=\"12",
            "permessage-deflate; server_max_window_bits=1\"2\"",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate\", permessage-deflate",
            "x=\"permessage-deflate, permessage-deflate",
        ] {
            check(&[offer], None);
        }
    }

    #[test]
    fn no_more_offers_are_looked_at_than_make_sense() {
        let many = "x, ".repeat(OFFERS_MAX - 1);
        check(&[&format!("{many}permessage-deflate")], Some(""));
        check(&[&format!("{many}x, permessage-deflate")], None);
        check(&[&many, "permessage-deflate"], None);
    }
}
