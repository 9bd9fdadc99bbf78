//! The client against gateways of this process, and an embedded Kafka.

#[path = "../../../gateway/tests/issuer/mod.rs"]
mod issuer;
mod world;

use futures_core::Stream;
use issuer::Issuer;
use serde_json::json;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tickgate_client::event::{Cause, FaultCode};
use tickgate_client::trust::Trust;
use tickgate_client::{Channel, Code, Event, Live, LiveError, OnSlow, State, Subscription};
use tickgate_protocol::event::GapCause;
use tickgate_protocol::frame::Opcode;
use world::{SOON, Wire, World, acked, book, find, next, quote, state, trade, trades, until};

/// Of what was asked for at once some is refused, and the rest holds; what was given up no longer comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_granted_and_given_up() {
    let mut world = World::new();
    let gateway = world.gateway(|config| config.limits.subscriptions_max = 2).await;
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    assert!(matches!(next(&mut live).await, Event::State(State::Connecting)));
    live.subscribe(Subscription::trades(["A", "B", "C"])).expect("room");
    let is_ack = |event: &Event| if let Event::Ack(ack) = event { Some(ack.clone()) } else { None };
    let ack = find(&mut live, "an ack", is_ack).await;
    let codes: Vec<Option<Code>> = ack.results.iter().map(|result| result.code).collect();
    assert_eq!((ack.ok, codes), (false, vec![None, None, Some(Code::SubscriptionLimit)]));
    world.send(&[trade("C", 1), trade("A", 2), trade("B", 3)]);
    assert_eq!(trades(&mut live, 2).await, ["2", "3"]);
    live.unsubscribe(Channel::Trades, ["A"]).expect("room");
    assert!(acked(&mut live).await);
    world.send(&[trade("A", 4), trade("B", 5)]);
    assert_eq!(trades(&mut live, 1).await, ["5"]);
    let stats = live.stats();
    assert_eq!((stats.events, stats.gaps, stats.duplicates, stats.unverified), (3, 0, 0, 0));
    // The gateway is asked for its time before anything else, and it is the clock of this very machine.
    let (skew_ns, trip_ns) = (stats.skew_ns.expect("known"), stats.round_trip_ns.expect("known"));
    assert!(skew_ns.unsigned_abs() <= trip_ns / 2 + 1, "{stats:?}");
    assert_eq!(stats.latency.count, 3);
    live.close();
    assert!(matches!(live.subscribe(Subscription::trades(["A"])), Err(LiveError::Closed)));
    assert!(matches!(state(&mut live, "closed").await, State::Closed { .. }));
    assert!(live.next().await.is_none());
    assert!(matches!(live.subscribe(Subscription::trades(["A"])), Err(LiveError::Closed)));
}

/// State first, then what changes it, and the book is as of the event that was handed out last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_is_kept_in_step() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    world.send(&[book("B", json!([["9.0", "1"], ["8", "2"]]), json!([["11", "3"]]), true)]);
    world.has_read(&gateway).await;
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    live.subscribe(Subscription::book(["B"]).depth(1)).expect("room");
    let is_book = |event: &Event| match event {
        Event::Book(update) => Some((update.meta.snapshot, update.depth.get())),
        _ => None,
    };
    assert!(live.book("B").is_none());
    assert_eq!(find(&mut live, "a snapshot", is_book).await, (true, 1));
    let top = |live: &Live| {
        let book = live.book("B").expect("it is kept");
        let text =
            |side: Vec<_>| side.iter().map(|(price, size)| format!("{price}({size})")).collect::<Vec<_>>();
        (book.is_complete(), text(book.bids().collect()), text(book.asks().collect()))
    };
    assert_eq!(top(&live), (true, vec!["9.0(1)".to_owned()], vec!["11(3)".to_owned()]));
    world.send(&[book("B", json!([["9", "0"]]), json!([]), false)]);
    assert_eq!(find(&mut live, "an update", is_book).await, (false, 1));
    assert_eq!(top(&live), (true, vec!["8(2)".to_owned()], vec!["11(3)".to_owned()]));
    // Another depth is another book, and no surprise to who has asked for it.
    live.subscribe(Subscription::book(["B"]).depth(5)).expect("room");
    assert!(acked(&mut live).await);
    assert_eq!(find(&mut live, "a snapshot", is_book).await, (true, 5));
    world.send(&[book("B", json!([["7", "4"]]), json!([]), false)]);
    assert_eq!(find(&mut live, "an update", is_book).await, (false, 5));
    assert_eq!(top(&live).1, ["8(2)", "7(4)"], "it is as deep as the new one");
    // Without its name it goes on by a pattern, and nothing comes anew.
    live.subscribe(Subscription::book(["*"]).depth(5)).expect("room");
    live.unsubscribe(Channel::Book, ["B"]).expect("room");
    assert!(acked(&mut live).await && acked(&mut live).await);
    world.send(&[book("B", json!([["7", "5"]]), json!([]), false)]);
    assert_eq!(find(&mut live, "an update", is_book).await, (false, 5));
    assert_eq!(top(&live), (true, vec!["8(2)".to_owned(), "7(5)".to_owned()], vec!["11(3)".to_owned()]));
    live.unsubscribe(Channel::Book, ["*"]).expect("room");
    acked(&mut live).await;
    assert!(live.book("B").is_none());
}

