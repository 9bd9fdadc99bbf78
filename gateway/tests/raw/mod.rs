//! A client made by hand, for what a well-behaved library never sends or reads.
#![allow(dead_code, unreachable_pub)]

use crate::harness::{SOON, certs};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A handshake that asks for nothing special; `more` are further header lines, each with its line end.
pub fn handshake(more: &str) -> String {
    format!(
        "GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// A client's frame, masked as it must be.
pub fn frame(is_final: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = header(is_final, opcode, payload.len());
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    out
}

/// A whole text message.
pub fn text(payload: &str) -> Vec<u8> {
    frame(true, TEXT, payload.as_bytes())
}

/// The header of a masked frame that declares `bytes` of payload, without its mask.
pub fn header(is_final: bool, opcode: u8, bytes: usize) -> Vec<u8> {
    let mut out = vec![u8::from(is_final) << 7 | opcode];
    match bytes {
        0..=125 => out.push(0x80 | bytes as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
    out
}

async fn secured(stream: TcpStream) -> TlsStream<TcpStream> {
    let name = "127.0.0.1".try_into().expect("a name");
    let shaking = TlsConnector::from(certs::believing()).connect(name, stream);
    timeout(SOON, shaking).await.expect("it answers").expect("TLS")
}

/// One connection.
pub struct Raw {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

/// TCP, or TLS on it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Raw {
    /// Connects; nothing is sent yet. `url` is the gateway's.
    pub async fn connect(url: &str) -> Self {
        Self::connect_narrow(url, None).await
    }

    /// Connects with a small receive buffer, so that little is taken unread.
    pub async fn connect_narrow(url: &str, recv_buffer_bytes: Option<u32>) -> Self {
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let address = rest.split('/').next().expect("a host");
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = recv_buffer_bytes {
            socket.set_recv_buffer_size(bytes).expect("a size");
        }
        let stream = socket.connect(address.parse().expect("an address")).await.expect("it listens");
        stream.set_nodelay(true).expect("an option");
        let stream: Box<dyn Stream> = match scheme {
            "wss" => Box::new(secured(stream).await),
            _ => Box::new(stream),
        };
        Self { stream, read: Vec::new() }
    }

    /// A session that has read its `hello`.
    pub async fn session(url: &str) -> Self {
        Self::session_narrow(url, None).await
    }

    /// A session with a small receive buffer that has read its `hello`.
    pub async fn session_narrow(url: &str, recv_buffer_bytes: Option<u32>) -> Self {
        let mut raw = Self::connect_narrow(url, recv_buffer_bytes).await;
        raw.send(handshake("").as_bytes()).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(raw.json().await["op"], "hello");
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(SOON, sending).await.expect("it reads").expect("it is there");
    }

    /// Sends as much as is taken: it may be closed already.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let _ = timeout(SOON, self.stream.write_all(bytes)).await.expect("it reads or ends");
    }

    /// The head of an HTTP answer, or nothing when the connection ends without one.
    pub async fn head_or_end(&mut self) -> Option<String> {
        while !self.read.windows(4).any(|w| w == b"\r\n\r\n") {
            if !self.more().await {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// Sends a text message.
    pub async fn say(&mut self, message: &Value) {
        self.send(&text(&message.to_string())).await;
    }

    /// Closes the sending side.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("it is there");
    }

    /// The head of an HTTP answer, with its last line end.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(head).expect("text");
            }
            assert!(self.more().await, "no HTTP answer: {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// Everything until the other side ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// Status, headers in lower case, and body of an answer that ends the connection.
    pub async fn refusal(&mut self) -> (u16, String, String) {
        let head = self.head().await;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = String::from_utf8(self.rest().await).expect("text");
        (status, head.to_lowercase(), body)
    }

    /// The next frame, which is whole and not compressed: its opcode and payload; `None` at the end of the connection. Heartbeats,
    /// which come by the clock, are passed over.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let (first, payload) = self.any_frame().await?;
            assert_eq!(first & 0xf0, 0x80, "the gateway sends whole messages without extensions");
            if !payload.starts_with(br#"{"op":"heartbeat""#) {
                return Some((first & 0x0f, payload));
            }
        }
    }

    /// The next frame: its first byte and payload, compressed or not; `None` at the end of the connection.
    pub async fn any_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "the connection ended within a frame");
                return None;
            }
        }
    }

    /// The next text message as JSON; pings and pongs are not expected.
    pub async fn json(&mut self) -> Value {
        match self.frame().await {
            Some((TEXT, payload)) => serde_json::from_slice(&payload).expect("JSON"),
            other => panic!("no text message: {other:?}"),
        }
    }

    /// The code and text of the close frame, which is the next frame, and then the end.
    pub async fn closed(&mut self) -> (u16, String) {
        let frame = self.frame().await;
        let Some((CLOSE, payload)) = frame else { panic!("no close frame: {frame:?}") };
        let (code, reason) = payload.split_first_chunk::<2>().expect("a code");
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("text"))
    }

    /// Waits for the end of the connection; nothing may come before it.
    pub async fn ended(&mut self) {
        assert_eq!(self.frame().await, None, "only the end was expected");
    }

    /// Whether nothing comes for a while. For what must not happen: the only check that takes its time.
    pub async fn is_quiet(&mut self, wait: Duration) -> bool {
        self.read.is_empty() && timeout(wait, self.read_some()).await.is_err()
    }

    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, rest @ ..] = self.read.as_slice() else { return None };
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (length_bytes, bytes) = match second & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (8, u64::from_be_bytes(*rest.first_chunk()?) as usize),
            short => (0, usize::from(short)),
        };
        let start = 2 + length_bytes;
        if self.read.len() < start + bytes {
            return None;
        }
        let first = *first;
        let payload = self.read[start..start + bytes].to_vec();
        self.read.drain(..start + bytes);
        Some((first, payload))
    }

    /// Reads what there is; `false` at the end, which a reset is too.
    async fn more(&mut self) -> bool {
        timeout(SOON, self.read_some()).await.expect("it answers or ends") > 0
    }

    async fn read_some(&mut self) -> usize {
        self.stream.read_buf(&mut self.read).await.unwrap_or(0)
    }
}
