//! A socket on which an opening handshake is answered.

use crate::shard::socket::{ClientSocket, Socket};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the answer begins that makes a session of a connection.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

/// What is answered without a word to a head that cannot be read, and the reason that goes with it.
const UNREADABLE: [(&[u8], &str); 3] = [
    (b"HTTP/1.1 400 ", "no HTTP request that can be read"),
    (b"HTTP/1.1 414 ", "the path is too long"),
    (
        b"HTTP/1.1 431 ",
        "the head of the request has more bytes than limits.head_bytes_max, or more than 64 headers",
    ),
];

/// An answer that hyper gives by itself, which has no body, with its reason as one line of JSON.
pub(super) fn with_reason(answer: &[u8]) -> Option<Vec<u8>> {
    let (_, reason) = UNREADABLE.iter().find(|(begin, _)| answer.starts_with(begin))?;
    let body = super::refusal::reason_json(reason);
    let head = std::str::from_utf8(answer).ok()?;
    let (before, after) = head.split_once("content-length: 0\r\n")?;
    let length = body.len();
    let answer =
        format!("{before}content-type: application/json\r\ncontent-length: {length}\r\n{after}{body}");
    Some(answer.into_bytes())
}

/// Passes everything on but the answer that switches protocols: that is kept, for the session to write it together
/// with its greeting.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) socket: ClientSocket,
    /// The answer, once there is one.
    pub(super) answer: Vec<u8>,
}

impl Handshake {
    pub(super) fn new(socket: ClientSocket) -> Self {
        Self { socket, answer: Vec::new() }
    }

    /// Sends what the socket takes now, or waits until it takes something.
    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_writable(cx))?;
            match self.socket.send(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Handshake {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_readable(cx))?;
            match self.socket.read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => {
                    buffer.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Handshake {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The head is one write, as vectored ones are not offered, and nothing follows it.
        if !self.answer.is_empty() || bytes.starts_with(SWITCHING) {
            self.answer.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if let Some(answer) = with_reason(bytes) {
            // It is the first that is sent: there is room for all of it.
            let sent = ready!(self.poll_send(cx, &answer));
            return Poll::Ready(sent.map(|_| bytes.len()));
        }
        self.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What the socket took is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.shut();
        Poll::Ready(Ok(()))
    }
}