/// Before there was a cursor a pattern begins anew. Its books were said to be complete meanwhile, and the state that came was taken for
/// a duplicate, as nothing had changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_that_begin_anew_are_not_complete_meanwhile() {
    let mut world = World::new();
    // No cursor.
    let gateway = world.gateway(|config| config.session.heartbeat_ms = 0).await;
    world.send(&[book("P1", json!([["9", "1"], ["8", "1"]]), json!([["10", "1"]]), true)]);
    world.has_read(&gateway).await;
    let wire = Wire::to(gateway.address).await;
    let mut live = Live::builder(wire.url()).connect().await.expect("a session");
    live.subscribe(Subscription::book(["P*"])).expect("room");
    let is_state = |event: &Event| matches!(event, Event::Book(update) if update.meta.snapshot).then_some(());
    find(&mut live, "a state", is_state).await;
    wire.cut();
    let is_gap = |event: &Event| if let Event::Gap(gap) = event { Some(gap.clone()) } else { None };
    let gap = find(&mut live, "a gap", is_gap).await;
    assert_eq!((&*gap.symbol, gap.cause), ("P*", Cause::Unannounced));
    assert!(!live.book("P1").expect("it is kept").is_complete());
    find(&mut live, "a state", is_state).await;
    assert_eq!(live.book("P1").map(|book| (book.is_complete(), book.level_counts())), Some((true, (2, 1))));
    world.send(&[book("P1", json!([["7", "1"]]), json!([]), false)]);
    find(&mut live, "a change", |event| matches!(event, Event::Book(_)).then_some(())).await;
    assert_eq!(live.book("P1").map(|book| book.level_counts()), Some((3, 1)));
}

/// Who does not read has a full queue, nothing more is read, and the gateway does what was asked for: each trade came, or was
/// counted in a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_told_what_was_missed() {
    const TRADES: u32 = 20_000;
    let mut world = World::new();
    let narrow = |config: &mut tickgate_gateway::config::Config| {
        config.outbox.send_buffer_bytes = 4 << 10;
        config.outbox.notsent_lowat_bytes = 1 << 10;
        config.outbox.bytes_max = 64 << 10;
        config.outbox.frame_bytes_max = 16 << 10;
        config.outbox.write_bytes_max = 16 << 10;
        config.outbox.age_max_ms = 60_000;
        config.outbox.stall_timeout_ms = 120_000;
    };
    let gateway = world.gateway(narrow).await;
    let options = tickgate_client::ConnectOptions { recv_buffer_bytes: Some(8 << 10), ..Default::default() };
    let builder = Live::builder(gateway.url()).transport(options).queue(100, 1 << 20).on_slow(OnSlow::Skip);
    let mut live = builder.connect().await.expect("a session");
    live.subscribe(Subscription::trades(["A"])).expect("room");
    assert!(acked(&mut live).await);
    let records: Vec<_> = (0..TRADES).map(|number| trade("A", number)).collect();
    world.send(&records);
    world.has_read(&gateway).await;
    // A frame of 16 KiB more than was allowed, at the most.
    assert!(live.stats().queued_events < 300, "{:?}", live.stats());
    let (mut had, mut is_told, mut last) = (0, false, 0);
    let deadline = Instant::now() + SOON;
    while last + 1 < TRADES {
        assert!(Instant::now() < deadline, "{:?}", live.stats());
        match next(&mut live).await {
            Event::Trade(trade) => {
                had += 1;
                last = trade.price.to_string().parse().expect("a number");
            }
            Event::Slow(slow) => is_told |= slow.action == OnSlow::Skip,
            Event::Gap(gap) => assert_eq!(gap.cause, Cause::Announced(GapCause::SlowConsumer)),
            Event::Error(fault) => panic!("{fault}"),
            _ => {}
        }
    }
    let stats = live.stats();
    assert!(is_told && stats.lost > 0, "{stats:?}");
    assert_eq!((had + stats.lost, stats.events), (u64::from(TRADES), had));
    assert_eq!((stats.unannounced, stats.unverified, stats.reconnects), (0, 0, 0));
}

