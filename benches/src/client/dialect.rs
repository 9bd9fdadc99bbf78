//! How each server wants to be subscribed to.

use crate::wire;

/// The way a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// The gateway's own protocol, which the floors and our plain servers understand as far as they need.
    Tickgate,
    /// NATS inside binary frames.
    Nats,
    /// Centrifugo's JSON protocol.
    Centrifugo,
}

impl std::fmt::Display for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tickgate => "tickgate",
            Self::Nats => "nats",
            Self::Centrifugo => "centrifugo",
        })
    }
}

impl Dialect {
    /// Where the stream is.
    pub fn path(self) -> &'static str {
        match self {
            Self::Tickgate => tickgate_protocol::control::STREAM_PATH,
            Self::Nats => "/",
            Self::Centrifugo => "/connection/websocket",
        }
    }

    /// The frames that subscribe to `symbols`, asking for the last `snapshot` ticks of each where that can be asked.
    pub fn subscribe(self, symbols: &[String], snapshot: usize) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Tickgate => {
                // Trades are not conflated, so that all servers have the same to deliver.
                let list = symbols.join("\",\"");
                let snapshot = if snapshot > 0 { format!(",\"snapshot\":{snapshot}") } else { String::new() };
                let text = format!(
                    r#"{{"op":"subscribe","id":1,"subscriptions":[{{"channel":"trades","on_slow":"skip"{snapshot},"symbols":["{list}"]}}]}}"#
                );
                wire::masked(&mut out, wire::TEXT, text.as_bytes());
            }
            Self::Nats => {
                let mut text =
                    String::from("CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n");
                for (id, symbol) in symbols.iter().enumerate() {
                    text.push_str(&format!("SUB {symbol} {}\r\n", id + 1));
                }
                text.push_str("PING\r\n");
                wire::masked(&mut out, wire::BINARY, text.as_bytes());
            }
            Self::Centrifugo => {
                let mut text = String::from(r#"{"id":1,"connect":{}}"#);
                for (id, symbol) in symbols.iter().enumerate() {
                    text.push_str(&format!(
                        "\n{{\"id\":{},\"subscribe\":{{\"channel\":\"{symbol}\"}}}}",
                        id + 2
                    ));
                }
                wire::masked(&mut out, wire::TEXT, text.as_bytes());
            }
        }
        out
    }

    /// What a publisher says first.
    pub fn publisher_hello(self) -> &'static [u8] {
        match self {
            Self::Nats => b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n",
            Self::Tickgate | Self::Centrifugo => b"",
        }
    }

    /// Appends what publishes a record.
    pub fn publish(self, out: &mut Vec<u8>, symbol: &str, record: &[u8]) {
        match self {
            Self::Tickgate => {
                out.extend_from_slice(record);
                out.push(b'\n');
            }
            Self::Nats => {
                out.extend_from_slice(format!("PUB {symbol} {}\r\n", record.len()).as_bytes());
                out.extend_from_slice(record);
                out.extend_from_slice(b"\r\n");
            }
            Self::Centrifugo => {
                let (head, tail) = (format!("{{\"channel\":\"{symbol}\",\"data\":"), b"}");
                let bytes = head.len() + record.len() + tail.len();
                let request = format!(
                    "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                     Content-Length: {bytes}\r\n\r\n{head}"
                );
                out.extend_from_slice(request.as_bytes());
                out.extend_from_slice(record);
                out.extend_from_slice(tail);
            }
        }
    }

    /// How many answers `payload` holds of those that say that a subscription stands.
    pub fn acks(self, payload: &[u8]) -> usize {
        let what: &[u8] = match self {
            Self::Tickgate => br#""op":"ack""#,
            Self::Nats => b"PONG",
            Self::Centrifugo => br#""subscribe":{"#,
        };
        memchr::memmem::find_iter(payload, what).count()
    }

    /// How many of them there will be.
    pub fn acks_expected(self, symbols: usize) -> usize {
        match self {
            Self::Tickgate | Self::Nats => 1,
            Self::Centrifugo => symbols,
        }
    }
}
