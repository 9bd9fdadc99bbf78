//! Other ways to write the same server, each as its library's documentation suggests: a task and a bounded queue for each
//! client, and a table of who wants which symbol.
//!
//! They read one request per client and then only write, which spares them what a real server must do besides. One thread:
//! they get one processor.

mod fastwebsockets;
mod tungstenite;

use crate::market;
use crate::process;
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Messages that wait for a client before further ones are dropped: the gateway's default.
const QUEUE: usize = 8_192;
const ACK: &str = r#"{"op":"ack"}"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// fastwebsockets, a write for each message
    Fastwebsockets,
    /// tokio-tungstenite, a flush for each message
    Tungstenite,
    /// tokio-tungstenite, a flush for all messages that wait
    TungsteniteBatch,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which server
    #[arg(value_enum)]
    kind: Kind,
    /// Where clients connect
    #[arg(long)]
    listen: SocketAddr,
    /// Where ticks come from
    #[arg(long)]
    feed: SocketAddr,
}

/// Serves until the standard input ends.
pub fn run(args: &Args) -> anyhow::Result<()> {
    process::raise_file_limit();
    process::answer_questions(process::Counts::default)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(args))
}

async fn serve(args: &Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    let feed = TcpListener::bind(args.feed).await?;
    let hub = Arc::new(Hub::default());
    tokio::spawn(publish(feed, hub.clone()));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let (hub, kind) = (hub.clone(), args.kind);
        tokio::spawn(async move {
            let end = match kind {
                Kind::Fastwebsockets => fastwebsockets::client(socket, hub).await,
                Kind::Tungstenite => tungstenite::client(socket, hub, 1).await,
                Kind::TungsteniteBatch => tungstenite::client(socket, hub, QUEUE).await,
            };
            // How a client went away is its own business.
            drop(end);
        });
    }
}

async fn publish(listener: TcpListener, hub: Arc<Hub>) -> std::io::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        read(socket, &hub).await?;
    }
}

async fn read(socket: TcpStream, hub: &Hub) -> std::io::Result<()> {
    let mut lines = BufReader::with_capacity(256 << 10, socket);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        line.pop();
        hub.publish(&line);
        line.clear();
    }
    Ok(())
}

/// The queues of a symbol's subscribers.
type Queues = FxHashMap<Box<[u8]>, Vec<mpsc::Sender<Bytes>>>;

/// Who wants what.
#[derive(Debug, Default)]
struct Hub {
    subscribers: Mutex<Queues>,
}

impl Hub {
    /// Takes a request; what is published of its symbols comes out of the queue.
    fn subscribe(&self, request: &[u8]) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        for symbol in market::symbols_of(request) {
            subscribers.entry(symbol.into()).or_default().push(sender.clone());
        }
        receiver
    }

    fn publish(&self, record: &[u8]) {
        let Some(symbol) = market::symbol_of(record) else { return };
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(subscribers) = subscribers.get_mut(symbol) else { return };
        let message = Bytes::copy_from_slice(record);
        subscribers.retain(|sender| {
            !matches!(sender.try_send(message.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
    }
}