/// A gateway says that it stops. The client stays to its end, goes to another one, and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_goes_and_another_one_carries_on() {
    let mut world = World::new();
    let (first, second) = (world.gateway(|_| ()).await, world.gateway(|_| ()).await);
    let mut live = Live::builder(first.url()).or(second.url()).connect().await.expect("a session");
    live.subscribe(Subscription::trades(["A", "B*"])).expect("room");
    live.subscribe(Subscription::quotes(["A"])).expect("room");
    assert!(acked(&mut live).await && acked(&mut live).await);
    world.send(&[trade("A", 1), trade("BC", 2)]);
    assert_eq!(trades(&mut live, 2).await, ["1", "2"]);
    let stopping = first.stops();
    find(&mut live, "goaway", |event| matches!(event, Event::Goaway { .. }).then_some(())).await;
    let State::Reconnecting { attempt: 1, reason } = state(&mut live, "reconnecting").await else { panic!() };
    assert!(reason.contains("1012"), "{reason}");
    world.send(&[trade("BC", 3), quote("A", 4), trade("A", 5)]);
    stopping.await.expect("it stops");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let price = |event: &Event| match event {
            Event::Trade(trade) => Some(trade.price.to_string()),
            Event::Quote(quote) => Some(quote.bid_price.to_string()),
            _ => None,
        };
        seen.push(find(&mut live, "what was missed", price).await);
    }
    seen.sort();
    assert_eq!(seen, ["3", "4", "5"], "each once, whether it was replayed or live");
    let stats = live.stats();
    assert_eq!((stats.reconnects, stats.gaps, stats.unverified, stats.unannounced), (1, 0, 0, 0));
}

/// A gateway goes silent: that is told, and after as long again it is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_told_and_given_up() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let wire = Wire::to(gateway.address).await;
    let mut live = Live::builder(wire.url()).connect().await.expect("a session");
    live.subscribe(Subscription::trades(["A"])).expect("room");
    assert!(acked(&mut live).await);
    // With a first heartbeat there is a cursor to go on from.
    find(&mut live, "a heartbeat", |event| matches!(event, Event::Feed { .. }).then_some(())).await;
    wire.hush();
    world.send(&[trade("A", 1)]);
    state(&mut live, "stale").await;
    let State::Reconnecting { reason, .. } = state(&mut live, "reconnecting").await else { panic!() };
    assert!(reason.contains("silent"), "{reason}");
    assert_eq!(trades(&mut live, 1).await, ["1"]);
}

/// Frames that no gateway sends end nothing, and nothing of them is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_are_told_and_the_session_goes_on() {
    let mut world = World::new();
    // No frames but those of the test.
    let gateway = world.gateway(|config| config.session.heartbeat_ms = 0).await;
    let wire = Wire::to(gateway.address).await;
    let mut live = Live::builder(wire.url()).connect().await.expect("a session");
    live.subscribe(Subscription::trades(["A"])).expect("room");
    assert!(acked(&mut live).await);
    world.send(&[trade("A", 1)]);
    assert_eq!(trades(&mut live, 1).await, ["1"]);
    let bad = [
        (Opcode::Text, &b"certainly not JSON"[..]),
        (Opcode::Text, br#"[{"type":"weather","symbol":"A"}]"#),
        (Opcode::Binary, b"\0\x01"),
    ];
    for (opcode, payload) in bad {
        wire.inject(opcode, payload);
        let Event::Error(fault) = next(&mut live).await else { panic!() };
        assert_eq!((fault.code, fault.fatal), (FaultCode::BadFrame, false), "{fault}");
    }
    world.send(&[trade("A", 2)]);
    assert_eq!(trades(&mut live, 1).await, ["2"]);
    let stats = live.stats();
    assert_eq!((stats.bad_frames, stats.reconnects, stats.unannounced), (3, 0, 0));
}

