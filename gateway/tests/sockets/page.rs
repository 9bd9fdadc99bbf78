//! What a browser gets that opens the address of clients.

use crate::harness::{Gateway, Kafka};
use crate::raw::Raw;
use tickgate_gateway::page;
use tickgate_load::Incoming;

async fn head(gateway: &Gateway, request: &str) -> String {
    let mut raw = Raw::connect(gateway.url()).await;
    raw.send(request.as_bytes()).await;
    raw.head().await.to_lowercase()
}

async fn gateway(is_on: bool) -> (Kafka, Gateway) {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    config.page = is_on;
    (kafka, Gateway::start(config).await)
}

const PAGE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, br\r\n\r\n";

/// The page is in the program where it was built before; without it, a browser is told where the stream is.
#[tokio::test]
async fn a_browser_gets_the_page_where_clients_connect() {
    let (_kafka, gateway) = gateway(true).await;
    let head = head(&gateway, PAGE).await;
    if page::is_there() {
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        for line in
            ["content-encoding: br", "connection: close", "content-security-policy: default-src 'none';"]
        {
            assert!(head.contains(line), "{line}: {head}");
        }
    } else {
        assert!(head.starts_with("http/1.1 404 "), "{head}");
    }
    // It took nobody's place.
    let mut client = gateway.client().await;
    assert!(matches!(client.next().await, Incoming::Control { .. }), "a greeting");
}

#[tokio::test]
async fn a_gateway_may_have_no_page() {
    let (_kafka, gateway) = gateway(false).await;
    let head = head(&gateway, PAGE).await;
    assert!(head.starts_with("http/1.1 404 "), "{head}");
}

/// The largest script was cut off when the time for a request's head was over: on a slow line the page never came up.
#[tokio::test]
async fn a_file_of_the_page_may_take_longer_than_a_head() {
    let kafka = Kafka::embedded();
    let topic = kafka.topic(1).await;
    let mut config = kafka.config(&topic);
    config.limits.head_timeout_ms = 300;
    config.outbox.send_buffer_bytes = 16_384;
    let gateway = Gateway::start(config).await;
    if !page::is_there() {
        return;
    }
    let mut index = Raw::connect(gateway.url()).await;
    index.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let (_, _, body) = index.refusal().await;
    let script = body.split('"').find(|part| part.starts_with("./assets/") && part.ends_with(".js"));
    let script = script.expect("the page has a script").trim_start_matches('.');

    let mut slow = Raw::connect_narrow(gateway.url(), Some(4_096)).await;
    slow.send(format!("GET {script} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    let head = slow.head().await.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    // Whoever came later and said nothing is gone: the time for a head is over.
    assert_eq!(Raw::connect(gateway.url()).await.rest().await, b"");
    assert_eq!(slow.rest().await.len().to_string(), length);
}
