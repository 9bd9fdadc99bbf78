//! One request over plain HTTP, on a connection of its own.

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Asks whoever is at the other end of `socket`, and takes an answer of so many bytes at most.
///
/// # Errors
/// When there is no answer, or it is too long.
pub(crate) async fn exchange(
    socket: TcpStream,
    mut request: Request<Full<Bytes>>,
    answer_bytes_max: usize,
) -> anyhow::Result<Response<Bytes>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.context("no HTTP")?;
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str())?;
        request.headers_mut().insert(HOST, host);
    }
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    // Whoever is asked directly is named by Host alone.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse()?;
    let answer = async {
        let (head, body) = sender.send_request(request).await.context("no answer")?.into_parts();
        let body = Limited::new(body, answer_bytes_max).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    tokio::pin!(answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The answer may be complete with its end.
        _ = &mut connection => answer.await,
    }
}
