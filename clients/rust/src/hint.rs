//! What to do about an error, in a sentence.

use tickgate_protocol::Code;
use tickgate_protocol::control::AckResult;

/// What helps against `code`.
pub(crate) fn advice(code: Code) -> &'static str {
    match code {
        Code::BadRequest => "Look at the options of what was asked for.",
        Code::Unauthenticated => {
            "Give a token that the gateway takes, with Builder::token or Builder::token_with."
        }
        Code::Forbidden => "The token does not grant this: ask for less, or for another token.",
        Code::UnknownChannel => "There are trades, quotes, book and status.",
        Code::UnknownSymbol => "Look at how the symbol is spelled, or subscribe to a pattern.",
        Code::AuthTimeout => "The token came too late: is its source slow?",
        Code::ReplayAgedOut => "What is gone stands in the gaps; what is left goes on.",
        Code::SubscriptionLimit => "Use patterns, or several clients.",
        Code::RateLimited => "Ask for more symbols at once, less often; it is tried again.",
        Code::ConnectionLimit => "Close other clients of the same subject or address.",
        Code::SlowConsumer => {
            "Read faster, ask for less, or subscribe with another on_slow; what was missed is resumed."
        }
        Code::TokenExpiring | Code::TokenExpired => "Builder::token_with gives fresh tokens by itself.",
        Code::Internal => {
            "It is the gateway's own fault. A session is begun again by itself; ask for a past again, from the time that the message names."
        }
        Code::SourceDown => {
            "Kafka behind the gateway does not answer. What was not read need not be gone: ask for it again, from the time that the message names."
        }
        _ => "The protocol's README says more.",
    }
}

/// What to do about a symbol that no record has named.
const UNSEEN: &str =
    "no record has named it yet: is it right? /symbols on the gateway's admin port lists what ticks";

/// What happened and what to do about it.
pub(crate) fn of(code: Code, symbol: Option<&str>, message: &str) -> String {
    with_commas(symbol, format!("{message}. {}", advice(code)))
}

/// What to do about a refusal, or about a symbol of which nothing was ever seen.
pub(crate) fn of_result(result: &AckResult) -> Option<String> {
    if !result.ok {
        let message = result.message.as_deref().unwrap_or("it is refused");
        return Some(of(result.code.unwrap_or(Code::Internal), Some(&result.symbol), message));
    }
    (result.seen == Some(false)).then(|| with_commas(Some(&result.symbol), UNSEEN.to_owned()))
}

/// A symbol may have a comma. Most that do are several, which a gateway cannot know.
fn with_commas(symbol: Option<&str>, mut hint: String) -> String {
    if let Some(symbol) = symbol.filter(|symbol| symbol.contains(',')) {
        let each: Vec<&str> = symbol.split(',').map(str::trim).collect();
        hint = format!("{hint}. Symbols are given one by one: {each:?}, not {symbol:?}");
    }
    hint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_symbol_and_looks_like_two_is_said_to_be() {
        let hint = |symbol: &str, tail: &str| {
            let json = format!(r#"{{"channel":"trades","symbol":"{symbol}",{tail}}}"#);
            of_result(&serde_json::from_str(&json).unwrap())
        };
        let refused = r#""ok":false,"code":"forbidden","message":"not yours""#;
        assert_eq!(hint("A,B", r#""ok":true,"instrument":7"#), None);
        assert!(hint("A", r#""ok":true,"seen":false"#).is_some_and(|hint| hint.contains("/symbols")));
        assert!(
            hint("A", refused).is_some_and(|hint| hint == format!("not yours. {}", advice(Code::Forbidden)))
        );
        for tail in [refused, r#""ok":true,"seen":false"#] {
            let hint = hint("AAPL, MSFT", tail).unwrap();
            assert!(hint.ends_with(r#"one by one: ["AAPL", "MSFT"], not "AAPL, MSFT""#), "{hint}");
        }
        assert!(of(Code::Internal, Some("A,B"), "it failed").contains(r#"["A", "B"]"#));
    }
}
