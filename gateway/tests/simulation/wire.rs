//! A connection without a kernel: a pipe each way that holds so much and no more, and wakes whoever waits for it.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tickgate_gateway::shard::socket::Socket;

/// What is on its way, and in which state both ends are.
#[derive(Default)]
pub struct Pipe {
    /// To the client, and how much of that there may be.
    pub down: Vec<u8>,
    pub down_max: usize,
    /// To the gateway.
    up: Vec<u8>,
    /// Whether the client will send no more; whether the line is cut.
    is_hung_up: bool,
    is_cut: bool,
    /// Whether the gateway will send no more.
    is_shut: bool,
    reads: Option<Waker>,
    writes: Option<Waker>,
}

impl Pipe {
    /// An open line that holds so many bytes on their way to the client.
    pub fn new(down_max: usize) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { down_max, ..Self::default() }))
    }

    /// The client sends.
    pub fn send(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
        self.wake_reader();
    }

    /// The client takes up to so many bytes.
    pub fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        let taken = self.down.drain(..bytes_max.min(self.down.len())).collect();
        if let Some(waker) = self.writes.take() {
            waker.wake();
        }
        taken
    }

    /// The client sends no more.
    pub fn hang_up(&mut self) {
        self.is_hung_up = true;
        self.wake_reader();
    }

    /// The line is cut: both ends are told, and what was on its way is gone.
    pub fn cut(&mut self) {
        self.is_cut = true;
        self.down.clear();
        self.up.clear();
        self.wake_reader();
        if let Some(waker) = self.writes.take() {
            waker.wake();
        }
    }

    /// Whether nothing more will come to the client.
    pub fn is_over(&self) -> bool {
        self.is_cut || (self.is_shut && self.down.is_empty())
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reads.take() {
            waker.wake();
        }
    }

    fn room(&self) -> usize {
        self.down_max.saturating_sub(self.down.len())
    }
}

/// The gateway's end of a line.
pub struct Wire(pub Rc<RefCell<Pipe>>);

impl Drop for Wire {
    /// As a socket that is closed.
    fn drop(&mut self) {
        self.0.borrow_mut().is_shut = true;
    }
}

impl Socket for Wire {
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_cut || pipe.room() > 0 {
            return Poll::Ready(Ok(()));
        }
        pipe.writes = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_cut || pipe.is_hung_up || !pipe.up.is_empty() {
            return Poll::Ready(Ok(()));
        }
        pipe.reads = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_cut {
            return Err(ErrorKind::ConnectionReset.into());
        }
        match pipe.room().min(bytes.len()) {
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => {
                pipe.down.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
        }
    }

    fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        let taken = pipe.up.len().min(room.len());
        if pipe.is_cut {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if taken == 0 && !pipe.is_hung_up {
            return Err(ErrorKind::WouldBlock.into());
        }
        room[..taken].copy_from_slice(&pipe.up[..taken]);
        pipe.up.drain(..taken);
        Ok(taken)
    }

    fn shut(&self) {
        self.0.borrow_mut().is_shut = true;
    }
}
