//! Error codes, which are also the WebSocket close codes of fatal errors.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $number:literal;)*) => {
        /// Why a request or a session failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire and as a metric label.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The number on the wire, and the close code when the error is fatal.
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number,)* }
            }
        }
    };
}

codes! {
    /// The request could not be read or makes no sense.
    BadRequest = "bad_request", 4400;
    /// No valid credentials.
    Unauthenticated = "unauthenticated", 4401;
    /// Valid credentials that do not allow this.
    Forbidden = "forbidden", 4403;
    /// No such channel.
    UnknownChannel = "unknown_channel", 4404;
    /// Not in the configured list of symbols.
    UnknownSymbol = "unknown_symbol", 4404;
    /// No `auth` in time.
    AuthTimeout = "auth_timeout", 4408;
    /// The asked position is older than what can be replayed.
    ReplayAgedOut = "replay_aged_out", 4410;
    /// More subscriptions than a session may hold.
    SubscriptionLimit = "subscription_limit", 4413;
    /// More requests than a session may send.
    RateLimited = "rate_limited", 4429;
    /// More connections than allowed.
    ConnectionLimit = "connection_limit", 4430;
    /// The client read too slowly.
    SlowConsumer = "slow_consumer", 4490;
    /// The token's time is nearly over; never fatal.
    TokenExpiring = "token_expiring", 4498;
    /// The token's time is over.
    TokenExpired = "token_expired", 4498;
    /// The gateway's own fault.
    Internal = "internal", 4500;
    /// Kafka behind the gateway does not answer: what was not read need not be gone.
    SourceDown = "source_down", 4503;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Close code of a fault of the gateway's own: come back.
pub const CLOSE_INTERNAL: u16 = 1011;
/// Close code of a drain or restart: come back, to any gateway.
pub const CLOSE_RESTART: u16 = 1012;
/// Close code of a refusal under overload: try again later.
pub const CLOSE_TRY_LATER: u16 = 1013;
/// Close code for a message over the size limit.
pub const CLOSE_TOO_BIG: u16 = 1009;
/// Close code for text that is not UTF-8, and for compressed data that cannot be read.
pub const CLOSE_BAD_DATA: u16 = 1007;
/// Close code for who does not keep to what a connection may do.
pub const CLOSE_POLICY: u16 = 1008;
/// Close code for a violation of the WebSocket protocol.
pub const CLOSE_PROTOCOL: u16 = 1002;
