//! One WebSocket connection: the handshake by hyper, the frames by fastwebsockets, its two halves apart.
//!
//! The halves are apart because fastwebsockets cannot read and write at the same time, and because its `read_frame`
//! must not be dropped before it is done: it forgets the bytes it took. So the reader never writes (pings are handed
//! out, not answered inside the read), and whoever waits for a frame and a timer keeps the read future alive.

mod stream;

use crate::target::Target;
use crate::trust::Trust;
use bytes::{Buf, Bytes};
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocket, WebSocketError};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, RETRY_AFTER, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
};
use hyper::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use stream::{ReadHalf, Stream, WriteHalf};
use tickgate_protocol::control::SUBPROTOCOL_JSON;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// Largest message that is read, in bytes; the gateway sends at most 256 KiB unless one record needs more.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How to connect.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// Local address to connect from; a loopback target takes any 127.x.x.x, each with its own range of ports.
    pub local: Option<IpAddr>,
    /// Size of the kernel's receive buffer in bytes; without one the kernel grows it to megabytes.
    pub recv_buffer_bytes: Option<usize>,
    /// Longest time from connecting to the end of the handshake.
    pub handshake_timeout: Duration,
    /// Read no faster than this many bytes per second.
    pub read_bytes_per_s: Option<u64>,
    /// Whom to believe behind a `wss://` URL.
    pub trust: Option<Trust>,
    /// A token that shows who we are, in the handshake.
    pub token: Option<Arc<str>>,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            local: None,
            recv_buffer_bytes: None,
            handshake_timeout: Duration::from_secs(10),
            read_bytes_per_s: None,
            trust: None,
            token: None,
        }
    }
}

/// Why a connection could not be opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ConnectError {
    #[error("cannot connect to {address}")]
    Io { address: SocketAddr, source: io::Error },
    #[error("no TLS with {host}")]
    Tls { host: String, source: io::Error },
    #[error("TLS needs to be told whom to believe")]
    NoTrust,
    #[error("no handshake within {0:?}")]
    Timeout(Duration),
    #[error("the handshake failed")]
    Http(#[from] hyper::Error),
    #[error("refused with HTTP {status}{}: {body}", retry_after.as_ref().map(|s| format!(" (retry after {s} s)")).unwrap_or_default())]
    Refused { status: u16, retry_after: Option<String>, body: String },
    #[error("not a WebSocket answer: {0}")]
    NotWebSocket(&'static str),
}

impl ConnectError {
    /// Whether a gateway that starts, or is too busy, may look like this: another attempt may do better.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Timeout(_) | Self::Http(_) => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::NotWebSocket(_) | Self::NoTrust => false,
            // A certificate that is not believed stays so; a gateway that is only starting says nothing of TLS.
            Self::Tls { source, .. } => source.get_ref().is_none(),
        }
    }

    /// Whether there is TLS, and the one who speaks it is not believed.
    pub(crate) fn is_about_trust(&self) -> bool {
        let Self::Tls { source, .. } = self else { return false };
        let error = source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        matches!(error, Some(rustls::Error::InvalidCertificate(_)))
    }

    /// A short name for counting.
    pub fn label(&self) -> String {
        match self {
            Self::Io { source, .. } => source.kind().to_string().replace(' ', "_"),
            Self::Tls { .. } | Self::NoTrust => "tls".to_owned(),
            Self::Timeout(_) => "timeout".to_owned(),
            Self::Http(_) => "handshake".to_owned(),
            Self::Refused { status, .. } => format!("http_{status}"),
            Self::NotWebSocket(_) => "not_websocket".to_owned(),
        }
    }
}

