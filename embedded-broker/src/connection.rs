//! One connection: frames in, frames out, one request at a time and in order, as Kafka does.

use crate::api;
use crate::core::Core;
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a client may take to read an answer before it is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// First size of a connection's read buffer; it grows with what really arrives, not with what is announced.
const READ_BYTES: usize = 16 << 10;

/// Why a connection was ended by the broker.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client announced a request of {0} bytes")]
    FrameSize(i32),
    #[error("request refused: {0}")]
    Request(#[from] api::BadRequest),
    #[error("the client did not read its answer")]
    Unread,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Serves a connection until either side ends it.
pub(crate) async fn serve(core: Arc<Core>, stream: TcpStream) {
    let _counted = core.enter_connection();
    let peer = stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |peer| peer.to_string());
    match converse(&core, stream).await {
        Ok(()) => tracing::debug!(peer, "connection closed by the client"),
        Err(End::Io(error)) => tracing::debug!(peer, %error, "connection lost"),
        Err(end) => tracing::warn!(peer, reason = %end, "connection closed"),
    }
}

async fn converse(core: &Core, mut stream: TcpStream) -> Result<(), End> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?.ip();
    let local = core.faults.address_for(peer).map_or_else(|| stream.local_addr(), Ok)?;
    let mut buffer = BytesMut::new();
    while let Some(frame) = read_frame(&mut stream, &mut buffer, core.config.request_bytes_max).await? {
        core.faults.ready().await;
        // While a fetch waits, a client that goes away must not keep its place.
        // An answer that is ready goes first: a client may send without acknowledgement and leave.
        let answer = tokio::select! {
            biased;
            answer = api::answer(core, local, frame) => answer?,
            () = gone(&stream) => return Ok(()),
        };
        core.faults.ready().await;
        if let Some(bytes) = answer {
            tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&bytes))
                .await
                .map_err(|_| End::Unread)??;
        }
    }
    Ok(())
}

/// Reads one frame without its length; `None` when the client has closed the connection between two.
async fn read_frame(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<Bytes>, End> {
    loop {
        if let Some(&length) = buffer.first_chunk::<4>() {
            let announced = i32::from_be_bytes(length);
            let length = usize::try_from(announced).ok().filter(|&length| length <= bytes_max);
            let length = length.ok_or(End::FrameSize(announced))?;
            if buffer.len() >= 4 + length {
                return Ok(Some(buffer.split_to(4 + length).freeze().slice(4..)));
            }
        }
        buffer.reserve(READ_BYTES);
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            };
        }
    }
}

/// Returns when the client has closed its side; waits for ever once it has sent its next request.
async fn gone(stream: &TcpStream) {
    if let Ok(1..) = stream.peek(&mut [0]).await {
        std::future::pending().await
    }
}
