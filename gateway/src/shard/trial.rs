//! A shard of its own for tests: nothing reads, nothing is sent anywhere, nobody is asked who it is.

use super::Shared;
use super::socket::Socket;
use crate::config::Config;
use crate::cursor_keys::{CursorKeys, Keys};
use crate::feed::directory::Directory;
use crate::stats::Board;
use std::io::{self, ErrorKind};
use std::sync::Arc;
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