/// A token is nearly over: the client gets another one and goes on in the same session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_refreshed_in_place() {
    let issuer = Issuer::new("k1");
    let mut world = World::new();
    let gateway = world
        .gateway(|config| {
            issuer.asked_by(config);
            config.auth.warn_s = 3_600;
        })
        .await;
    let rights = json!({"symbols": ["*"], "channels": ["trades"], "wildcard": true});
    // The first is warned of at once, the second is not.
    let tokens = [600, 36_000].map(|seconds| issuer.token_for("ann", &rights, seconds));
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let source = move || {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        let token = tokens.get(call).cloned();
        async move { token.ok_or("there are only two") }
    };
    let mut live = Live::builder(gateway.url()).token_with(source).connect().await.expect("a session");
    live.subscribe(Subscription::trades(["A"])).expect("room");
    let (mut is_warned, mut is_taken, mut is_acked) = (false, false, false);
    let deadline = Instant::now() + SOON;
    while !(is_warned && is_taken && is_acked) {
        assert!(Instant::now() < deadline, "warned {is_warned}, taken {is_taken}, acked {is_acked}");
        match next(&mut live).await {
            Event::Error(fault) => {
                is_warned |= fault.code == FaultCode::Protocol(Code::TokenExpiring) && !fault.fatal
            }
            Event::Auth { ok } => is_taken |= ok,
            Event::Ack(ack) => is_acked |= ack.ok,
            Event::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
    world.send(&[trade("A", 1)]);
    assert_eq!(trades(&mut live, 1).await, ["1"]);
    assert_eq!((calls.load(Ordering::Relaxed), live.stats().reconnects), (2, 0));
}

/// Who is not let in is told why, by the protocol's name, and what helps; the token stands nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_is_told_why() {
    let issuer = Issuer::new("k1");
    let world = World::new();
    let gateway = world.gateway(|config| issuer.asked_by(config)).await;
    let error =
        Live::builder(gateway.url()).token("a.b.c-secret").connect().await.expect_err("it is no token");
    let text = format!("{error} {error:?}");
    assert!(text.contains("unauthenticated") && text.contains("401") && !text.contains("secret"), "{text}");
    let error = Live::builder(gateway.url()).connect().await.expect_err("there is none");
    assert!(error.to_string().contains("Builder::token"), "{error}");
    let error =
        Live::builder(gateway.url()).token("two words").connect().await.expect_err("it cannot be one");
    assert!(matches!(error, LiveError::Token(_)), "{error}");
    assert!(matches!(Live::builder("http://x").start(), Err(LiveError::BadUrl(_))));
    drop(gateway);
}

/// Somebody else's server, a wrong path: whoever waits is told what was answered, and who comes back does not try that for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_attempt_mends_is_fatal() {
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let admin = gateway.running().admin_addr();
    for (url, status, texts) in [
        (format!("{}/v1/streams", gateway.url()), 404, ["the stream is at /v1/stream", "path of the URL"]),
        (
            format!("{}/{}", gateway.url(), "x".repeat(3_000)),
            414,
            ["more than 2048 bytes", "Look at the options"],
        ),
        // Not the port for clients.
        (format!("ws://{admin}/metrics"), 200, ["refused with HTTP 200", "Is there a Tickgate gateway"]),
    ] {
        let error = Live::builder(&url).connect().await.expect_err("no stream is there");
        let text = error.to_string();
        assert!(texts.iter().all(|wanted| text.contains(wanted)), "{text}");
        let mut live = Live::builder(&url).start().expect("a client");
        state(&mut live, "connecting").await;
        let Event::Error(fault) = next(&mut live).await else { panic!() };
        assert!(fault.fatal && texts.iter().all(|wanted| fault.hint.contains(wanted)), "{fault}");
        assert!(fault.hint.contains(&format!("HTTP {status}")), "{fault}");
        let State::Closed { reason } = state(&mut live, "closed").await else { panic!() };
        assert!(reason.contains(&format!("HTTP {status}")) && live.next().await.is_none(), "{reason}");
    }
}

