//! A broadcast server with fastwebsockets: hyper for the handshake, then a write for each message.

use super::{ACK, Hub};
use bytes::Bytes;
use fastwebsockets::{Frame, Payload, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::net::TcpStream;

pub(super) async fn client(socket: TcpStream, hub: Arc<Hub>) -> anyhow::Result<()> {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let hub = hub.clone();
        async move {
            let (response, upgraded) = upgrade::upgrade(&mut request)?;
            tokio::spawn(write(upgraded, hub));
            Ok::<Response<Empty<Bytes>>, WebSocketError>(response)
        }
    });
    http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await?;
    Ok(())
}

async fn write(upgraded: upgrade::UpgradeFut, hub: Arc<Hub>) -> Result<(), WebSocketError> {
    let mut socket = upgraded.await?;
    let request = socket.read_frame().await?;
    let mut queue = hub.subscribe(&request.payload);
    drop(request);
    socket.write_frame(Frame::text(Payload::Borrowed(ACK.as_bytes()))).await?;
    while let Some(message) = queue.recv().await {
        socket.write_frame(Frame::text(Payload::Borrowed(&message))).await?;
    }
    Ok(())
}
