//! Ticks from a TCP connection, one record per line: what stands in the place of Kafka.
//!
//! As with Kafka, all that is there is taken before any of it is handed on, up to a bound.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

/// Records taken at once, as by the gateway's own feed.
const RECORDS_PER_TAKE: usize = 1_000;
const BUFFER_BYTES: usize = 4 << 20;

/// A connection that ticks come from.
#[derive(Debug)]
pub struct Ingest {
    socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// What a look for records found.
#[derive(Debug, Default, Clone, Copy)]
pub struct Taken {
    pub records: usize,
    /// Whether more is there than is taken at once.
    pub is_more: bool,
    pub is_closed: bool,
}

impl Ingest {
    /// Reads from `socket` without ever waiting for it.
    pub fn new(socket: TcpStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 })
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Hands every record that is there to `record`, in order.
    pub fn take(&mut self, mut record: impl FnMut(&[u8])) -> std::io::Result<Taken> {
        let mut taken = Taken::default();
        loop {
            while let Some(len) = memchr::memchr(b'\n', &self.buffer[self.start..self.end]) {
                if taken.records == RECORDS_PER_TAKE {
                    taken.is_more = true;
                    return Ok(taken);
                }
                record(&self.buffer[self.start..self.start + len]);
                self.start += len + 1;
                taken.records += 1;
            }
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.socket.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    taken.is_closed = true;
                    return Ok(taken);
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
    }
}
