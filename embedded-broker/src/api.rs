//! Requests in, answers out: one file per kind.
//!
//! A handler takes the decoded request and, for tests of clients, the code it has to fail with; it returns the answer.
//! Only fetch ever waits.

mod admin;
mod fetch;
mod handshake;
mod list_offsets;
mod metadata;
mod produce;

use crate::core::Core;
use crate::shape::{self, Misshapen};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};
use std::net::SocketAddr;

/// The one node of the cluster.
const NODE_ID: i32 = 1;

/// A kind of request and the versions of it that are answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Supported {
    pub(crate) key: ApiKey,
    min: i16,
    max: i16,
}

const fn supported(key: ApiKey, min: i16, max: i16) -> Supported {
    Supported { key, min, max }
}

/// Everything that is answered. Fetch and produce end before the versions that name topics by id only.
pub(crate) const SUPPORTED: [Supported; 11] = [
    supported(ApiKey::Produce, 3, 10),
    supported(ApiKey::Fetch, 4, 12),
    supported(ApiKey::ListOffsets, 1, 7),
    supported(ApiKey::Metadata, 1, 12),
    supported(ApiKey::FindCoordinator, 0, 4),
    supported(ApiKey::ApiVersions, 0, 4),
    supported(ApiKey::CreateTopics, 2, 7),
    supported(ApiKey::DeleteTopics, 1, 6),
    supported(ApiKey::DeleteRecords, 0, 2),
    supported(ApiKey::InitProducerId, 0, 4),
    supported(ApiKey::CreatePartitions, 0, 3),
];

/// A request that cannot be answered; the connection is closed for it, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("shorter than a header")]
    Short,
    #[error("no support for request kind {key} in version {version}")]
    Unsupported { key: i16, version: i16 },
    #[error("{api:?}: {shape}")]
    Shape { api: ApiKey, shape: Misshapen },
    #[error("{0}")]
    Codec(anyhow::Error),
}

/// Answers one frame; `None` where the protocol wants no answer. `local` is the address the client reached us at, which
/// is the one it is told to use.
///
/// Cancel safe: a fetch has no effect, and all others never wait.
pub(crate) async fn answer(
    core: &Core,
    local: SocketAddr,
    mut frame: Bytes,
) -> Result<Option<BytesMut>, BadRequest> {
    let Some(&[k0, k1, v0, v1]) = frame.first_chunk() else { return Err(BadRequest::Short) };
    let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
    let unsupported = BadRequest::Unsupported { key, version };
    let Some(supported) = SUPPORTED.iter().find(|supported| supported.key as i16 == key) else {
        return Err(unsupported);
    };
    let api = supported.key;
    core.count_request(api);
    if !(supported.min..=supported.max).contains(&version) {
        // A client that asks in a newer version which versions there are gets the oldest answer and tries again.
        let correlation_id = frame.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        return match (api, correlation_id) {
            (ApiKey::ApiVersions, Some(correlation_id)) => {
                let code = Some(ResponseError::UnsupportedVersion);
                encode(api, 0, correlation_id, handshake::api_versions(code)).map(Some)
            }
            _ => Err(unsupported),
        };
    }
    shape::check(api, version, &frame).map_err(|shape| BadRequest::Shape { api, shape })?;
    let header =
        RequestHeader::decode(&mut frame, api.request_header_version(version)).map_err(BadRequest::Codec)?;
    let request = RequestKind::decode(api, &mut frame, version).map_err(BadRequest::Codec)?;
    let fail = core.faults.take_failure(api);
    tracing::trace!(?api, version, correlation_id = header.correlation_id, ?fail, "request");
    let response = match request {
        RequestKind::Produce(request) => match produce::produce(core, version, request, fail) {
            Some(response) => response,
            None => return Ok(None),
        },
        RequestKind::Fetch(request) => fetch::fetch(core, request, fail).await,
        RequestKind::ListOffsets(request) => list_offsets::list_offsets(core, version, request, fail),
        RequestKind::Metadata(request) => metadata::metadata(core, local, version, request, fail),
        RequestKind::FindCoordinator(request) => handshake::find_coordinator(local, version, request, fail),
        RequestKind::ApiVersions(_) => handshake::api_versions(fail),
        RequestKind::CreateTopics(request) => admin::create_topics(core, version, request, fail),
        RequestKind::DeleteTopics(request) => admin::delete_topics(core, version, request, fail),
        RequestKind::DeleteRecords(request) => admin::delete_records(core, request, fail),
        RequestKind::InitProducerId(request) => handshake::init_producer_id(core, request, fail),
        RequestKind::CreatePartitions(request) => admin::create_partitions(core, request, fail),
        _ => return Err(unsupported),
    };
    encode(api, version, header.correlation_id, response).map(Some)
}

fn encode(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: ResponseKind,
) -> Result<BytesMut, BadRequest> {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    ResponseHeader::default()
        .with_correlation_id(correlation_id)
        .encode(&mut frame, api.response_header_version(version))
        .and_then(|()| response.encode(&mut frame, version))
        .map_err(BadRequest::Codec)?;
    let length = i32::try_from(frame.len() - 4).map_err(|error| BadRequest::Codec(error.into()))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// The wire code of an outcome; 0 is success.
fn code_of(failure: Option<ResponseError>) -> i16 {
    failure.map_or(0, |code| code.code())
}