/// Connects to `address`, shakes hands and gives the two halves.
///
/// # Errors
/// [`ConnectError`], by what went wrong first.
pub async fn open(
    target: &Target,
    address: SocketAddr,
    options: &TransportOptions,
) -> Result<(Reader, Writer), ConnectError> {
    // Boxed: the handshake's state is large and short-lived, the task that waits for it is small and many.
    let opening = Box::pin(async {
        let stream =
            connect(address, options).await.map_err(|source| ConnectError::Io { address, source })?;
        let stream = secured(target, stream, options).await?;
        handshake(target, stream, options.token.as_deref()).await
    });
    let (stream, early) = timeout(options.handshake_timeout, opening)
        .await
        .map_err(|_| ConnectError::Timeout(options.handshake_timeout))??;
    let (read, write) = stream.split();
    let pace = options.read_bytes_per_s.map(|bytes_per_s| Box::new(Pace::new(bytes_per_s)));
    let taken = Arc::new(AtomicU64::new(0));
    let side = ReadSide { io: read, early, pace, taken: Arc::clone(&taken) };
    let reader = Reader { frames: Some(collector(side)), taken, given_bytes: 0, largest_bytes: 0 };
    Ok((reader, Writer { io: write, pending: Vec::new(), sent: 0 }))
}

async fn connect(address: SocketAddr, options: &TransportOptions) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = options.recv_buffer_bytes {
        // Before connecting: the window is announced in the handshake.
        socket.set_recv_buffer_size(u32::try_from(bytes).unwrap_or(u32::MAX))?;
    }
    if let Some(local) = options.local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn secured(
    target: &Target,
    stream: TcpStream,
    options: &TransportOptions,
) -> Result<Stream, ConnectError> {
    if !target.is_tls() {
        return Ok(Stream::Plain(stream));
    }
    let trust = options.trust.as_ref().ok_or(ConnectError::NoTrust)?;
    let stream = trust.connect(target.host(), stream).await;
    let failed = |source| ConnectError::Tls { host: target.host().to_owned(), source };
    stream.map(|stream| Stream::Tls(Box::new(stream))).map_err(failed)
}

async fn handshake(
    target: &Target,
    stream: Stream,
    token: Option<&str>,
) -> Result<(Stream, Bytes), ConnectError> {
    let mut request = Request::get(target.path());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request
        .header(HOST, target.authority())
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_KEY, fastwebsockets::handshake::generate_key())
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_JSON)
        .body(Empty::<Bytes>::new())
        .map_err(|_| ConnectError::NotWebSocket("the URL's path cannot be asked for"))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(16 << 10)
        .handshake(TokioIo::new(stream))
        .await?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        accepted(response).await
    };
    let (exchanged, driven) = tokio::join!(exchange, connection.with_upgrades());
    let upgraded = exchanged?;
    driven?;
    let parts = upgraded
        .downcast::<TokioIo<Stream>>()
        .map_err(|_| ConnectError::NotWebSocket("the connection is not the one that was opened"))?;
    // An empty `read_buf` still pins hyper's buffer, so only what is in it is kept.
    let early =
        if parts.read_buf.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&parts.read_buf) };
    Ok((parts.io.into_inner(), early))
}

async fn accepted(
    mut response: hyper::Response<hyper::body::Incoming>,
) -> Result<hyper::upgrade::Upgraded, ConnectError> {
    let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (status, retry_after) = (response.status().as_u16(), header(RETRY_AFTER));
        let body = Limited::new(response.into_body(), 4096).collect().await;
        let body = body.map(|body| first_line(&body.to_bytes())).unwrap_or_default();
        return Err(ConnectError::Refused { status, retry_after, body });
    }
    if !header(UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case("websocket")) {
        return Err(ConnectError::NotWebSocket("`Upgrade: websocket` is missing"));
    }
    if header(SEC_WEBSOCKET_PROTOCOL).is_some_and(|v| v != SUBPROTOCOL_JSON) {
        return Err(ConnectError::NotWebSocket("another subprotocol was chosen than the one offered"));
    }
    Ok(hyper::upgrade::on(&mut response).await?)
}

/// What was answered instead, in short: a gateway says it in a line, others send pages.
fn first_line(body: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    let text = String::from_utf8_lossy(body);
    text.trim().lines().next().unwrap_or_default().chars().take(CHARS_MAX).collect()
}