/// Several symbols that are given as one are one, as far as a gateway knows: the client says what was meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_symbols_in_one_are_pointed_out() {
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    live.subscribe(Subscription::trades(["AAPL,MSFT", "*"])).expect("room");
    let is_ack = |event: &Event| if let Event::Ack(ack) = event { Some(ack.clone()) } else { None };
    let ack = find(&mut live, "an ack", is_ack).await;
    let hints: Vec<_> = ack.hints().map(|(result, hint)| (&*result.symbol, hint)).collect();
    let [("AAPL,MSFT", hint)] = &hints[..] else { panic!("{hints:?}") };
    assert!(hint.contains(r#"["AAPL", "MSFT"]"#), "{hint}");
}

/// With a function for tokens nobody gives up: the next one may be taken. And it may fail itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_followed_by_another() {
    let issuer = Issuer::new("k1");
    let world = World::new();
    let gateway = world.gateway(|config| issuer.asked_by(config)).await;
    let rights = json!({"symbols": ["*"], "channels": ["trades"], "wildcard": true});
    let good = issuer.token_for("ann", &rights, 36_000);
    let calls = AtomicUsize::new(0);
    let source = move || {
        let token = match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Ok("a.b.c".to_owned()),
            1 => Err("the vault is closed"),
            _ => Ok(good.clone()),
        };
        async move { token }
    };
    let mut live = Live::builder(gateway.url()).token_with(source).start().expect("a client");
    let mut codes = Vec::new();
    let deadline = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < deadline, "{codes:?}");
        match next(&mut live).await {
            Event::Error(fault) => codes.push((fault.code, fault.fatal)),
            Event::State(State::Live) => break,
            _ => {}
        }
    }
    assert_eq!(codes, [(FaultCode::Protocol(Code::Unauthenticated), false), (FaultCode::Token, false)]);
}

/// What a program stored goes on in another one: from its cursor, patterns too, and what it was not handed out is not passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_goes_on_from_a_cursor() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let held = || [Subscription::trades(["A", "B*"]), Subscription::quotes(["A"]).conflate_ms(100)];
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    assert_eq!(live.cursor(), None);
    live.subscribe_all(held()).expect("room");
    assert!(acked(&mut live).await);
    world.send(&[trade("A", 1), trade("BC", 2)]);
    assert_eq!(trades(&mut live, 2).await, ["1", "2"]);
    let covers = |live: &Live| {
        let next = tickgate_protocol::cursor::decode_unverified(live.cursor()?).expect("a cursor");
        Some(next.iter().map(|next| next.offset).sum::<u64>())
    };
    let deadline = Instant::now() + SOON;
    while covers(&live) != Some(2) {
        assert!(Instant::now() < deadline, "a cursor comes: {:?}", covers(&live));
        if let Ok(event) = tokio::time::timeout(Duration::from_millis(10), live.next()).await {
            assert!(matches!(event, Some(Event::Feed { .. } | Event::State(_))), "{event:?}");
        }
    }
    world.send(&[trade("A", 3), quote("A", 4), trade("BC", 5)]);
    // They come, and so do cursors that cover them, but nobody takes them.
    until("the gateway has sent them", || live.stats().queued_events >= 3).await;
    let frames = live.stats().queued_bytes;
    world.send(&[trade("A", 6)]);
    until("another one", || live.stats().queued_bytes > frames).await;
    assert_eq!(covers(&live), Some(2));
    let cursor = live.cursor().expect("it is there").to_owned();
    drop(live);
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    live.subscribe_from(&cursor, held()).expect("room");
    assert!(acked(&mut live).await);
    assert!(live.cursor().is_some(), "as good as any until there is another");
    let (mut seen, mut done) = (Vec::new(), Vec::new());
    while done.len() < 3 {
        match next(&mut live).await {
            Event::Trade(trade) => seen.push(trade.price.to_string()),
            Event::Quote(quote) => seen.push(quote.bid_price.to_string()),
            Event::ReplayDone { symbol, .. } => done.push(symbol),
            Event::State(_) | Event::Feed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    seen.sort();
    assert_eq!(seen, ["3", "4", "5", "6"]);
    let stats = live.stats();
    assert_eq!((stats.gaps, stats.duplicates, stats.unannounced), (0, 0, 0));
}

/// Whoever takes everybody in and ends it at once was asked again within 100 ms, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_end_at_once_are_tried_less_and_less_often() {
    let world = World::new();
    let gateway = world.gateway(|_| ()).await;
    let wire = Wire::to(gateway.address).await;
    let mut live = Live::builder(wire.url()).start().expect("a client");
    let mut last = 0;
    for _ in 0..4 {
        let began = Instant::now();
        state(&mut live, "live").await;
        wire.cut();
        let State::Reconnecting { attempt, .. } = state(&mut live, "reconnecting").await else { panic!() };
        // On a machine that stood still meanwhile, the session has lasted.
        let is_at_once = began.elapsed() < Duration::from_secs(2);
        assert!(attempt == last + 1 || !is_at_once && attempt == 1, "{attempt} behind {last}");
        last = attempt;
    }
}

