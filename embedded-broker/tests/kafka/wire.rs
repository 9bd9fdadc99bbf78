//! The protocol below any client library: every version that is announced, and bytes that make no sense.

use crate::support::PATIENCE;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use tickgate_broker::{Broker, BrokerConfig};

/// A connection that speaks the protocol and nothing more.
pub struct Wire {
    stream: TcpStream,
    correlation_id: i32,
}

impl Wire {
    pub fn connect(bootstrap: &str) -> Wire {
        let stream = TcpStream::connect(bootstrap.split(',').next().unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire { stream, correlation_id: 0 }
    }

    /// Sends a request and returns its answer, which has to be decodable to its last byte.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> io::Result<R::Response> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<()> {
        self.correlation_id += 1;
        self.stream.write_all(&frame(self.correlation_id, version, request))
    }

    fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut body = self.receive_frame()?;
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut body, header_version).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = R::Response::decode(&mut body, version).unwrap();
        assert_eq!(body.remaining(), 0, "bytes are left of the answer to {} v{version}", R::KEY);
        Ok(response)
    }

    fn receive_frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// Sends bytes as they are; an error says no more than that the other side has closed.
    fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Whether the other side closes the connection without another byte.
    fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn frame<R: Request>(correlation_id: i32, version: i16, request: &R) -> BytesMut {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("wire")));
    let mut out = BytesMut::new();
    out.put_i32(0);
    header.encode(&mut out, R::header_version(version)).unwrap();
    request.encode(&mut out, version).unwrap();
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

fn broker() -> Broker {
    let broker = Broker::start(BrokerConfig::default()).unwrap();
    broker.create_topic("ticks", 2).unwrap();
    broker
}

/// An uncompressed batch with one record, "tick", at time 5.
fn one_record() -> BytesMut {
    let mut batch = BytesMut::zeroed(61);
    batch[16] = 2;
    batch[27..35].copy_from_slice(&5i64.to_be_bytes());
    batch[35..43].copy_from_slice(&5i64.to_be_bytes());
    batch[43..57].fill(0xff); // no producer id, epoch and sequence
    batch[60] = 1;
    batch.put_slice(&[20, 0, 0, 0, 1, 8, b't', b'i', b'c', b'k', 0]);
    let length = batch.len() as i32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn produce(partition: i32, records: BytesMut) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records.freeze()));
    let topic = TopicProduceData::default().with_name(name("ticks")).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

fn fetch(topic: &'static str, offset: i64, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}

fn list_offsets(timestamp_ms: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp_ms);
    let topic = ListOffsetsTopic::default().with_name(name("ticks")).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_topics(vec![topic])
}

fn create(text: &'static str) -> CreateTopicsRequest {
    let config = CreatableTopicConfig::default().with_name(StrBytes::from_static_str("retention.bytes"));
    let config = config.with_value(Some(StrBytes::from_static_str("-1")));
    let topic = CreatableTopic::default().with_name(name(text)).with_num_partitions(1);
    let topic = topic.with_replication_factor(1).with_configs(vec![config]);
    CreateTopicsRequest::default().with_topics(vec![topic])
}

/// The announced versions of a kind of request.
fn versions<R: Request>(wire: &mut Wire) -> RangeInclusive<i16> {
    let announced = wire.call(3, &ApiVersionsRequest::default()).unwrap().api_keys;
    let found = announced.iter().find(|version| version.api_key == R::KEY).unwrap();
    found.min_version..=found.max_version
}

