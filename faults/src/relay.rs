//! A TCP relay between two ends that does to their bytes what networks do: hold them, delay them, let only so many
//! through, spoil them, or cut the line.
//!
//! Every accepted connection is a *link* with a number, counted from zero. What is done to a link is done to both of its
//! directions; bytes that are held stay with the sender once small buffers are full, as on a dead line.

use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// What is on its way on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Width {
    /// Bytes read at once, and the kernel's buffers of both sockets unless the link is wide.
    chunk_bytes: usize,
    /// Chunks of one direction that are on their way at once.
    chunks: usize,
}

/// What a held link swallows must be little.
pub const NARROW: Width = Width { chunk_bytes: 4 << 10, chunks: 4 };
/// A line that is long and still carries much: 32 MiB of each direction are on their way at once.
pub const WIDE: Width = Width { chunk_bytes: 64 << 10, chunks: 512 };

impl Width {
    fn socket(self) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        if self == NARROW {
            socket.set_recv_buffer_size(self.chunk_bytes as u32)?;
        }
        Ok(socket)
    }
}

/// Where a relay connects from on this machine.
pub const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// What a link does to the bytes on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mode {
    /// Nothing passes.
    pub is_held: bool,
    /// The line is cut: both ends are told by a reset.
    pub is_cut: bool,
    /// How long a byte is on its way.
    pub delay: Duration,
    /// Bytes a second, in each direction.
    pub bytes_per_s: Option<u64>,
    /// One byte in so many that go to the client is turned over; 0 spoils none.
    pub spoil_one_in: u64,
}

#[derive(Debug, Default)]
struct Links {
    target: Option<SocketAddr>,
    modes: Vec<watch::Sender<Mode>>,
    /// What a new link begins with.
    first: Mode,
}

/// A running relay. Dropped, it cuts every link.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    links: Arc<Mutex<Links>>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Listens on a free port of this machine and passes everything on to `target`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let relay = Self::listen(NARROW).await?;
        relay.lead_to(target);
        Ok(relay)
    }

    /// Listens, and knows nowhere yet to pass anything on to.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn listen(width: Width) -> io::Result<Self> {
        let socket = width.socket()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        let links: Arc<Mutex<Links>> = Arc::default();
        let accepting = tokio::spawn(accept(listener, width, links.clone()));
        Ok(Self { address, links, accepting })
    }

    /// Passes new links on to `target`.
    pub fn lead_to(&self, target: SocketAddr) {
        lock(&self.links).target = Some(target);
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many links there have been.
    pub fn links(&self) -> usize {
        lock(&self.links).modes.len()
    }

    /// Changes one link.
    pub fn link(&self, number: usize, change: impl FnOnce(&mut Mode)) {
        if let Some(mode) = lock(&self.links).modes.get(number) {
            mode.send_modify(change);
        }
    }

    /// Changes every link, those to come included.
    pub fn all(&self, change: impl Fn(&mut Mode)) {
        let mut links = lock(&self.links);
        change(&mut links.first);
        links.modes.iter().for_each(|mode| mode.send_modify(&change));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.all(|mode| mode.is_cut = true);
    }
}

fn lock(links: &Mutex<Links>) -> MutexGuard<'_, Links> {
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, width: Width, links: Arc<Mutex<Links>>) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            // Descriptors have run out, most likely.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let (target, mode) = {
            let mut links = lock(&links);
            // Leading nowhere, it is a port that nobody listens on.
            let Some(target) = links.target else { continue };
            let (sender, mode) = watch::channel(links.first);
            links.modes.push(sender);
            (target, mode)
        };
        tokio::spawn(async move {
            // An end that cannot be reached looks like a line that was cut.
            let Ok(far) = connect(target, width).await else { return };
            link(near, far, mode, width).await;
        });
    }
}

async fn connect(target: SocketAddr, width: Width) -> io::Result<TcpStream> {
    let socket = width.socket()?;
    if target.ip().is_loopback() {
        // By which the other end can tell who came through here.
        socket.bind((FROM, 0).into())?;
    }
    socket.connect(target).await
}

async fn link(near: TcpStream, far: TcpStream, mut mode: watch::Receiver<Mode>, width: Width) {
    for socket in [&near, &far] {
        // A small message that waits for another would be a delay of our own making.
        let _ = socket.set_nodelay(true);
    }
    let up = pump(&near, &far, mode.clone(), width, false);
    let down = pump(&far, &near, mode.clone(), width, true);
    tokio::select! {
        // Each ends with its own direction, so that a half-closed connection stays half closed.
        _ = async { tokio::join!(up, down) } => {}
        _ = mode.wait_for(|mode| mode.is_cut) => {
            // Closed like this, a socket resets its connection and forgets what was on its way.
            for socket in [&near, &far] {
                let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            }
        }
    }
}

