//! Spans of the real program, as a collector gets them.

use crate::harness::process::Process;
use crate::harness::{Kafka, SOON, trade};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;
use tickgate_load::{Client, ClientOptions, Incoming};
use tickgate_protocol::control::Control;

/// Takes what comes to `listener`, answers with `status`, and hands on what was sent.
fn collect(listener: TcpListener, status: &'static str) -> Receiver<ExportTraceServiceRequest> {
    let (sender, receiver) = sync_channel(1_000);
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (head, body) = request(&socket);
            assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
            assert!(head.contains("content-type: application/x-protobuf"), "{head}");
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            (&socket).write_all(answer.as_bytes()).expect("it takes it");
            if sender.send(ExportTraceServiceRequest::decode(&*body).expect("it is OTLP")).is_err() {
                return;
            }
        }
    });
    receiver
}

fn request(socket: &TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a head") > 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    (head, body)
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.clone();
    match value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        other => panic!("{name}: {other:?}"),
    }
}

/// A client that came, subscribed to something it missed and to something that cannot be had, and went; its session's name.
async fn come_and_go(process: &Process) -> String {
    let mut client = Client::connect(&process.url, &ClientOptions::default()).await.expect("a session");
    let name = match client.next().await {
        Incoming::Control { control: Some(Control::Hello { session, .. }), .. } => session.to_string(),
        other => panic!("not a hello: {other:?}"),
    };
    let wanted = json!({"channel": "trades", "symbols": ["AAPL", "a*b"], "from": {"time_ns": 1}});
    client.subscribe(&[wanted]).await.expect("it is told");
    loop {
        match client.next_within(SOON).await {
            Some(Incoming::Control { control: Some(Control::ReplayDone { .. }), .. }) => break,
            Some(Incoming::Closed { .. }) | None => panic!("its replay never ended"),
            Some(_) => {}
        }
    }
    client.close(1000, "").await;
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_told_what_took_clients_time() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    kafka.producer(&topic).send(&trade("AAPL", "1"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("otlp_endpoint=http://{}/v1/traces", listener.local_addr().expect("an address"));
    let collected = collect(listener, "200 OK");
    // Whatever is logged.
    let mut process = Process::start(&kafka, &topic, &[&endpoint, "replay.window_s=0"]);
    let name = come_and_go(&process).await;
    let of_it = |span: &Span| attribute(&span.attributes, "session").as_ref() == Some(&name);
    let mut spans: Vec<Span> = Vec::new();
    let mut resource = Vec::new();
    let deadline = Instant::now() + SOON;
    while spans.iter().filter(|span| of_it(span)).count() < 3 {
        let left = deadline.saturating_duration_since(Instant::now());
        for of_resource in collected.recv_timeout(left).expect("they come").resource_spans {
            resource = of_resource.resource.expect("it says who it is").attributes;
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans));
        }
    }
    assert_eq!(attribute(&resource, "service.name").as_deref(), Some("tickgate"));
    assert!(attribute(&resource, "service.instance.id").is_some_and(|instance| name.starts_with(&instance)));
    let of = |kind: &str| -> &Span {
        spans
            .iter()
            .find(|span| span.name == kind && of_it(span))
            .unwrap_or_else(|| panic!("no {kind}: {spans:#?}"))
    };
    let [connect, subscribe, replay] = ["connect", "subscribe", "replay"].map(of);
    for span in [connect, subscribe, replay] {
        assert!(
            span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0,
            "{span:?}"
        );
    }
    assert!(connect.start_time_unix_nano <= subscribe.start_time_unix_nano);
    let said = |span: &Span, name: &str| attribute(&span.attributes, name);
    assert!(said(connect, "peer").is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{connect:?}");
    assert_eq!(
        (said(subscribe, "names"), said(subscribe, "refused")),
        (Some("2".to_owned()), Some("1".to_owned()))
    );
    assert_eq!(
        (said(replay, "kind").as_deref(), said(replay, "end").as_deref()),
        (Some("missed"), Some("whole"))
    );
    assert!(!process.log().contains("\"connect\""), "they are not what was to be logged: {}", process.log());
    assert!(spans.iter().all(|span| span.name != "session"), "lines of the log are not theirs: {spans:#?}");

    // What is left goes out with the process.
    let last = come_and_go(&process).await;
    process.signal("TERM");
    process.ended();
    let mut left = collected.try_iter().flat_map(|request| request.resource_spans);
    let is_there = left.any(|of_resource| {
        let mut spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
        spans.any(|span| attribute(&span.attributes, "session").as_ref() == Some(&last))
    });
    assert!(is_there, "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_or_refuses_is_counted_and_holds_nobody_up() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    kafka.producer(&topic).send(&trade("AAPL", "1"));
    let refusing = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let refuses = format!("otlp_endpoint=http://{}/v1/traces", refusing.local_addr().expect("an address"));
    let _refused = collect(refusing, "503 Service Unavailable");
    for endpoint in [refuses.as_str(), "otlp_endpoint=http://127.0.0.1:1/v1/traces"] {
        let mut process = Process::start(&kafka, &topic, &[endpoint, "replay.window_s=0"]);
        come_and_go(&process).await;
        let deadline = Instant::now() + SOON;
        while process.metric("tickgate_trace_spans_total", "\"failed\"") < 3.0 {
            assert!(Instant::now() < deadline, "{}", process.log());
            std::thread::yield_now();
        }
        assert_eq!(process.metric("tickgate_trace_spans_total", "\"exported\""), 0.0);
        process.logged("the collector of otlp_endpoint does not take traces", "\n");
        process.signal("TERM");
        assert!(process.ended().success());
    }
}