#[test]
fn every_announced_version_is_answered_in_full() {
    let broker = broker();
    let mut wire = Wire::connect(&broker.bootstrap());
    let wire = &mut wire;
    for version in versions::<ApiVersionsRequest>(wire) {
        assert_eq!(wire.call(version, &ApiVersionsRequest::default()).unwrap().api_keys.len(), 11);
    }
    for (version, offset) in versions::<ProduceRequest>(wire).zip(0..) {
        let answer = wire.call(version, &produce(0, one_record())).unwrap();
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, offset));
        let answer = wire.call(version, &produce(9, one_record())).unwrap();
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ResponseError::UnknownTopicOrPartition.code());
        let answer = wire.call(version, &produce(0, BytesMut::zeroed(70))).unwrap();
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ResponseError::InvalidRecord.code());
    }
    let high = broker.high_watermark("ticks", 0).unwrap();
    for version in versions::<FetchRequest>(wire) {
        let answer = wire.call(version, &fetch("ticks", 1, 0)).unwrap();
        let partition = &answer.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, high));
        assert_eq!(partition.records.as_ref().unwrap().len(), one_record().len() * (high as usize - 1));
        let answer = wire.call(version, &fetch("ticks", high + 1, 0)).unwrap();
        let code = answer.responses[0].partitions[0].error_code;
        assert_eq!(code, ResponseError::OffsetOutOfRange.code());
    }
    for version in versions::<ListOffsetsRequest>(wire) {
        for (time_ms, offset) in [(-1, high), (-2, 0), (5, 0), (6, -1), (-3, 0)] {
            let answer = wire.call(version, &list_offsets(time_ms)).unwrap();
            assert_eq!(answer.topics[0].partitions[0].offset, offset, "time {time_ms}");
        }
    }
    for version in versions::<MetadataRequest>(wire) {
        let all = wire.call(version, &MetadataRequest::default().with_topics(None)).unwrap();
        assert_eq!((all.topics.len(), all.topics[0].partitions.len()), (1, 2));
        assert_eq!(all.brokers[0].port, i32::from(broker.address().port()));
        if version >= 10 {
            for (id, code) in [(broker.topic_id("ticks").unwrap(), 0), (uuid::Uuid::max(), 100)] {
                let asked = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
                let request = MetadataRequest::default().with_topics(Some(vec![asked]));
                assert_eq!(wire.call(version, &request).unwrap().topics[0].error_code, code);
            }
        }
        let asked = MetadataRequestTopic::default().with_name(Some(name("none")));
        let answer = wire.call(version, &MetadataRequest::default().with_topics(Some(vec![asked]))).unwrap();
        assert_eq!(answer.topics[0].error_code, ResponseError::UnknownTopicOrPartition.code());
    }
    for version in versions::<DeleteRecordsRequest>(wire) {
        let partition = DeleteRecordsPartition::default().with_offset(2);
        let topic = DeleteRecordsTopic::default().with_name(name("ticks")).with_partitions(vec![partition]);
        let answer = wire.call(version, &DeleteRecordsRequest::default().with_topics(vec![topic])).unwrap();
        assert_eq!(answer.topics[0].partitions[0].low_watermark, 2);
    }
    for (version, total) in versions::<CreatePartitionsRequest>(wire).zip(3..) {
        let topic = CreatePartitionsTopic::default().with_name(name("ticks")).with_count(total);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(None)]);
        assert_eq!(wire.call(version, &request).unwrap().results[0].error_code, 0);
        let again = wire.call(version, &request).unwrap().results.remove(0);
        assert_eq!(again.error_code, ResponseError::InvalidPartitions.code());
    }
    for version in versions::<CreateTopicsRequest>(wire) {
        let text = ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7"][version as usize];
        assert_eq!(wire.call(version, &create(text)).unwrap().topics[0].error_code, 0);
        let again = wire.call(version, &create(text)).unwrap().topics.remove(0);
        assert_eq!(again.error_code, ResponseError::TopicAlreadyExists.code());
    }
    for version in versions::<DeleteTopicsRequest>(wire) {
        let text = ["v0", "v7", "v2", "v3", "v4", "v5", "v6"][version as usize];
        for code in [0, ResponseError::UnknownTopicOrPartition.code()] {
            let request = match version {
                6.. => DeleteTopicsRequest::default()
                    .with_topics(vec![DeleteTopicState::default().with_name(Some(name(text)))]),
                _ => DeleteTopicsRequest::default().with_topic_names(vec![name(text)]),
            };
            assert_eq!(wire.call(version, &request).unwrap().responses[0].error_code, code);
        }
    }
    for version in versions::<FindCoordinatorRequest>(wire) {
        let key = StrBytes::from_static_str("group");
        let answer = if version >= 4 {
            let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![key]);
            wire.call(version, &request).unwrap().coordinators[0].port
        } else {
            wire.call(version, &FindCoordinatorRequest::default().with_key(key)).unwrap().port
        };
        assert_eq!(answer, i32::from(broker.address().port()));
    }
    let mut last = 0;
    for version in versions::<InitProducerIdRequest>(wire) {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let id = wire.call(version, &request).unwrap().producer_id.0;
        assert!(id > last, "every producer gets an id of its own");
        last = id;
        let request = request.with_transactional_id(Some(StrBytes::from_static_str("t").into()));
        assert_eq!(wire.call(version, &request).unwrap().error_code, ResponseError::InvalidRequest.code());
    }
}

