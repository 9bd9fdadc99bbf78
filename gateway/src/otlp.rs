//! Spans of connects, subscribes and replays for a collector of traces, as OTLP over HTTP.
//!
//! The OpenTelemetry libraries make spans of ours theirs and write them down. What waits, goes out and is left out is decided
//! here: a bounded queue that nobody waits for, one thread, and counts of what became of each.

use crate::http;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracerProvider, Span, SpanData, SpanExporter as Export, SpanProcessor,
};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tickgate_gateway::log_limit::{LogLimit, Verdict};
use tickgate_gateway::spans::{self, SPANS_WAITING_MAX};
use tickgate_gateway::stats::SpanEnd;
use tickgate_gateway::{clock, session};
use tokio::net::TcpStream;
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;

/// Spans that are sent at once.
const BATCH: usize = 512;
/// How long the first of them waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Time for a collector to take them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of its answer at most.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long the end of the process waits for what is left.
const FLUSH: Duration = Duration::from_secs(1);
/// Failed sends that are logged within ten seconds.
const LOGS_PER_10_S: u32 = 1;

/// What the sending thread is handed.
enum Handed {
    Span(Box<SpanData>),
    /// To send what there is, and say when that is done.
    Flush(SyncSender<()>),
}

/// Spans on their way to a collector.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    queue: SyncSender<Handed>,
}

impl Traces {
    /// Starts the thread that sends to `endpoint`.
    ///
    /// # Errors
    /// When it cannot be started, or the endpoint is none.
    pub(crate) fn start(endpoint: &str, sample_percent: u32) -> anyhow::Result<Self> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector)
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()?;
        let (queue, handed) = sync_channel(SPANS_WAITING_MAX);
        let resource = Resource::builder_empty()
            .with_service_name("tickgate")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", session::names()),
            ])
            .build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut sender = Sender { exporter, runtime, logs: LogLimit::new(LOGS_PER_10_S) };
        sender.exporter.set_resource(&resource);
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || sender.run(&handed))?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::TraceIdRatioBased(f64::from(sample_percent) / 100.0))
            .with_resource(resource)
            .with_span_processor(Queue(queue.clone()))
            .build();
        Ok(Self { provider, queue })
    }

    /// What takes the spans that are for collectors, and no other.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let tracer = self.provider.tracer("tickgate");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            // They are never entered, and where they stand in the source is of no use to those who look at them.
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false);
        OnlyOurs(layer)
    }

    /// Waits for what is left to be sent, but not for long.
    pub(crate) fn drain(&self) {
        let (done, is_done) = sync_channel(1);
        if self.queue.try_send(Handed::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH);
        }
    }
}

/// Takes spans that have ended, as long as there is room.
#[derive(Debug)]
struct Queue(SyncSender<Handed>);

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handed")
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        match self.0.try_send(Handed::Span(Box::new(span))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => spans::count(SpanEnd::Dropped, 1),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends them, on a thread of its own.
struct Sender {
    exporter: SpanExporter,
    runtime: tokio::runtime::Runtime,
    logs: LogLimit,
}

impl Sender {
    fn run(&mut self, handed: &Receiver<Handed>) {
        let mut batch = Vec::new();
        let mut since_ms = 0;
        loop {
            let waited = Duration::from_millis(clock::mono_ms().saturating_sub(since_ms));
            let next = match batch.is_empty() {
                true => handed.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => handed.recv_timeout(GATHER.saturating_sub(waited)),
            };
            match next {
                Ok(Handed::Span(span)) => {
                    if batch.is_empty() {
                        since_ms = clock::mono_ms();
                    }
                    batch.push(*span);
                    if batch.len() >= BATCH {
                        self.send(std::mem::take(&mut batch));
                    }
                }
                Ok(Handed::Flush(done)) => {
                    self.send(std::mem::take(&mut batch));
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.send(std::mem::take(&mut batch)),
                Err(RecvTimeoutError::Disconnected) => return self.send(batch),
            }
        }
    }

    fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        if spans == 0 {
            return;
        }
        let sent = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.exporter.export(batch))
                .await
                .map_err(|_| "no answer in time".to_owned())
                .and_then(|sent| sent.map_err(|error| error.to_string()))
        });
        match sent {
            Ok(()) => spans::count(SpanEnd::Exported, spans),
            Err(error) => {
                spans::count(SpanEnd::Failed, spans);
                if let Verdict::Write { left_out } = self.logs.admit(clock::mono_ms()) {
                    tracing::warn!(%error, spans, left_out, "the collector of otlp_endpoint does not take traces");
                }
            }
        }
    }
}

/// Speaks HTTP with the collector.
#[derive(Debug)]
struct Collector;

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let uri = request.uri();
            let host = uri.host().ok_or("the URL has no host")?;
            let address = (host.trim_start_matches('[').trim_end_matches(']'), uri.port_u16().unwrap_or(80));
            let socket = TcpStream::connect(address).await?;
            let answer = http::exchange(socket, request.map(Full::new), ANSWER_BYTES_MAX).await;
            answer.map_err(|error| format!("{error:#}").into())
        })
    }
}

/// Hands on spans that are for collectors; what else there is they would not want to pay for.
struct OnlyOurs<L>(L);

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == spans::TARGET
}

impl<S, T> Layer<S> for OnlyOurs<OpenTelemetryLayer<S, T>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    OpenTelemetryLayer<S, T>: Layer<S>,
    T: 'static,
{
    fn on_register_dispatch(&self, dispatch: &tracing::Dispatch) {
        self.0.on_register_dispatch(dispatch);
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        if is_ours(attributes.metadata()) {
            self.0.on_new_span(attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        if context.metadata(id).is_some_and(is_ours) {
            self.0.on_record(id, values, context);
        }
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        if context.metadata(&id).is_some_and(is_ours) {
            self.0.on_close(id, context);
        }
    }
}
