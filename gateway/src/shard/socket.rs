//! What a session needs of a socket, and the two kinds that there are.

use crate::tls::socket::TlsSocket;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A client's socket, as its session sees it: it takes and gives bytes or refuses to, and never waits. [`ClientSocket`],
/// or one of a simulation.
pub trait Socket {
    /// Whether it takes bytes; wakes the task when it does again.
    ///
    /// # Errors
    /// When it is gone.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether it has bytes; wakes the task when it has some.
    ///
    /// # Errors
    /// When it is gone.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Hands over `bytes`, unless it is known to refuse them; returns how many it took. What it did not take is presented
    /// again, unchanged, before anything else.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when it takes none now; any other when it is gone.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Takes what it has, as far as there is room; returns how many bytes, 0 at its end.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when it has none now; any other when it is gone.
    fn read(&self, room: &mut [u8]) -> io::Result<usize>;

    /// Says that no more will be sent.
    fn shut(&self);
}

/// Tries again, so that the runtime learns that the socket refuses bytes, and when it takes some again.
#[cold]
fn refused(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    socket.try_io(Interest::WRITABLE, || Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?))
}

impl Socket for TcpStream {
    #[inline]
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    #[inline]
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // The system call itself, without the C library's preparations for a thread that is cancelled in it. Nearly always
        // the kernel takes the bytes: whether it may refuse them is asked when it does.
        match rustix::net::send(self, bytes, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => refused(self, bytes),
            sent => Ok(sent?),
        }
    }

    #[inline]
    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.try_read(room);
        if read.as_ref().is_ok_and(|n| (1..room.len()).contains(n)) {
            // That was all: what comes later is an event of its own, and need not be asked for.
            let is_empty = || Err::<(), _>(ErrorKind::WouldBlock.into());
            let _ = self.try_io(Interest::READABLE, is_empty);
        }
        read
    }

    fn shut(&self) {
        // One that is gone needs no word of it.
        let _ = socket2::SockRef::from(self).shutdown(std::net::Shutdown::Write);
    }
}

/// A client's socket, with or without TLS.
#[derive(Debug)]
pub enum ClientSocket {
    /// As it was accepted.
    Plain(TcpStream),
    /// With TLS on it.
    Tls(Box<TlsSocket>),
}

impl Socket for ClientSocket {
    #[inline]
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_writable(cx),
            Self::Tls(socket) => socket.poll_writable(cx),
        }
    }

    #[inline]
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_readable(cx),
            Self::Tls(socket) => socket.poll_readable(cx),
        }
    }

    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.send(bytes),
            Self::Tls(socket) => socket.send(bytes),
        }
    }

    #[inline]
    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => Socket::read(socket, room),
            Self::Tls(socket) => socket.read(room),
        }
    }

    fn shut(&self) {
        match self {
            Self::Plain(socket) => socket.shut(),
            Self::Tls(socket) => socket.shut(),
        }
    }
}
