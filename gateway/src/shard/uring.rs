//! Many sends with one system call (io_uring): what a write costs apart from the network is saved for all but the first.
//!
//! # Safety
//! - The kernel reads the bytes of a send after it was queued here. [`Uring::send`] borrows them until it returns, and
//!   returns only when the kernel has answered for each: until then it asks again.
//! - Each send is told not to wait (`MSG_DONTWAIT`), so it is done or refused while the kernel takes it over: none is
//!   left behind, whatever ends the thread.
#![allow(unsafe_code)]

use io_uring::{IoUring, opcode, types};
use rustix::net::SendFlags;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A queue of sends that goes to the kernel as a whole.
#[allow(missing_debug_implementations)]
pub struct Uring {
    ring: IoUring,
    /// What became of each: bytes taken, or an error number below zero.
    results: Vec<i32>,
}

impl Uring {
    /// Sends that one call takes. Latencies are taken when all are done: more would blur them.
    pub const SENDS_MAX: usize = 32;

    /// A queue.
    ///
    /// # Errors
    /// When the kernel has no io_uring or does not allow it, as in many containers.
    pub fn new() -> io::Result<Self> {
        let ring =
            IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(Self::SENDS_MAX as u32)?;
        Ok(Self { ring, results: Vec::with_capacity(Self::SENDS_MAX) })
    }

    /// Hands bytes to sockets, at most [`Uring::SENDS_MAX`] of them; returns what became of each, in order.
    ///
    /// # Panics
    /// When the kernel refuses to work on what it took over: there is no telling then what was sent.
    pub fn send<'a>(
        &mut self,
        sends: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
    ) -> impl Iterator<Item = io::Result<usize>> + '_ {
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits() as i32;
        self.results.clear();
        for (socket, bytes) in sends.take(Self::SENDS_MAX) {
            // A socket takes less than it is given anyway.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let send = opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length).flags(flags);
            let entry = send.build().user_data(self.results.len() as u64);
            // SAFETY: see the module: `bytes` outlive this call, and it waits for all.
            unsafe { self.ring.submission().push(&entry) }.expect("there is room for as many as are taken");
            self.results.push(0);
        }
        let mut waiting = self.results.len();
        while waiting > 0 {
            match self.ring.submit_and_wait(waiting) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("io_uring failed: {error}"),
            }
            for done in self.ring.completion() {
                if let Some(result) = self.results.get_mut(done.user_data() as usize) {
                    *result = done.result();
                    waiting -= 1;
                }
            }
        }
        self.results
            .iter()
            .map(|result| usize::try_from(*result).map_err(|_| io::Error::from_raw_os_error(-result)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn each_socket_gets_its_bytes_and_one_that_is_full_refuses() {
        let Ok(mut uring) = Uring::new() else {
            eprintln!("no io_uring here: nothing to test");
            return;
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut pairs: Vec<(TcpStream, TcpStream)> = (0..Uring::SENDS_MAX)
            .map(|_| {
                let client =
                    TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
                (listener.accept().expect("its other end").0, client)
            })
            .collect();
        for round in 0..3_u8 {
            let texts: Vec<[u8; 2]> = (0..pairs.len() as u8).map(|i| [i, round]).collect();
            let sends = pairs.iter().zip(&texts).map(|((server, _), text)| (server.as_fd(), &text[..]));
            assert!(uring.send(sends).all(|taken| taken.expect("it is taken") == 2));
            for ((_, client), text) in pairs.iter_mut().zip(&texts) {
                let mut got = [0; 2];
                client.read_exact(&mut got).expect("the bytes");
                assert_eq!(got, *text);
            }
        }
        let much = vec![0; 64 << 20];
        let full = |uring: &mut Uring| {
            uring.send(std::iter::once((pairs[0].0.as_fd(), &much[..]))).next().expect("one")
        };
        assert!(full(&mut uring).expect("some of it") < much.len());
        while full(&mut uring).is_ok() {}
        assert_eq!(full(&mut uring).expect_err("it is full").kind(), io::ErrorKind::WouldBlock);
    }
}