/// What a [`Reader`] gives.
#[derive(Debug)]
pub enum Message {
    /// A whole text message.
    Text(Text),
    /// A ping, to be answered by [`Writer::pong`].
    Ping(Vec<u8>),
    /// A close frame: the last message.
    Close {
        /// Its code, if it has one.
        code: Option<u16>,
        /// Its text.
        reason: String,
    },
    /// A binary message, which the gateway never sends.
    Binary,
    /// A pong.
    Other,
}

/// The text of a message, checked to be UTF-8.
pub struct Text(Payload<'static>);

impl Text {
    /// The text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the reader checks text messages")
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

fn collector(side: ReadSide) -> FragmentCollector<ReadSide> {
    let mut socket = WebSocket::after_handshake(side, Role::Client);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    FragmentCollector::new(socket)
}

/// The reading half. It never writes.
pub struct Reader {
    /// Always there, but for the moment in which its buffer is exchanged.
    frames: Option<FragmentCollector<ReadSide>>,
    /// Bytes that were read from the socket.
    taken: Arc<AtomicU64>,
    /// Bytes of the frames handed out, at least.
    given_bytes: u64,
    /// The largest message since the buffer was new.
    largest_bytes: usize,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// The next message.
    ///
    /// **Not** cancel-safe: a future dropped before it is ready takes bytes with it, and the reader must not be used
    /// again. Keep the future while waiting for other things.
    ///
    /// # Errors
    /// When the connection ended without a close frame or the peer broke the WebSocket protocol.
    pub async fn message(&mut self) -> Result<Message, WebSocketError> {
        let frames = self.frames.as_mut().ok_or(WebSocketError::ConnectionClosed)?;
        let frame: Frame<'static> = frames.read_frame().await?;
        self.account(frame.payload.len());
        Ok(match frame.opcode {
            // A text in fragments is put together by the collector without a check of the whole.
            OpCode::Text if frame.is_utf8() => Message::Text(Text(frame.payload)),
            OpCode::Text => return Err(WebSocketError::InvalidUTF8),
            OpCode::Ping => Message::Ping(frame.payload.to_vec()),
            OpCode::Close => {
                let code = frame.payload.first_chunk::<2>().map(|raw| u16::from_be_bytes(*raw));
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                Message::Close { code, reason }
            }
            OpCode::Binary => Message::Binary,
            OpCode::Pong | OpCode::Continuation => Message::Other,
        })
    }
}

impl Reader {
    /// fastwebsockets keeps a buffer as large as the largest frame it ever read. With thousands of connections a burst
    /// of large frames would stay in memory for good, so a buffer that has grown is exchanged for a new one as soon as
    /// frames are small again and nothing waits in it.
    fn account(&mut self, payload_bytes: usize) {
        const GROWN_BYTES: usize = 64 << 10;
        const SMALL_BYTES: usize = 16 << 10;
        let header_bytes = match payload_bytes {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        // A message in fragments had more headers than counted here: then the sums never meet again, and the buffer stays.
        self.given_bytes += (header_bytes + payload_bytes) as u64;
        self.largest_bytes = self.largest_bytes.max(payload_bytes);
        let is_empty = self.taken.load(Relaxed) == self.given_bytes;
        if self.largest_bytes >= GROWN_BYTES && payload_bytes <= SMALL_BYTES && is_empty {
            self.frames = self.frames.take().map(|frames| collector(frames.into_inner()));
            self.largest_bytes = 0;
        }
    }
}

/// The writing half. What is pushed goes out with [`Writer::flush`].
#[derive(Debug)]
pub struct Writer {
    io: WriteHalf,
    pending: Vec<u8>,
    sent: usize,
}

impl Writer {
    /// Queues a text message.
    pub fn text(&mut self, text: &str) {
        self.push(Frame::text(Payload::Owned(text.as_bytes().to_vec())));
    }

    /// Queues the answer to a ping.
    pub fn pong(&mut self, payload: Vec<u8>) {
        self.push(Frame::pong(Payload::Owned(payload)));
    }

    /// Queues a ping.
    pub fn ping(&mut self, payload: Vec<u8>) {
        self.push(Frame::new(true, OpCode::Ping, None, Payload::Owned(payload)));
    }

    /// Queues a close frame: nothing may follow it.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.push(Frame::close(code, reason.as_bytes()));
    }

    /// Whether something waits for [`Writer::flush`].
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn push(&mut self, mut frame: Frame<'_>) {
        frame.mask();
        let mut scratch = Vec::new();
        let bytes = frame.write(&mut scratch);
        self.pending.extend_from_slice(bytes);
    }

    /// Sends what is queued. Cancel-safe: what is not sent yet stays queued.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.pending.len() {
            let n = self.io.write(&self.pending[self.sent..]).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.sent += n;
        }
        // TLS may have taken more than it has sent.
        self.io.flush().await?;
        // A session that sends nothing holds no buffer.
        self.pending = Vec::new();
        self.sent = 0;
        Ok(())
    }
}

