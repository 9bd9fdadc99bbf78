//! The admin listener over real sockets: every path, and what happens when shards or clients do not answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tickgate_gateway::admin::{Admin, AdminHandle, AdminLimits, AdminState, Token};
use tickgate_gateway::config::Config;
use tickgate_gateway::config::load::Sources;
use tickgate_gateway::feed::directory::Directory;
use tickgate_gateway::feed::request::Target;
use tickgate_gateway::log_filter::LogFilter;
use tickgate_gateway::reload::InEffect;
use tickgate_gateway::stats::{Board, Question, SessionInfo, SessionsRequest, TargetInfo, Which};
use tokio::sync::mpsc;

/// No read in these tests takes longer unless something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    admin: AdminHandle,
    board: Arc<Board>,
    directory: Arc<Directory>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Served {
    fn start(config: Config, shards: Vec<mpsc::Sender<Question>>, limits: AdminLimits) -> Self {
        let board = Arc::new(Board::new(shards.len()));
        let directory = Arc::new(Directory::new(10));
        let admin = Admin::bind(loopback()).expect("a free port").limits(limits);
        let state = AdminState {
            config: InEffect::new(Arc::new(config)),
            board: board.clone(),
            token: Token::default(),
            directory: directory.clone(),
            shards,
            tls: None,
            log: Some(LogFilter::new("info", |_| {})),
        };
        Self { admin: admin.spawn(state).expect("a thread"), board, directory }
    }

    fn plain() -> Self {
        Self::start(Config::default(), Vec::new(), AdminLimits::default())
    }

    fn request(&self, method: &str, target: &str, headers: &str) -> Answer {
        let mut socket = self.connect();
        let end = if headers.contains("\r\n\r\n") { "" } else { "\r\n" };
        write!(socket, "{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}{end}")
            .expect("it takes a request");
        let mut text = String::new();
        socket.read_to_string(&mut text).expect("an answer, then the end");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn get(&self, target: &str) -> Answer {
        self.request("GET", target, "")
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.admin.local_addr()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn session(name: &str, shard: usize, queue_age_ms: u64) -> SessionInfo {
    SessionInfo {
        session: name.to_owned(),
        peer: "127.0.0.1:5".to_owned(),
        shard,
        queue_age_ms,
        queued_bytes: 10 * queue_age_ms,
        held: 1,
        subscriptions: 2,
        offered: 6,
        sent: 3,
        conflated: 1,
        dropped: 1,
        open_s: 9,
    }
}

/// A shard that answers every question with these sessions, as many as are asked for, and these targets.
fn answering_shard(
    sessions: Vec<SessionInfo>,
    targets: &'static [(&str, u64, u64)],
) -> mpsc::Sender<Question> {
    let (sender, mut receiver) = mpsc::channel::<Question>(4);
    std::thread::spawn(move || {
        while let Some(question) = receiver.blocking_recv() {
            match question {
                Question::Sessions(request) => {
                    let _ = request.reply.send(sessions.iter().take(request.top).cloned().collect());
                }
                Question::Targets(request) => {
                    let targets = targets.iter().map(|(target, sessions, subscriptions)| TargetInfo {
                        target: Target::parse(target),
                        sessions: *sessions,
                        subscriptions: *subscriptions,
                    });
                    let _ = request.reply.send(match request.which {
                        // As if it had room for no more than one.
                        Which::Top(_) => targets.take(1).collect(),
                        Which::These(these) => targets.filter(|info| these.contains(&info.target)).collect(),
                    });
                }
            }
        }
    });
    sender
}

#[test]
fn a_busy_port_is_a_clear_error() {
    let taken = TcpListener::bind(loopback()).expect("a free port");
    let address = taken.local_addr().expect("an address");
    let error = Admin::bind(address).expect_err("it is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&format!("cannot serve admin on {address}")), "{error}");
}

#[test]
fn the_index_names_every_path_and_others_are_refused() {
    let served = Served::plain();
    let index = served.get("/");
    assert_eq!(index.status, 200);
    for path in ["/metrics", "/healthz", "/readyz", "/config", "/sessions", "/symbols"] {
        assert!(index.body.contains(path), "{path}");
        let answer = served.request("POST", path, "Content-Length: 0\r\n");
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
        assert_eq!(answer.body, "{\"error\":\"method_not_allowed\",\"message\":\"only GET and HEAD\"}\n");
        let head = served.request("HEAD", path, "");
        assert_eq!((head.body.as_str(), head.status == 405), ("", false), "{path}");
    }
    let answer = served.get("/nothing?x=1");
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.body,
        "{\"error\":\"not_found\",\"message\":\"no such path: / lists those that exist\"}\n"
    );
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    served.admin.stop();
}

#[test]
fn health_is_life_and_readiness_has_reasons() {
    let served = Served::plain();
    assert_eq!(served.get("/healthz").status, 200);
    let answer = served.get("/readyz");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "{\"ready\":false,\"reasons\":[\"the feed has not started\"]}\n")
    );
    served.board.feed().not_ready_because = "ticks/3 is 12 records behind".to_owned();
    assert!(served.get("/readyz").body.contains("ticks/3 is 12 records behind"));
    served.board.feed().ready = true;
    let answer = served.get("/readyz");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ready\":true,\"reasons\":[]}\n"));
    served.board.draining.store(true, Ordering::Relaxed);
    let answer = served.get("/readyz");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, "{\"ready\":false,\"reasons\":[\"the gateway drains\"]}\n")
    );
    assert_eq!(served.get("/healthz").status, 200, "a draining gateway lives");
}

