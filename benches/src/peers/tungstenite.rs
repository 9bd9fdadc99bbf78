//! A broadcast server with tokio-tungstenite.

use super::{ACK, Hub};
use anyhow::Context as _;
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Serves a client; up to `together` messages that wait are flushed together.
pub(super) async fn client(socket: TcpStream, hub: Arc<Hub>, together: usize) -> anyhow::Result<()> {
    let mut socket = accept_async(socket).await?;
    let request = socket.next().await.context("no request")??;
    let mut queue = hub.subscribe(&request.into_data());
    socket.send(Message::text(ACK)).await?;
    let mut messages = Vec::new();
    while queue.recv_many(&mut messages, together).await > 0 {
        for message in messages.drain(..) {
            socket.feed(Message::Text(Utf8Bytes::try_from(message)?)).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}
