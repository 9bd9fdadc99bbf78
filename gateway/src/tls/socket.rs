//! A client's socket with TLS on it. To its shard it is a socket like any other: it takes bytes and gives bytes, or
//! refuses to, and never waits.
//!
//! All that is handed over at once becomes records in one buffer and leaves in one system call. What the kernel does not
//! take of them waits here, for records cannot be made again; of their bytes only those are reported as taken whose
//! record is gone whole. Whoever hands bytes over presents what was not taken again, unchanged, as an
//! [`Outbox`](crate::outbox::Outbox) does: so its books stay true, and a client that does not read is found out as
//! without TLS.

use super::records::{HEAD_BYTES, HELD_BYTES_MAX, Out, RECORD_BYTES_MAX, Records};
use crate::shard::socket::Socket;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Error, ErrorKind};
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// Bytes that are read at once.
const READ_BYTES: usize = 32 << 10;

thread_local! {
    /// What the connections of a thread read and write in, one after the other.
    static BUFFERS: Buffers =
        Buffers { came: RefCell::new(vec![0; READ_BUFFER_BYTES]), out: RefCell::default() };
}

/// Bytes of what a thread reads in; what it writes in is as large as what it writes at once.
pub const READ_BUFFER_BYTES: usize = HELD_BYTES_MAX + READ_BYTES;

struct Buffers {
    came: RefCell<Vec<u8>>,
    out: RefCell<Vec<u8>>,
}

/// A record of which something is not sent yet.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Where it ends among what waits.
    end: usize,
    /// Its plain bytes.
    bytes: usize,
}

#[derive(Debug)]
struct State {
    records: Records,
    /// Plain bytes that came and that there was no room for.
    plain: VecDeque<u8>,
    /// What is to be sent, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// The records in it whose bytes are not reported as taken.
    marks: VecDeque<Mark>,
    /// The bytes of these, which have to be presented again.
    #[cfg(debug_assertions)]
    promised: Vec<u8>,
    /// Whether the goodbye is said.
    is_shut: bool,
    /// Whether it is beyond use: no goodbye then. It is so while records are made or sent, too: a panic in between leaves
    /// one of which nobody knows how much is gone. Nothing is read or sent then.
    is_broken: bool,
}

/// The socket.
#[derive(Debug)]
pub struct TlsSocket {
    socket: TcpStream,
    state: RefCell<State>,
}

impl TlsSocket {
    /// On `socket`, of which nothing was read yet.
    pub(super) fn new(socket: TcpStream, records: Records) -> Self {
        let state = State {
            records,
            plain: VecDeque::new(),
            waiting: Vec::new(),
            sent: 0,
            marks: VecDeque::new(),
            #[cfg(debug_assertions)]
            promised: Vec::new(),
            is_shut: false,
            is_broken: false,
        };
        Self { socket, state: RefCell::new(state) }
    }

    /// Whether hands are not shaken yet.
    pub(super) fn is_shaking(&self) -> bool {
        self.state.borrow().records.is_shaking()
    }

    /// Whether hands were shaken as an earlier session's.
    pub fn is_resumed(&self) -> bool {
        self.state.borrow().records.is_resumed()
    }

    /// The socket below.
    pub(super) fn below(&self) -> &TcpStream {
        &self.socket
    }

