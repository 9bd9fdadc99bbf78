//! A shard of its own for tests: nothing reads, nothing is sent anywhere, nobody is asked who it is.

use super::socket::Socket;
use super::{Shard, Shared, panics};
use crate::config::Config;
use crate::cursor_keys::{CursorKeys, Keys};
use crate::feed::directory::Directory;
use crate::feed::request::SessionKey;
use crate::session::guest::{Guest, Opening};
use crate::stats::Board;
use hyper::body::Bytes;
use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// A socket that takes everything and brings nothing.
pub(super) struct Sink;

impl Socket for Sink {
    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn shut(&self) {}
}

/// Both ends of a client's socket.
#[derive(Clone, Default)]
pub(super) struct Wire {
    pub(super) sent: Rc<RefCell<Vec<u8>>>,
    pub(super) given: Rc<RefCell<Vec<u8>>>,
    pub(super) is_full: Rc<Cell<bool>>,
    /// Bytes that it takes of each write.
    pub(super) takes: Rc<Cell<Option<usize>>>,
}

impl Socket for Wire {
    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_full.get() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.given.borrow().is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_full.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = self.takes.get().map_or(bytes.len(), |takes| takes.min(bytes.len()));
        self.sent.borrow_mut().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let given = self.given.take();
        room[..given.len()].copy_from_slice(&given);
        Ok(given.len())
    }

    fn shut(&self) {}
}

/// What a shard shares, with nobody.
pub(super) fn shared(config: Config) -> Shared {
    Shared {
        config: Arc::new(config),
        board: Arc::new(Board::new(1)),
        sessions: Arc::default(),
        subscriptions: Arc::default(),
        directory: Arc::new(Directory::new(10_000)),
        read_again: None,
        wake_feed: Arc::new(|| {}),
        tier: Default::default(),
        cursor_keys: CursorKeys::new(Keys::new(b"a key", None)),
        tls: None,
        access: None,
        audit: None,
    }
}

/// A session's task.
pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A shard whose clients have wires.
pub(super) fn shard(config: Config) -> Rc<RefCell<Shard<Wire>>> {
    Rc::new(RefCell::new(Shard::new(0, shared(config), Arc::default())))
}

fn opening() -> Opening {
    let guest = Guest::new(([127, 0, 0, 1], 1).into());
    Opening {
        answer: b"welcome".to_vec(),
        early: Bytes::new(),
        guest,
        is_greeted: false,
        connect: tracing::Span::none(),
    }
}

/// A client of it: its wire, its session and the task of that, which has begun as the listener begins it.
pub(super) fn connect(shard: &Rc<RefCell<Shard<Wire>>>) -> (Wire, SessionKey, Task) {
    let wire = Wire::default();
    let key = shard.borrow().next_key();
    shard.borrow().shared.sessions.fetch_add(1, Ordering::Relaxed);
    (wire.clone(), key, Box::pin(panics::session(shard.clone(), wire, opening())))
}
