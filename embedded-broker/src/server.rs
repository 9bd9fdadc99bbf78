//! The accept loop: owns the port and every connection's task.

use crate::connection;
use crate::core::Core;
use crate::error::BrokerError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

/// Pause after a failed accept, so that running out of file descriptors does not become a busy loop.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
const BACKLOG: u32 = 1024;

/// What the handle may ask of the server; each carries where to answer.
#[derive(Debug)]
pub(crate) enum Command {
    Stop(SyncSender<Result<(), BrokerError>>),
    Restart(SyncSender<Result<(), BrokerError>>),
    DropConnections(SyncSender<usize>),
}

/// The port: listening, or only reserved.
enum Door {
    Open(TcpListener),
    /// Bound but not listening: attempts to connect are refused, and the system gives the port to nobody who asks for
    /// a free one, neither a server nor a client for its own end of a connection.
    Closed(Option<TcpSocket>),
}

/// Serves until the command channel closes.
pub(crate) async fn run(
    core: Arc<Core>,
    listener: std::net::TcpListener,
    mut inbox: mpsc::Receiver<Command>,
) {
    let address = listener.local_addr();
    let (address, listener) = match (address, TcpListener::from_std(listener)) {
        (Ok(address), Ok(listener)) => (address, listener),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "cannot use the listening socket");
            return;
        }
    };
    let mut door = Door::Open(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Commands first: a flood of connections must not delay a shutdown.
            biased;
            command = inbox.recv() => match command {
                None => break,
                Some(command) => obey(command, address, &mut door, &mut connections).await,
            },
            Some(ended) = connections.join_next() => report(ended),
            stream = door.accept() => admit(&core, stream, &mut connections),
        }
    }
    connections.shutdown().await;
}

async fn obey(command: Command, address: SocketAddr, door: &mut Door, connections: &mut JoinSet<()>) {
    // A caller that no longer waits for its answer is not an error.
    match command {
        Command::Stop(answer) => {
            let done = door.close(address);
            connections.shutdown().await;
            answer.send(done).ok();
        }
        Command::Restart(answer) => {
            answer.send(door.open(address)).ok();
        }
        Command::DropConnections(answer) => {
            while let Some(ended) = connections.try_join_next() {
                report(ended);
            }
            let count = connections.len();
            connections.shutdown().await;
            answer.send(count).ok();
        }
    }
}

fn admit(core: &Arc<Core>, stream: TcpStream, connections: &mut JoinSet<()>) {
    if connections.len() >= core.config.connections_max {
        tracing::warn!(max = core.config.connections_max, "too many connections: one closed");
        return;
    }
    connections.spawn(connection::serve(core.clone(), stream));
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

impl Door {
    /// The next connection; never returns while closed. Cancel safe.
    async fn accept(&self) -> TcpStream {
        let Door::Open(listener) = self else { return std::future::pending().await };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn close(&mut self, address: SocketAddr) -> Result<(), BrokerError> {
        if matches!(self, Door::Closed(_)) {
            return Ok(());
        }
        *self = Door::Closed(None); // the listener has to go before the port can be bound again
        let socket = reserve(address).map_err(|source| BrokerError::Bind { address, source })?;
        *self = Door::Closed(Some(socket));
        Ok(())
    }

    fn open(&mut self, address: SocketAddr) -> Result<(), BrokerError> {
        let Door::Closed(reserved) = self else { return Ok(()) };
        let socket = reserved.take().map_or_else(|| reserve(address), Ok);
        let listener = socket.and_then(|socket| socket.listen(BACKLOG));
        *self = Door::Open(listener.map_err(|source| BrokerError::Bind { address, source })?);
        Ok(())
    }
}

fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