    /// Sends what waits, as far as the kernel takes it; says whether that was all.
    pub(super) fn send_waiting(&self) -> io::Result<bool> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        self.push(&mut state)?;
        Ok(state.waiting.is_empty())
    }

    /// Reads once from the socket below, and keeps what came for whoever reads next. Gives how many bytes came, 0 at the
    /// end.
    pub(super) fn read_kept(&self) -> io::Result<usize> {
        let mut plain = VecDeque::new();
        let read = self.read_below(|bytes| plain.extend(bytes));
        self.state.borrow_mut().plain.append(&mut plain);
        read
    }

    /// Reads once from the socket below, and hands what came to `plain`. Gives how many bytes came, 0 at the end.
    fn read_below(&self, mut plain: impl FnMut(&[u8])) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        state.check()?;
        BUFFERS.with(|buffers| {
            let (mut came, mut out) = (buffers.came.borrow_mut(), buffers.out.borrow_mut());
            let held = state.records.held().len();
            came[..held].copy_from_slice(state.records.held());
            let read = Socket::read(&self.socket, &mut came[held..])?;
            if read == 0 {
                return Ok(0);
            }
            let mut out = Out::new(&mut out);
            state.is_broken = true;
            let taken = state.records.take(&mut came[..held + read], &mut out, &mut plain);
            state.waiting.extend_from_slice(out.bytes());
            if let Err(broken) = taken {
                // So that the peer learns why, if it still listens.
                let _ = self.push(state);
                return Err(Error::new(ErrorKind::InvalidData, broken));
            }
            state.is_broken = false;
            Ok(read)
        })
    }

    /// Sends what waits as far as the kernel takes it; returns how many bytes of whoever handed them over are gone.
    fn push(&self, state: &mut State) -> io::Result<usize> {
        let mut taken = 0;
        while state.sent < state.waiting.len() {
            match Socket::send(&self.socket, &state.waiting[state.sent..]) {
                Ok(sent) => state.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            }
            while let Some(mark) = state.marks.pop_front_if(|mark| mark.end <= state.sent) {
                taken += mark.bytes;
            }
        }
        // A connection that is through with it holds no buffers.
        (state.waiting, state.sent, state.marks) = (Vec::new(), 0, VecDeque::new());
        if state.is_shut {
            Socket::shut(&self.socket);
        }
        Ok(taken)
    }

    /// Sends what waits and was handed over by nobody who would ask for it.
    fn push_own(&self, state: &mut State, cx: &mut Context<'_>) -> io::Result<()> {
        while !state.waiting.is_empty() && (state.marks.is_empty() || state.is_shut) {
            match self.socket.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(()),
            };
            self.push(state)?;
        }
        Ok(())
    }

    /// Makes records of `bytes` and sends them behind what waits, in one system call; returns how many bytes are gone.
    fn send_sealed(&self, state: &mut State, bytes: &[u8]) -> io::Result<usize> {
        BUFFERS.with(|buffers| {
            let mut out = buffers.out.borrow_mut();
            let mut out = Out::new(&mut out);
            out.extend(&state.waiting[state.sent..]);
            let start = out.len();
            state.is_broken = true;
            if let Err(broken) = state.records.seal(bytes, &mut out) {
                return Err(Error::new(ErrorKind::InvalidData, broken));
            }
            let sent = match Socket::send(&self.socket, out.bytes()) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if sent == out.len() {
                if !state.waiting.is_empty() {
                    (state.waiting, state.sent) = (Vec::new(), 0);
                }
                state.is_broken = false;
                return Ok(bytes.len());
            }
            let taken = state.wait_for(out.bytes(), start, sent, bytes)?;
            state.is_broken = false;
            Ok(taken)
        })
    }
}

impl State {
    /// Nothing that works out later mends what is beyond use.
    ///
    /// # Errors
    /// When it is.
    fn check(&self) -> io::Result<()> {
        if self.is_broken { Err(Error::other("TLS: the connection broke before")) } else { Ok(()) }
    }

    /// Keeps what was not sent of `out`, whose records from `start` on hold what was `presented` at their end. Returns how
    /// many bytes of that are gone.
    #[cold]
    fn wait_for(&mut self, out: &[u8], start: usize, sent: usize, presented: &[u8]) -> io::Result<usize> {
        let bytes = presented.len();
        let mut ends = Vec::new();
        let mut end = start;
        while let Some(head) = out.get(end..end + HEAD_BYTES) {
            end += HEAD_BYTES + usize::from(u16::from_be_bytes([head[3], head[4]]));
            ends.push(end);
        }
        // Before them, rustls may have had something to say.
        let count = bytes.div_ceil(RECORD_BYTES_MAX);
        let own = ends.len().checked_sub(count);
        let Some(own) = own.filter(|_| end == out.len()) else {
            return Err(Error::other("TLS: records that are not the ones made"));
        };
        let mut taken = 0;
        for (number, end) in ends[own..].iter().enumerate() {
            let bytes = RECORD_BYTES_MAX.min(bytes - number * RECORD_BYTES_MAX);
            if *end <= sent {
                taken += bytes;
            } else {
                self.marks.push_back(Mark { end: end - sent, bytes });
            }
        }
        (self.waiting, self.sent) = (out[sent..].to_vec(), 0);
        #[cfg(debug_assertions)]
        self.promised.extend_from_slice(&presented[taken..]);
        Ok(taken)
    }
}