/// The same over TLS, with an authority that only the client knows, and whoever is not vouched for is told nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wss_is_for_gateways_that_somebody_vouches_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned()];
    let own = rcgen::CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
    std::fs::write(path("tls.crt"), own.pem()).expect("it is written");
    std::fs::write(path("tls.key"), key.serialize_pem()).expect("it is written");
    let mut world = World::new();
    let gateway = world
        .gateway(|config| {
            let text = |name: &str| path(name).to_str().expect("text").to_owned();
            (config.tls.certificate_file, config.tls.key_file) = (text("tls.crt"), text("tls.key"));
        })
        .await;
    assert!(gateway.url().starts_with("wss://"));
    let trust = Trust::read(Some(&path("tls.crt"))).expect("a certificate");
    let mut live = Live::builder(gateway.url()).trust(trust).connect().await.expect("a session");
    live.subscribe(Subscription::trades(["A"])).expect("room");
    assert!(acked(&mut live).await);
    world.send(&[trade("A", 1)]);
    assert_eq!(trades(&mut live, 1).await, ["1"]);
    // By the roots of the system, if there are any, it is nobody.
    let error = Live::builder(gateway.url()).connect().await.expect_err("nobody vouches for it");
    assert!(matches!(error, LiveError::Connect(_) | LiveError::Trust(_)), "{error}");
    // And who does not speak TLS is not heard.
    let plain = gateway.url().replace("wss://", "ws://");
    let error = Live::builder(plain).connect().await.expect_err("it speaks TLS only");
    assert!(matches!(error, LiveError::Connect(_)), "{error}");
}

/// The past alone, and then it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_played_and_ends() {
    let mut world = World::new();
    let gateway = world.gateway(|_| ()).await;
    world.send(&[trade("A", 1), trade("A", 2)]);
    world.has_read(&gateway).await;
    let mut live = Live::builder(gateway.url()).connect().await.expect("a session");
    live.replay(Subscription::trades(["A"]), 0, None, None).expect("room");
    assert!(acked(&mut live).await);
    assert_eq!(trades(&mut live, 2).await, ["1", "2"]);
    let done = |event: &Event| {
        if let Event::ReplayDone { symbol, .. } = event { Some(symbol.clone()) } else { None }
    };
    assert_eq!(&*find(&mut live, "the end", done).await, "A");
    // From the beginning, and on with what is live.
    live.subscribe(Subscription::trades(["A"]).from_time_ns(0)).expect("room");
    assert!(acked(&mut live).await);
    assert_eq!(trades(&mut live, 2).await, ["1", "2"]);
    find(&mut live, "the end", done).await;
    world.send(&[trade("A", 3)]);
    assert_eq!(trades(&mut live, 1).await, ["3"]);
    assert_eq!(live.stats().replayed, 4);
    // What is left, as a stream.
    live.close();
    let mut last = None;
    while let Some(event) = std::future::poll_fn(|cx| Pin::new(&mut live).poll_next(cx)).await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::State(State::Closed { .. }))), "{last:?}");
}

/// Nobody is there: who waits for a session is told, who starts hears of each attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_there() {
    // A port that was free a moment ago, and is held, so that nobody takes it: nothing listens on it.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let url = format!("ws://{}", socket.local_addr().expect("it has one"));
    let error = Live::builder(&url).connect().await.expect_err("nobody listens");
    let text = error.to_string();
    assert!(
        text.starts_with("no session: cannot connect") && text.ends_with("Is a gateway there?"),
        "{text}"
    );
    let mut live = Live::builder(&url).start().expect("a client");
    live.subscribe(Subscription::trades(["A"])).expect("it waits");
    for expected in 1..=3 {
        let State::Reconnecting { attempt, .. } = state(&mut live, "reconnecting").await else { panic!() };
        assert_eq!(attempt, expected);
    }
    live.close();
    tokio::time::timeout(SOON, state(&mut live, "closed")).await.expect("at once");
}
