//! The parts of librdkafka that its safe wrapper does not reach: one queue for the records of all partitions, drained
//! in batches, and the ids of topics.
//!
//! Cheaper than polling record by record, since a record is not wrapped, boxed and checked one at a time.
//!
//! # Safety
//! - A [`RecordQueue`] owns its native queue and holds the consumer that the queue belongs to, so the queue is
//!   destroyed first and the client outlives every call.
//! - librdkafka's queue functions may be called from any thread; [`Waker`] only yields the queue and holds it alive by
//!   the same reference count.
//! - A [`Record`] borrows memory of a message that is destroyed when the batch's [`Records`] are dropped; its lifetime
//!   says so.
//! - Pointers that librdkafka returns are checked for null before they are read.
#![allow(unsafe_code)]

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

struct Queue<C: ConsumerContext + 'static> {
    queue: NonNull<native::rd_kafka_queue_t>,
    consumer: Arc<BaseConsumer<C>>,
    /// Set by a waker: the look without a wait that comes before each wait would swallow librdkafka's own sign.
    is_woken: AtomicBool,
}

// SAFETY: librdkafka's queues are locked inside; the consumer is Send and Sync by itself.
unsafe impl<C: ConsumerContext + 'static> Send for Queue<C> {}
// SAFETY: as above.
unsafe impl<C: ConsumerContext + 'static> Sync for Queue<C> {}

impl<C: ConsumerContext + 'static> Drop for Queue<C> {
    fn drop(&mut self) {
        // SAFETY: a reference that its `RecordQueue` was made with, given back only here, before the consumer's.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// Where the records of all partitions of a consumer arrive.
#[allow(missing_debug_implementations)]
pub struct RecordQueue<C: ConsumerContext + 'static> {
    queue: Arc<Queue<C>>,
    messages: Vec<*mut native::rd_kafka_message_t>,
}

// SAFETY: the message pointers are only written and read within one call; between calls the vector is scratch.
unsafe impl<C: ConsumerContext + 'static> Send for RecordQueue<C> {}

/// Ends a waiting [`RecordQueue::take`] early, from any thread.
#[allow(missing_debug_implementations)]
pub struct Waker<C: ConsumerContext + 'static>(Arc<Queue<C>>);

impl<C: ConsumerContext + 'static> Waker<C> {
    /// Ends the wait.
    pub fn wake(&self) {
        self.0.is_woken.store(true, Ordering::Release);
        // SAFETY: the queue is alive as long as the reference count is held.
        unsafe { native::rd_kafka_queue_yield(self.0.queue.as_ptr()) }
    }
}

/// One record, or an error of one partition in its place.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Kafka partition.
    pub partition: i32,
    /// Kafka offset.
    pub offset: i64,
    /// Kafka timestamp in milliseconds since the Unix epoch; negative when there is none.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; empty for a tombstone.
    pub value: &'a [u8],
    /// Whether it has none at all, as what takes a key out of a compacted topic.
    pub is_tombstone: bool,
    /// The topic's name.
    pub topic: &'a str,
    /// What is wrong with the partition, if this is no record.
    pub error: Option<RDKafkaRespErr>,
}

/// The records of one take.
#[allow(missing_debug_implementations)]
pub struct Records<'a> {
    messages: &'a [*mut native::rd_kafka_message_t],
    _borrow: PhantomData<&'a ()>,
}

impl Records<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The records, in the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.messages.iter().map(|message| {
            // SAFETY: librdkafka filled the slot with a message that lives until it is destroyed in `drop`.
            let raw = unsafe { &**message };
            let value = if raw.payload.is_null() {
                &[][..]
            } else {
                // SAFETY: payload and len describe memory of this message.
                unsafe { std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) }
            };
            let key = (!raw.key.is_null()).then(|| {
                // SAFETY: key and key_len describe memory of this message.
                unsafe { std::slice::from_raw_parts(raw.key.cast::<u8>(), raw.key_len) }
            });
            let topic = if raw.rkt.is_null() {
                ""
            } else {
                // SAFETY: the topic handle is alive as long as its message; its name is NUL-terminated.
                let name = unsafe { std::ffi::CStr::from_ptr(native::rd_kafka_topic_name(raw.rkt)) };
                name.to_str().unwrap_or("")
            };
            let error = (raw.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then_some(raw.err);
            // SAFETY: the message is alive; the type of timestamp is not asked for.
            let timestamp_ms = unsafe { native::rd_kafka_message_timestamp(*message, ptr::null_mut()) };
            Record {
                partition: raw.partition,
                offset: raw.offset,
                timestamp_ms,
                key,
                value,
                is_tombstone: raw.payload.is_null() && error.is_none(),
                topic,
                error,
            }
        })
    }
}