/// Passes one direction on until its end.
async fn pump(from: &TcpStream, to: &TcpStream, mode: watch::Receiver<Mode>, width: Width, is_down: bool) {
    let (chunks, mut on_the_way) = mpsc::channel::<(Instant, Vec<u8>)>(width.chunks);
    let mut reading = mode.clone();
    let read = async move {
        let mut buffer = vec![0; width.chunk_bytes];
        loop {
            if reading.wait_for(|mode| !mode.is_held).await.is_err() || from.readable().await.is_err() {
                return;
            }
            let count = match from.try_read(&mut buffer) {
                Ok(count @ 1..) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(_) | Err(_) => return,
            };
            let due = Instant::now() + reading.borrow().delay;
            if chunks.send((due, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let mut writing = mode;
    let mut passed = 0u64;
    let write = async move {
        while let Some((due, mut chunk)) = on_the_way.recv().await {
            sleep_until(due).await;
            let Ok(now) = writing.wait_for(|mode| !mode.is_held).await.map(|mode| *mode) else { return };
            if is_down && now.spoil_one_in > 0 {
                spoil(&mut chunk, passed, now.spoil_one_in);
            }
            passed += chunk.len() as u64;
            if write_all(to, &chunk).await.is_err() {
                return;
            }
            if let Some(bytes_per_s) = now.bytes_per_s {
                sleep(Duration::from_secs_f64(chunk.len() as f64 / bytes_per_s.max(1) as f64)).await;
            }
        }
        let _ = SockRef::from(to).shutdown(Shutdown::Write);
    };
    tokio::join!(read, write);
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Turns over every byte whose place in the stream is a multiple of `one_in`; `passed` bytes came before.
fn spoil(chunk: &mut [u8], passed: u64, one_in: u64) {
    for (place, byte) in (passed..).zip(chunk) {
        if place % one_in == one_in - 1 {
            *byte = !*byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn pair() -> (Relay, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay::start(listener.local_addr().unwrap()).await.unwrap();
        let near = TcpStream::connect(relay.address()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (relay, near, far)
    }

    async fn take(socket: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        socket.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn passes_both_ways_and_keeps_a_half_close() {
        let (relay, mut near, mut far) = pair().await;
        near.write_all(b"question").await.unwrap();
        assert_eq!(take(&mut far, 8).await, b"question");
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "the end is passed on");
        far.write_all(b"answer").await.unwrap();
        assert_eq!(take(&mut near, 6).await, b"answer", "the other direction is still open");
        assert_eq!(relay.links(), 1);
    }

    #[tokio::test]
    async fn what_is_held_comes_when_it_is_released() {
        let (relay, mut near, mut far) = pair().await;
        relay.link(0, |mode| mode.is_held = true);
        far.write_all(b"late").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), near.read(&mut [0])).await;
        assert!(early.is_err(), "nothing passes");
        relay.link(0, |mode| mode.is_held = false);
        assert_eq!(take(&mut near, 4).await, b"late");
    }

    #[tokio::test]
    async fn a_cut_resets_both_ends() {
        let (relay, mut near, mut far) = pair().await;
        near.write_all(b"x").await.unwrap();
        take(&mut far, 1).await;
        relay.all(|mode| mode.is_cut = true);
        for socket in [&mut near, &mut far] {
            assert!(!matches!(socket.read(&mut [0]).await, Ok(1..)), "it is over");
        }
    }

    #[tokio::test]
    async fn bytes_are_delayed_and_spoilt() {
        let (relay, mut near, mut far) = pair().await;
        relay.link(0, |mode| (mode.delay, mode.spoil_one_in) = (Duration::from_millis(50), 4));
        let sent = Instant::now();
        far.write_all(&[1; 9]).await.unwrap();
        assert_eq!(take(&mut near, 9).await, [1, 1, 1, 254, 1, 1, 1, 254, 1]);
        assert!(sent.elapsed() >= Duration::from_millis(50));
        near.write_all(&[1; 9]).await.unwrap();
        assert_eq!(take(&mut far, 9).await, [1; 9], "only what goes to the client is spoilt");
    }
}
