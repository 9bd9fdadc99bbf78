use super::*;
use ratatui::buffer::Buffer;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use tickgate_broker::{Broker, BrokerConfig};
use tickgate_gateway::clock;
use tickgate_gateway::config::{Config, FeedConfig};
use tickgate_gateway::server;
use tickgate_load::{Client, ClientOptions};

/// Longest wait for what should come at once.
const SOON: Duration = Duration::from_secs(20);

fn screen(view: &View) -> String {
    let mut terminal = Terminal::new(TestBackend::new(100, 30)).expect("it cannot fail");
    terminal.draw(|frame| view.draw(frame)).expect("it cannot fail");
    let buffer: &Buffer = terminal.backend().buffer();
    draw::text(buffer)
}

fn press(view: &mut View, code: KeyCode) -> bool {
    is_going_on(view, KeyEvent::new(code, KeyModifiers::NONE))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_on_the_screen_and_keys_change_what_is_shown() {
    let broker = Broker::start(BrokerConfig::default()).expect("a free port");
    broker.create_topic("ticks", 1).expect("it is made");
    let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = Config { listen: any_port, admin: any_port, shards: 1, ..Config::default() };
    config.kafka.brokers = broker.bootstrap();
    config.feeds = vec![FeedConfig::for_topic("ticks")];
    config.admin_access.token = "what only operators know".to_owned();
    config.drain.spread_ms = 0;
    let bound = server::bind(config).expect("free ports");
    let (listen, admin) = (bound.listen_addr(), bound.admin_addr().to_string());
    let gateway = bound.start().expect("it starts");
    let deadline_ms = clock::mono_ms() + SOON.as_millis() as u64;
    while !gateway.board().is_ready() {
        assert!(clock::mono_ms() < deadline_ms, "never ready");
        tokio::task::yield_now().await;
    }
    let url = format!("ws://{listen}/v1/stream");
    let mut client = Client::connect(&url, &ClientOptions::default()).await.expect("a session");
    client.subscribe(&[json!({"channel": "trades", "symbols": ["AAPL"]})]).await.expect("it is told");
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().expect("a client");
    let record =
        json!({"type": "trade", "symbol": "AAPL", "price": "1", "size": "1", "event_ns": 1}).to_string();
    producer.send(BaseRecord::to("ticks").key("AAPL").payload(&record)).expect("there is room");
    producer.flush(SOON).expect("the broker takes it");
    while gateway.board().feed().records < 1 || gateway.board().shard(0).sent < 1 {
        assert!(clock::mono_ms() < deadline_ms, "never delivered");
        tokio::task::yield_now().await;
    }

    let refused = Asker::new(&admin, None).expect("no file").sample().await.expect_err("without its token");
    assert!(refused.what.contains("401") && refused.hint.contains("--token-file"), "{refused:?}");
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(token.path(), "what only operators know\n").expect("it is written");
    let asker = Asker::new(&format!("http://{admin}/"), Some(token.path())).expect("it is read");
    let [first, second] = [asker.sample().await, asker.sample().await].map(|sample| sample.expect("answers"));

    let plain = once(&admin, &first, &second).expect("it is drawn");
    let lines: Vec<&str> = plain.lines().collect();
    assert!(lines[0].contains(&admin) && lines[0].ends_with("ready"), "{plain}");
    assert!(lines[1].starts_with("clients 1 (+0/s -0/s)   subscriptions 1 "), "{plain}");
    for part in
        ["latency p50 ", "Feeds", "ticks ", "live", "Slowest sessions", "127.0.0.1:", "Hottest symbols"]
    {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    // It asked for quantiles by a label that they do not have, and had a dash for each.
    let (_, latency) = plain.split_once("latency p50 ").expect("it is there");
    assert!(latency.starts_with(|c: char| c.is_ascii_digit()), "{plain}");
    let last = lines.last().expect("lines").split_whitespace().collect::<Vec<_>>();
    assert_eq!(last, ["AAPL", "0", "1", "AAPL", "1", "1"], "what was traded, and what was named: {plain}");
    assert!(!plain.contains("quit"), "there are no keys: {plain}");

    let mut view = View::new(&admin, Duration::from_secs(1));
    view.take(first.clone());
    assert!(screen(&view).contains("ticks -/s"), "no rate yet: {}", screen(&view));
    view.take(second.clone());
    assert!(screen(&view).contains("ticks 0/s"), "{}", screen(&view));
    let titles = |view: &View| {
        let screen = screen(view);
        ["Feeds", "Slowest sessions", "Hottest symbols"].map(|title| screen.contains(title))
    };
    assert_eq!(titles(&view), [true; 3]);
    for (key, shown) in [
        ('1', [true, false, false]),
        ('2', [false, true, false]),
        ('3', [false, false, true]),
        ('0', [true; 3]),
    ] {
        assert!(press(&mut view, KeyCode::Char(key)));
        assert_eq!(titles(&view), shown, "{key}");
    }
    assert!(press(&mut view, KeyCode::Tab));
    assert_eq!(titles(&view), [true, false, false]);
    assert!(press(&mut view, KeyCode::BackTab));
    assert_eq!(titles(&view), [true; 3]);
    assert!(press(&mut view, KeyCode::Char('p')));
    assert!(screen(&view).contains("paused"));
    assert!(press(&mut view, KeyCode::Char('p')) && press(&mut view, KeyCode::Char('?')));
    assert!(screen(&view).contains("Keys, and what is shown"));
    assert!(press(&mut view, KeyCode::Esc) && !view.is_help, "it closes the help first");
    assert!(!press(&mut view, KeyCode::Esc) && !press(&mut view, KeyCode::Char('q')));
    assert!(!is_going_on(&mut view, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));

    tokio::task::spawn_blocking(move || gateway.stop()).await.expect("no panic").expect("no failure");
    let lost = asker.sample().await.expect_err("it is gone");
    view.lose(lost.what);
    let seen = screen(&view);
    assert!(seen.contains("no answer: ") && seen.contains("AAPL"), "what was seen stays: {seen}");
    view.take(second);
    assert!(!screen(&view).contains("no answer"));
}