/// The read half of the socket: first what came with the handshake, then the socket, no faster than the pace.
struct ReadSide {
    io: ReadHalf,
    early: Bytes,
    pace: Option<Box<Pace>>,
    /// Bytes handed to the frame reader so far.
    taken: Arc<AtomicU64>,
}

impl AsyncRead for ReadSide {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll_more(cx, buf))?;
        self.taken.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl ReadSide {
    fn poll_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let n = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..n]);
            self.early.advance(n);
            return Poll::Ready(Ok(()));
        }
        let Some(pace) = &mut self.pace else { return Pin::new(&mut self.io).poll_read(cx, buf) };
        let allowed = ready!(pace.poll_allowance(cx)).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(allowed));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let n = part.filled().len();
        pace.allowance_bytes -= n;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadSide {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::new(io::ErrorKind::Unsupported, "the reading half does not write")))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes per second, handed out in slices of 50 ms; what is not used is not saved up.
struct Pace {
    bytes_per_slice: usize,
    allowance_bytes: usize,
    refill: Pin<Box<Sleep>>,
}

impl Pace {
    const SLICE: Duration = Duration::from_millis(50);

    fn new(bytes_per_s: u64) -> Self {
        let bytes_per_slice = usize::try_from(bytes_per_s / 20).unwrap_or(usize::MAX).max(1);
        let refill = Box::pin(sleep_until(Instant::now() + Self::SLICE));
        Self { bytes_per_slice, allowance_bytes: bytes_per_slice, refill }
    }

    fn poll_allowance(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.allowance_bytes == 0 {
            ready!(self.refill.as_mut().poll(cx));
            self.allowance_bytes = self.bytes_per_slice;
            self.refill.as_mut().reset(Instant::now() + Self::SLICE);
        }
        Poll::Ready(self.allowance_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Large frames, small frames, frames that share a read: whatever the buffer does, every message arrives whole.
    #[tokio::test]
    async fn messages_survive_the_exchange_of_the_buffer() {
        use tickgate_protocol::frame::{Opcode, write_header};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let ((read, _write), mut server) = (Stream::Plain(client.unwrap()).split(), server.unwrap().0);
        let taken = Arc::new(AtomicU64::new(0));
        let side = ReadSide { io: read, early: Bytes::new(), pace: None, taken: Arc::clone(&taken) };
        let mut reader = Reader { frames: Some(collector(side)), taken, given_bytes: 0, largest_bytes: 0 };
        for (sizes, is_exchanged) in [
            (&[10, 70_000, 10][..], true),
            (&[200_000, 65_535, 126, 125], true),
            (&[70_000, 20_000], false),
            (&[0, 0], true),
        ] {
            let mut bytes = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                write_header(&mut bytes, Opcode::Text, *size);
                bytes.extend(std::iter::repeat_n(b'a' + number as u8, *size));
            }
            // Read while it is written: it is more than the socket holds.
            let send = async { server.write_all(&bytes).await.unwrap() };
            let receive = async {
                for (number, size) in sizes.iter().enumerate() {
                    let Ok(Message::Text(text)) = reader.message().await else { panic!("a text") };
                    assert_eq!(text.as_bytes(), vec![b'a' + number as u8; *size]);
                }
            };
            tokio::join!(send, receive);
            assert_eq!(reader.largest_bytes < 64 << 10, is_exchanged, "after {sizes:?}");
        }
    }
}
