//! What to do about an error, in a sentence.

use tickgate_protocol::Code;

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
        Code::Internal => "It is the gateway's own fault; the client comes back.",
        Code::SourceDown => "The feed behind the gateway is gone; its state comes as an event.",
        _ => "The protocol's README says more.",
    }
}