#[test]
fn a_newer_client_learns_which_versions_there_are() {
    let broker = broker();
    let mut wire = Wire::connect(&broker.bootstrap());
    let mut newer = frame(1, 4, &ApiVersionsRequest::default());
    newer[6..8].copy_from_slice(&99i16.to_be_bytes());
    wire.send_raw(&newer);
    let mut body = wire.receive_frame().unwrap();
    assert_eq!(ResponseHeader::decode(&mut body, 0).unwrap().correlation_id, 1);
    let answer = ApiVersionsResponse::decode(&mut body, 0).unwrap();
    assert_eq!((answer.error_code, answer.api_keys.len()), (ResponseError::UnsupportedVersion.code(), 11));
    assert_eq!(wire.call(3, &ApiVersionsRequest::default()).unwrap().error_code, 0);
}

#[test]
fn a_damaged_batch_is_refused_and_not_stored() {
    let broker = broker();
    let mut damaged = one_record();
    *damaged.last_mut().unwrap() ^= 1;
    let answer = Wire::connect(&broker.bootstrap()).call(9, &produce(0, damaged)).unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, ResponseError::CorruptMessage.code());
    assert!(partition.error_message.as_ref().unwrap().contains("checksum"));
    assert_eq!(broker.high_watermark("ticks", 0).unwrap(), 0);
}

#[test]
fn without_acknowledgement_nothing_is_answered() {
    let broker = broker();
    let mut wire = Wire::connect(&broker.bootstrap());
    wire.send(9, &produce(0, one_record()).with_acks(0)).unwrap();
    let answer = wire.call(9, &produce(0, one_record())).unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
}

#[test]
fn a_waiting_fetch_learns_at_once_that_its_topic_is_gone() {
    let broker = broker();
    let mut wire = Wire::connect(&broker.bootstrap());
    wire.send(12, &fetch("ticks", 0, 50_000)).unwrap();
    crate::support::eventually("the fetch waits", || broker.fetches_waiting() == 1);
    broker.delete_topic("ticks").unwrap();
    let answer = wire.receive::<FetchRequest>(12).unwrap();
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::UnknownTopicOrPartition.code());
}

#[test]
fn a_client_that_leaves_does_not_go_on_waiting() {
    let broker = broker();
    let mut wire = Wire::connect(&broker.bootstrap());
    wire.send(12, &fetch("ticks", 0, 50_000)).unwrap();
    crate::support::eventually("the fetch waits", || broker.fetches_waiting() == 1);
    drop(wire);
    crate::support::eventually("its place is free", || {
        (broker.fetches_waiting(), broker.connections()) == (0, 0)
    });
}

#[test]
fn nonsense_closes_the_connection_at_once() {
    let broker = broker();
    let metadata = frame(1, 12, &MetadataRequest::default());
    let mut unknown_version = metadata.clone();
    unknown_version[6..8].copy_from_slice(&99i16.to_be_bytes());
    let mut unknown_kind = metadata.clone();
    unknown_kind[4..6].copy_from_slice(&999i16.to_be_bytes());
    // A list of two thousand million topics, of which none is there.
    let mut many = frame(1, 8, &MetadataRequest::default().with_topics(Some(Vec::new())));
    let at = many.len() - 7;
    many[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    let cases: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &(-5i32).to_be_bytes(),
        &(BrokerConfig::default().request_bytes_max as i32 + 1).to_be_bytes(),
        &[0, 0, 0, 2, 0, 3],
        &unknown_version,
        &unknown_kind,
        &many,
    ];
    for bytes in cases {
        let mut wire = Wire::connect(&broker.bootstrap());
        wire.send_raw(bytes);
        assert!(wire.is_closed(), "{bytes:?}");
    }
    Wire::connect(&broker.bootstrap()).call(12, &MetadataRequest::default()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A frame with any kind, any version and any body is answered or closes its own connection; the broker lives on.
    #[test]
    fn any_frame_is_survived(
        key in prop::sample::select(vec![0i16, 1, 2, 3, 10, 18, 19, 20, 21, 22, 37]),
        version in 0i16..13,
        body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()], 0..120),
    ) {
        static BROKER: std::sync::OnceLock<Broker> = std::sync::OnceLock::new();
        let broker = BROKER.get_or_init(broker);
        let mut bytes = BytesMut::new();
        bytes.put_i32(8 + body.len() as i32);
        bytes.put_i16(key);
        bytes.put_i16(version);
        bytes.put_i32(1);
        bytes.put_slice(&body);
        let mut wire = Wire::connect(&broker.bootstrap());
        wire.send_raw(&bytes);
        wire.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        if let Err(error) = wire.stream.read_to_end(&mut rest) {
            prop_assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        Wire::connect(&broker.bootstrap()).call(12, &MetadataRequest::default()).unwrap();
    }
}