#[test]
fn metrics_are_prometheus_text_of_now() {
    let served = Served::plain();
    served.board.feed().records = 41;
    let answer = served.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("\ntickgate_feed_records_total 41\n"), "{}", answer.body);
    served.board.feed().records = 42;
    assert!(served.get("/metrics").body.contains("\ntickgate_feed_records_total 42\n"));
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let mut config = Config::default();
    config.kafka.properties.insert("sasl.password".to_owned(), "hunter2".to_owned());
    config.limits.sessions_max = 77;
    let served = Served::start(config.clone(), Vec::new(), AdminLimits::default());
    let toml = served.get("/config").body;
    let shown = Sources::new().text("shown", &toml).set("kafka.properties.sasl.password=hunter2");
    assert_eq!(Config::load(&shown), Ok(config), "{toml}");
    let json = served.request("GET", "/config", "Accept: application/json\r\n").body;
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["limits"]["sessions_max"], 77);
    assert!(!toml.contains("hunter2") && !json.contains("hunter2"));
}

#[test]
fn sessions_of_all_shards_are_merged_and_a_silent_shard_is_named() {
    let (full, _full) = mpsc::channel(1);
    let (reply, _reply) = tokio::sync::oneshot::channel();
    full.try_send(Question::Sessions(SessionsRequest { top: 1, reply })).expect("room for one");
    let (silent, _silent) = mpsc::channel(4);
    let (gone, _) = mpsc::channel(4);
    let shards = vec![
        answering_shard(vec![session("s-a", 0, 50), session("s-b", 0, 5)], &[]),
        full,
        answering_shard(vec![session("s-c", 2, 900), session("s-d", 2, 50)], &[]),
        silent,
        gone,
    ];
    let limits = AdminLimits { answer_timeout: Duration::from_millis(100), ..AdminLimits::default() };
    let served = Served::start(Config::default(), shards, limits);

    let answer = served.get("/sessions?top=3");
    assert_eq!(answer.status, 200);
    let value: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(value["shards_without_answer"], serde_json::json!([1, 3, 4]));
    let names: Vec<_> =
        value["sessions"].as_array().expect("a list").iter().map(|info| &info["session"]).collect();
    assert_eq!(names, ["s-c", "s-a", "s-d"]);
    assert_eq!(value["sessions"][0]["queue_age_ms"], 900);

    let table = served.request("GET", "/sessions", "Accept: text/plain\r\n").body;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 6, "{table}");
    assert!(lines[0].starts_with("SESSION") && lines[1].starts_with("s-c"), "{table}");
    assert_eq!(lines[5], "shards without an answer: [1, 3, 4]");

    let answer = served.get("/sessions?top=many");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body, "{\"error\":\"bad_request\",\"message\":\"top must be 1 to 1000\"}\n");
}