impl Drop for Records<'_> {
    fn drop(&mut self) {
        for message in self.messages {
            // SAFETY: each message was handed over by librdkafka once and is destroyed once.
            unsafe { native::rd_kafka_message_destroy(*message) }
        }
    }
}

impl<C: ConsumerContext + 'static> RecordQueue<C> {
    /// A queue for the records of `consumer`, taken at most `batch` at a time.
    pub fn new(consumer: Arc<BaseConsumer<C>>, batch: usize) -> Option<Self> {
        // SAFETY: the client pointer is valid while `consumer` lives.
        let queue = NonNull::new(unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) })?;
        let queue = Arc::new(Queue { queue, consumer, is_woken: AtomicBool::new(false) });
        Some(Self { queue, messages: vec![ptr::null_mut(); batch] })
    }

    /// The queue that `consumer` has of its own: the records of all partitions that are not forwarded elsewhere. Nobody else
    /// may poll the consumer.
    pub fn of_consumer(consumer: Arc<BaseConsumer<C>>, batch: usize) -> Option<Self> {
        // SAFETY: the client pointer is valid while `consumer` lives; the queue is a reference of our own.
        let queue =
            NonNull::new(unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })?;
        let queue = Arc::new(Queue { queue, consumer, is_woken: AtomicBool::new(false) });
        Some(Self { queue, messages: vec![ptr::null_mut(); batch] })
    }

    /// What ends a wait.
    pub fn waker(&self) -> Waker<C> {
        Waker(self.queue.clone())
    }

    /// Sends the records of a partition here, also those that wait already. To be called before the partition is
    /// assigned, and again after it is when it was assigned before.
    pub fn forward(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else { return false };
        // SAFETY: the client is alive; the partition's queue is released again at once, as the forwarding keeps its own
        // reference.
        unsafe {
            let client = self.queue.consumer.client().native_ptr();
            let Some(from) =
                NonNull::new(native::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition))
            else {
                return false;
            };
            native::rd_kafka_queue_forward(from.as_ptr(), self.queue.queue.as_ptr());
            native::rd_kafka_queue_destroy(from.as_ptr());
        }
        true
    }

    /// Takes what has arrived, or waits up to `timeout_ms` for one record.
    pub fn take(&mut self, timeout_ms: i32) -> Records<'_> {
        let mut taken = self.take_now(0, self.messages.len());
        if taken == 0 && timeout_ms > 0 && !self.queue.is_woken.swap(false, Ordering::Acquire) {
            // The batch call waits for as many as it may return, so wait for one alone.
            taken = self.take_now(timeout_ms, 1);
        }
        Records { messages: &self.messages[..taken], _borrow: PhantomData }
    }

    fn take_now(&mut self, timeout_ms: i32, most: usize) -> usize {
        // SAFETY: the vector has room for `most` pointers, and librdkafka says how many it wrote.
        let taken = unsafe {
            native::rd_kafka_consume_batch_queue(
                self.queue.queue.as_ptr(),
                timeout_ms,
                self.messages.as_mut_ptr(),
                most.min(self.messages.len()),
            )
        };
        usize::try_from(taken).unwrap_or(0)
    }
}

/// The broker's id of a topic as 128 bits, zero from a broker that gives none; `None` when the topic does not exist or
/// no answer comes in time. Asked is this `node`, or the one that is said to be the controller, which may be gone.
pub fn topic_id<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    node: Option<i32>,
    timeout_ms: i32,
) -> Option<u128> {
    let topic = CString::new(topic).ok()?;
    let mut names = [topic.as_ptr()];
    // SAFETY: every object created here is destroyed here, results are read before their event is destroyed, and the
    // client outlives all of it.
    unsafe {
        let client = consumer.client().native_ptr();
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = native::rd_kafka_AdminOptions_new(client, operation);
        let queue = native::rd_kafka_queue_new(client);
        native::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        if let Some(node) = node {
            native::rd_kafka_AdminOptions_set_broker(options, node, ptr::null_mut(), 0);
        }
        native::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = native::rd_kafka_queue_poll(queue, timeout_ms + 500);
        let id = if event.is_null() { None } else { described_id(event) };
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_AdminOptions_destroy(options);
        native::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// # Safety
/// `event` must be an event of librdkafka that is alive.
unsafe fn described_id(event: *mut native::rd_kafka_event_t) -> Option<u128> {
    // SAFETY: by this function's contract; each pointer is checked before it is read.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 || (*topics).is_null() {
            return None;
        }
        let error = native::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null()
            && native::rd_kafka_error_code(error) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return None;
        }
        let id = native::rd_kafka_TopicDescription_topic_id(*topics);
        if id.is_null() {
            return None;
        }
        let high = native::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = native::rd_kafka_Uuid_least_significant_bits(id) as u64;
        Some(u128::from(high) << 64 | u128::from(low))
    }
}
