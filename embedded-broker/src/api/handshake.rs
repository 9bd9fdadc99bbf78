//! What a client asks before it gets to work: versions, coordinator, producer id.

use super::{NODE_ID, SUPPORTED, code_of};
use crate::core::Core;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    ApiVersionsResponse, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest,
    InitProducerIdResponse, ResponseKind,
};
use kafka_protocol::protocol::StrBytes;
use std::net::SocketAddr;

/// `key_type` of a consumer group.
const GROUP: i8 = 0;

pub(super) fn api_versions(fail: Option<ResponseError>) -> ResponseKind {
    let version = |supported: &super::Supported| {
        ApiVersion::default()
            .with_api_key(supported.key as i16)
            .with_min_version(supported.min)
            .with_max_version(supported.max)
    };
    let response = ApiVersionsResponse::default()
        .with_error_code(code_of(fail))
        .with_api_keys(SUPPORTED.iter().map(version).collect());
    response.into()
}

/// Names this node as the coordinator of any group: consumers look for one even if they never join. There is none for
/// transactions.
pub(super) fn find_coordinator(
    local: SocketAddr,
    version: i16,
    request: FindCoordinatorRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let fail = fail.or((request.key_type != GROUP).then_some(ResponseError::InvalidRequest));
    let host = || StrBytes::from_string(local.ip().to_string());
    let (node_id, port) = if fail.is_some() { (-1, -1) } else { (NODE_ID, i32::from(local.port())) };
    let response = FindCoordinatorResponse::default();
    let response = if version >= 4 {
        let coordinator = |key| {
            Coordinator::default()
                .with_key(key)
                .with_error_code(code_of(fail))
                .with_node_id(node_id.into())
                .with_host(host())
                .with_port(port)
        };
        response.with_coordinators(request.coordinator_keys.into_iter().map(coordinator).collect())
    } else {
        response.with_error_code(code_of(fail)).with_node_id(node_id.into()).with_host(host()).with_port(port)
    };
    response.into()
}

/// Gives each idempotent producer an id of its own.
pub(super) fn init_producer_id(
    core: &Core,
    request: InitProducerIdRequest,
    fail: Option<ResponseError>,
) -> ResponseKind {
    let fail = fail.or(request.transactional_id.is_some().then_some(ResponseError::InvalidRequest));
    let response = InitProducerIdResponse::default().with_error_code(code_of(fail));
    let response = match fail {
        Some(_) => response.with_producer_id((-1).into()).with_producer_epoch(-1),
        None => response.with_producer_id(core.new_producer_id().into()).with_producer_epoch(0),
    };
    response.into()
}