#[test]
fn the_hottest_symbols_and_the_most_subscribed_are_told() {
    let (silent, _silent) = mpsc::channel(4);
    // What is in one list only has subscribers elsewhere.
    let shards = vec![
        answering_shard(vec![], &[("AAPL", 5, 7), ("B*", 4, 4)]),
        silent,
        answering_shard(vec![], &[("B*", 3, 3), ("AAPL", 1, 1), ("MSFT", 1, 1)]),
    ];
    let limits = AdminLimits {
        answer_timeout: Duration::from_millis(100),
        rates_window: Duration::ZERO,
        ..AdminLimits::default()
    };
    let served = Served::start(Config::default(), shards, limits);
    let activity = served.directory.activity();
    for (id, symbol) in ["AAPL", "MSFT", "BRK.A", "IDLE"].into_iter().enumerate() {
        served.directory.meet(symbol).expect("there is room");
        activity.add(id as u32, [1_000, 2_000, 300, 0][id]);
    }
    let list = |target: &str| -> serde_json::Value {
        let answer = served.get(target);
        assert_eq!(answer.status, 200);
        serde_json::from_str(&answer.body).expect("JSON")
    };
    // Without a rate yet, by all that came.
    let names = |list: &serde_json::Value, of: &str, name: &str| -> Vec<String> {
        let rows = list[of].as_array().expect("a list").iter();
        rows.map(|row| row[name].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(names(&list("/symbols"), "hottest", "symbol"), ["MSFT", "AAPL", "BRK.A"]);
    activity.add(2, 50);
    activity.add(0, 10);
    let now = list("/symbols?top=2");
    assert_eq!(names(&now, "hottest", "symbol"), ["BRK.A", "AAPL"], "{now}");
    assert!(now["hottest"][0]["ticks_per_s"].as_f64().is_some_and(|rate| rate > 0.0), "{now}");
    assert_eq!(now["hottest"][0]["ticks"], 350);
    assert_eq!(
        now["most_subscribed"],
        serde_json::json!([
            {"target": "B*", "sessions": 7, "subscriptions": 7},
            {"target": "AAPL", "sessions": 6, "subscriptions": 8},
        ])
    );
    assert_eq!(now["shards_without_answer"], serde_json::json!([1]));

    let table = served.request("GET", "/symbols?top=1", "Accept: text/plain\r\n").body;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[0][0], lines[1][0], lines[3][0]), ("HOTTEST", "MSFT", "MOST"), "{table}");
    assert_eq!((&lines[4][..], lines.len()), (&["B*", "7", "7"][..], 6), "{table}");
    assert_eq!(table.lines().last(), Some("shards without an answer: [1]"));
    assert_eq!(served.get("/symbols?top=1001").status, 400);
}

#[test]
fn what_is_logged_is_shown_and_changed_but_not_by_pages_of_a_browser() {
    let served = Served::plain();
    let shown = || served.request("GET", "/log", "Accept: text/plain\r\n").body;
    assert_eq!(served.get("/log").body, "{\"log\":\"info\",\"configured\":\"info\",\"back_in_s\":null}\n");
    let put = |target: &str, headers: &str, filter: &str| {
        let length = filter.len();
        served.request("PUT", target, &format!("Content-Length: {length}\r\n{headers}\r\n{filter}"))
    };
    let answer = put("/log?for=10m", "", "info,tickgate_gateway::shard=debug\n");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let value: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(
        (&value["log"], &value["back_in_s"]),
        (&"info,tickgate_gateway::shard=debug".into(), &600.into())
    );
    assert_eq!(put("/log", "Accept: text/plain\r\n", "warn").body, "warn\n");

    // Whoever has such a page open must not find another log later.
    for header in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        assert_eq!(put("/log", header, "off").status, 403, "{header}");
    }
    let allowed = |answer: &Answer| answer.head.contains("allow: get, head, put");
    for method in ["POST", "OPTIONS", "DELETE"] {
        let answer = served.request(method, "/log", "Content-Length: 3\r\n\r\noff");
        assert_eq!((answer.status, allowed(&answer)), (405, true), "{method}");
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    for (target, filter, status, part) in [
        ("/log", "nonsense", 400, "the filter must be a level"),
        ("/log", "", 400, "the filter is empty"),
        ("/log", "tickgate_gateway=loud", 400, "the filter"),
        ("/log?for=1", "debug", 400, "for must be a time"),
        ("/log?x=1", "debug", 400, "the only parameter is for"),
        ("/log", &"x=debug,".repeat(100), 413, "512 bytes"),
    ] {
        let answer = put(target, "", filter);
        assert_eq!(answer.status, status, "{filter}");
        assert!(answer.body.contains(part), "{}", answer.body);
    }
    assert_eq!(shown(), "warn\n", "what was refused changed nothing");
}

#[test]
fn a_silent_connection_is_closed_and_holds_nobody_up() {
    let limits = AdminLimits {
        connections_max: 1,
        head_timeout: Duration::from_millis(100),
        ..AdminLimits::default()
    };
    let served = Served::start(Config::default(), Vec::new(), limits);
    let mut silent = served.connect();
    silent.write_all(b"GET /healthz HT").expect("it takes a part");
    // The only place is taken until the silent one's time is over.
    assert_eq!(served.get("/healthz").status, 200);
    let mut rest = Vec::new();
    let end = silent.read_to_end(&mut rest);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn an_oversize_head_is_refused() {
    let served = Served::plain();
    let mut socket = served.connect();
    let _ = write!(socket, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(64 << 10));
    let mut text = Vec::new();
    // The answer may be lost to the reset that follows unread bytes.
    let _ = socket.read_to_end(&mut text);
    assert!(text.is_empty() || text.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&text));
    assert_eq!(served.get("/healthz").status, 200);
}

#[test]
fn stopping_leaves_nothing_behind() {
    let served = Served::plain();
    assert_eq!(served.get("/healthz").status, 200);
    let idle = served.connect();
    served.admin.stop();
    assert_eq!(Arc::strong_count(&served.board), 1, "the thread and its connections are gone");
    drop(idle);
}
