//! A socket on which an opening handshake is answered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How the answer begins that makes a session of a connection.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

/// Passes everything on but the answer that switches protocols: that is kept, for the session to write it together
/// with its greeting.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) socket: TcpStream,
    /// The answer, once there is one.
    pub(super) answer: Vec<u8>,
}

impl Handshake {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, answer: Vec::new() }
    }
}

impl AsyncRead for Handshake {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Handshake {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The head is one write, as vectored ones are not offered, and nothing follows it.
        if !self.answer.is_empty() || bytes.starts_with(SWITCHING) {
            self.answer.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