impl Socket for TlsSocket {
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(cx)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        state.check()?;
        if !state.plain.is_empty() || state.records.is_ended() {
            return Poll::Ready(Ok(()));
        }
        if !state.waiting.is_empty() {
            self.push_own(&mut state, cx)?;
        }
        drop(state);
        self.socket.poll_read_ready(cx)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        state.check()?;
        let mut taken = 0;
        if !state.marks.is_empty() {
            #[cfg(debug_assertions)]
            assert!(bytes.starts_with(&state.promised), "what was not taken is presented again, unchanged");
            taken = self.push(state)?;
            #[cfg(debug_assertions)]
            state.promised.drain(..taken);
            if taken > bytes.len() {
                state.is_broken = true;
                return Err(Error::other("TLS: other bytes than those not taken were presented"));
            }
        }
        if state.marks.is_empty() && taken < bytes.len() && !state.is_shut {
            taken += self.send_sealed(state, &bytes[taken..])?;
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut given = {
            let state = &mut *self.state.borrow_mut();
            let given = give(&mut state.plain, room);
            if given > 0 || state.records.is_ended() {
                return Ok(given);
            }
            given
        };
        let mut left = VecDeque::new();
        let came = self.read_below(|plain| {
            let fits = plain.len().min(room.len() - given);
            room[given..given + fits].copy_from_slice(&plain[..fits]);
            given += fits;
            left.extend(&plain[fits..]);
        })?;
        let mut state = self.state.borrow_mut();
        state.plain = left;
        // The peer may have gone without a goodbye: what is said within says its own.
        if given == 0 && came > 0 && !state.records.is_ended() {
            // What came was for TLS itself.
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(given)
    }

    fn shut(&self) {
        let state = &mut *self.state.borrow_mut();
        if state.is_shut || state.is_broken {
            return;
        }
        state.is_shut = true;
        // A thread that ends has no buffers any more. And one that is gone needs no word of it.
        let _ = BUFFERS.try_with(|buffers| {
            let mut out = buffers.out.borrow_mut();
            let mut out = Out::new(&mut out);
            let _ = state.records.goodbye(&mut out);
            state.waiting.extend_from_slice(out.bytes());
        });
        let _ = self.push(state);
    }
}

/// Moves what fits.
fn give(plain: &mut VecDeque<u8>, room: &mut [u8]) -> usize {
    let count = plain.len().min(room.len());
    for (to, from) in room.iter_mut().zip(plain.drain(..count)) {
        *to = from;
    }
    if plain.is_empty() {
        // A connection that is through with it holds no buffers.
        *plain = VecDeque::new();
    }
    count
}

impl Drop for TlsSocket {
    /// Says goodbye, so that its peer knows that this was all.
    fn drop(&mut self) {
        let is_open = {
            let state = self.state.get_mut();
            !state.records.is_shaking() && state.waiting.is_empty()
        };
        if is_open {
            Socket::shut(self);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::CONFIGS;
    use super::*;
    use rustls::{ClientConfig, ClientConnection, Stream};
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    /// A connection over which hands were shaken. Its client says something when it was told something, and gives what it was
    /// told from then on, and why that was the end.
    async fn shaken() -> (TlsSocket, std::thread::JoinHandle<(Vec<u8>, Option<ErrorKind>)>) {
        let (server, roots) = &*CONFIGS;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let client = std::thread::spawn(move || {
            let name = "localhost".try_into().expect("a name");
            let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
            let mut socket = std::net::TcpStream::connect(address).expect("it listens");
            let mut stream = Stream::new(&mut client, &mut socket);
            stream.read_exact(&mut [0]).expect("it is told something");
            stream.write_all(b"hello").expect("it is read");
            let mut told = Vec::new();
            let end = stream.read_to_end(&mut told);
            (told, end.err().map(|error| error.kind()))
        });
        let (socket, _) = listener.accept().await.expect("it connects");
        let socket = TlsSocket::new(socket, Records::new(server.clone()).expect("a server"));
        while socket.is_shaking() {
            poll_fn(|cx| Socket::poll_readable(&socket, cx)).await.expect("it is open");
            match socket.read_kept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => assert!(read.expect("it is TLS") > 0),
            }
            assert!(socket.send_waiting().expect("it is open"), "there is room");
        }
        (socket, client)
    }

    /// A panic in the midst of a record was forgotten with the next thing that worked: the goodbye of the session that it ended
    /// was sent over a connection of which nobody knew where it stood.
    #[tokio::test]
    async fn what_broke_once_says_nothing_more() {
        let (socket, client) = shaken().await;
        socket.send(b"!").expect("there is room");
        loop {
            poll_fn(|cx| Socket::poll_readable(&socket, cx)).await.expect("it is open");
            let read = catch_unwind(AssertUnwindSafe(|| socket.read_below(|_| panic!("in the midst of it"))));
            match read {
                Err(_) => break,
                // What comes before it is for TLS itself.
                Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                Ok(Ok(read)) => assert!(read > 0),
            }
        }
        let is_over = |error: Error| error.kind() != ErrorKind::WouldBlock;
        assert!(socket.send(b"goodbye").is_err_and(is_over));
        assert!(socket.read(&mut [0; 100]).is_err_and(is_over));
        assert!(socket.send_waiting().is_err_and(is_over));
        socket.shut();
        drop(socket);
        assert_eq!(client.join().expect("it ends"), (Vec::new(), Some(ErrorKind::UnexpectedEof)));
    }
}
