mod books;
mod clocks;

use super::*;
use tickgate_protocol::command::{Command, Request as Read};
use tickgate_protocol::{OnSlow, Position};

const HELLO: &str = r#"{"op":"hello","protocol":1,"session":"s","now_ns":"1000","heartbeat_ms":5000,"auth":"none","limits":{"subscriptions":9,"requests_per_s":9,"message_bytes":9}}"#;

/// A client, and the gateway that a test makes up.
struct World {
    session: Session,
    /// What the client asked of it and was not taken by the test yet.
    requests: VecDeque<Value>,
}

impl World {
    fn new(has_token: bool) -> Self {
        Self { session: Session::new(has_token, None), requests: VecDeque::new() }
    }

    /// One with a session, in which this is subscribed to.
    fn with(subscriptions: Vec<Subscription>) -> Self {
        let mut world = Self::new(false);
        world.session.begin();
        assert_eq!(world.says(HELLO), ["live"]);
        for subscription in subscriptions {
            world.subscribes(subscription);
        }
        world
    }

    fn subscribes(&mut self, subscription: Subscription) {
        self.subscribes_from(None, subscription);
    }

    fn subscribes_from(&mut self, cursor: Option<&str>, subscription: Subscription) {
        self.session.ask(UserRequest {
            asked: Request::Subscribe,
            cursor: cursor.map(Into::into),
            subscriptions: vec![subscription],
        });
        let request = self.request();
        assert_eq!(self.acks(&request).len(), 1);
    }

    /// Its user gives a subscription up; gives the symbols whose books have ended by it.
    fn gives_up(&mut self, channel: Channel, name: &str) -> Vec<Symbol> {
        let subscriptions = vec![Subscription::on(channel, [name])];
        self.session.ask(UserRequest { asked: Request::Unsubscribe, cursor: None, subscriptions });
        let results = json!([{"channel": channel.name(), "symbol": name, "ok": true}]);
        let ack = json!({"op": "ack", "id": self.request()["id"], "ok": true, "results": results});
        self.session.message(ack.to_string().as_bytes(), 1500);
        match self.session.out.events.pop() {
            Some(Event::Ack(ack)) => ack.ended,
            other => panic!("{other:?}"),
        }
    }

    /// The next request.
    fn request(&mut self) -> Value {
        self.collect();
        self.requests.pop_front().expect("a request")
    }

    fn collect(&mut self) {
        for text in self.session.out.send.drain(..) {
            // The gateway's own reader understands it.
            Read::parse(&text).unwrap_or_else(|bad| panic!("{bad:?}"));
            self.requests.push_back(serde_json::from_str(&text).expect("JSON"));
        }
    }

    /// The gateway says something; gives what comes of it.
    fn says(&mut self, text: &str) -> Vec<String> {
        self.session.message(text.as_bytes(), 1500);
        self.events()
    }

    /// The gateway grants all of a request.
    fn acks(&mut self, request: &Value) -> Vec<String> {
        let Command::Subscribe { subscriptions, .. } =
            Read::parse(&request.to_string()).expect("a request").command
        else {
            return self.says(&json!({"op": "ack", "id": request["id"], "ok": true}).to_string());
        };
        let results: Vec<Value> = subscriptions
            .iter()
            .flat_map(|s| {
                s.symbols
                    .iter()
                    .map(|symbol| json!({"channel": s.channel_name, "symbol": symbol, "ok": true}))
            })
            .collect();
        self.says(&json!({"op": "ack", "id": request["id"], "ok": true, "results": results}).to_string())
    }

    /// The session ends and another one begins.
    fn comes_back(&mut self) -> Vec<String> {
        self.collect();
        self.requests.clear();
        self.session.lost();
        self.session.begin();
        self.says(HELLO)
    }

    /// Trades of a symbol, each a frame: position, and what stands behind.
    fn trades(&mut self, symbol: &str, trades: &[(u64, &str)]) -> Vec<String> {
        let of = |(offset, tail): &(u64, &str)| {
            self.session
                .message(event("trade", r#""price":"1","size":"2""#, symbol, *offset, tail).as_bytes(), 1500);
            self.events()
        };
        trades.iter().flat_map(of).collect()
    }

    fn books(&mut self, symbol: &str, books: &[(u64, &str)]) -> Vec<String> {
        let of = |(offset, tail): &(u64, &str)| {
            self.session
                .message(event("book", r#""bids":[],"asks":[]"#, symbol, *offset, tail).as_bytes(), 1500);
            self.events()
        };
        books.iter().flat_map(of).collect()
    }

    fn events(&mut self) -> Vec<String> {
        self.session.out.events.drain(..).map(|event| brief(&event)).collect()
    }
}

fn event(kind: &str, body: &str, symbol: &str, offset: u64, tail: &str) -> String {
    format!(
        r#"[{{"type":"{kind}","symbol":"{symbol}",{body},"seq":"1:0:{offset}","event_ns":"1","ingest_ns":"2"{tail}}}]"#
    )
}

fn brief(event: &Event) -> String {
    let at = |position: Option<Position>| position.map_or("-".to_owned(), |at| at.offset.to_string());
    match event {
        Event::Gap(gap) => {
            format!("gap {} {} {}..{}", gap.symbol, gap.cause.name(), at(gap.after), at(gap.upto))
        }
        Event::State(state) => state.name().to_owned(),
        Event::Error(fault) => format!("{} {}", fault.code.name(), fault.symbol.as_deref().unwrap_or("-")),
        Event::Resync { symbol, .. } => format!("resync {symbol}"),
        Event::ReplayDone { symbol, .. } => format!("done {symbol}"),
        Event::Ack(ack) => format!("ack {}", ack.ok),
        Event::Auth { ok } => format!("auth {ok}"),
        Event::Feed { name, state } => format!("feed {name} {}", state.name()),
        other => match other.meta() {
            Some(meta) => format!("{} {}", other.symbol().map_or("?", |symbol| symbol), meta.seq.offset),
            None => format!("{other:?}"),
        },
    }
}

fn heartbeat(cursor: &str) -> String {
    format!(
        r#"{{"op":"heartbeat","now_ns":"1400","cursor":"{cursor}","queued_bytes":0,"delay_ms":0,"feeds":[{{"name":"f","state":"live","lag_records":0}}]}}"#
    )
}

#[test]
fn a_loss_that_nobody_told_is_told() {
    let mut world = World::with(vec![Subscription::trades(["A"])]);
    let told = world.trades(
        "A",
        &[(1, ""), (2, r#","prev":"1:0:1""#), (2, r#","prev":"1:0:1""#), (7, r#","prev":"1:0:5""#)],
    );
    assert_eq!(told, ["A 1", "A 2", "gap A unannounced 2..5", "A 7"]);
    let counts = world.session.out.counts;
    assert_eq!((counts.duplicates, counts.unannounced, counts.unverified), (1, 1, 0));
}

/// A part of a bad message was once taken: the positions in it then made of what really came next a duplicate.
#[test]
fn of_a_bad_message_nothing_is_taken() {
    let mut world = World::with(vec![Subscription::trades(["A"])]);
    world.trades("A", &[(1, "")]);
    let good = event("trade", r#""price":"1","size":"2""#, "A", 2, r#","prev":"1:0:1""#);
    let good = good.trim_matches(['[', ']']);
    for bad in [
        format!("[{good},{{\"type\":\"trade\",\"symbol\":\"A\"}}]"),
        format!("[{good},{{\"type\":\"weather\",\"symbol\":\"A\"}}]"),
        format!("[{good}"),
        r#"{"op":"weather"}"#.to_owned(),
        "\"text\"".to_owned(),
        String::new(),
    ] {
        assert_eq!(world.says(&bad), ["bad_frame -"], "{bad}");
    }
    assert_eq!(world.session.out.counts.bad_frames, 6);
    assert_eq!(world.says(&format!("[{good}]")), ["A 2"]);
}

#[test]
fn who_comes_back_asks_from_the_cursor_and_is_live_when_all_was_replayed() {
    let mut world = World::with(vec![Subscription::trades(["A", "B*"]), Subscription::book(["A"]).depth(5)]);
    world.trades("A", &[(1, "")]);
    assert_eq!(world.says(&heartbeat("c1")), ["feed f live"]);
    assert_eq!(world.comes_back(), ["resyncing"]);
    let (trades, book) = (world.request(), world.request());
    assert_eq!(trades["cursor"], "c1");
    assert_eq!(trades["subscriptions"], json!([{"channel": "trades", "symbols": ["A", "B*"]}]));
    assert_eq!(book["subscriptions"], json!([{"channel": "book", "depth": 5, "symbols": ["A"]}]));
    assert!(world.acks(&trades).is_empty());
    // One that overtakes the ack is not to be kept: it says nothing of what is still asked for.
    world.says(&heartbeat("c2"));
    assert_eq!(world.session.cursor.as_deref(), Some("c1"));
    assert!(world.acks(&book).is_empty());
    assert_eq!(
        world.trades("A", &[(1, r#","replay":true"#), (4, r#","prev":"1:0:1","replay":true"#)]),
        ["A 4"]
    );
    let done = |channel: &str, symbol: &str, id: &Value| {
        json!({"op": "replay_done", "id": id, "channel": channel, "symbol": symbol, "seq": null}).to_string()
    };
    assert!(world.says(&done("trades", "A", &trades["id"])).is_empty());
    assert!(world.says(&done("book", "A", &book["id"])).is_empty());
    assert_eq!(world.says(&done("trades", "B*", &trades["id"])), ["live"]);
    world.says(&heartbeat("c3"));
    assert_eq!(world.session.cursor.as_deref(), Some("c3"));
}

/// It never had a cursor: what it saw goes on behind that, and what else is missing nobody knows.
#[test]
fn without_a_cursor_positions_are_gone_on_from() {
    let mut world = World::with(vec![Subscription::trades(["A", "B", "C*"])]);
    world.trades("A", &[(7, "")]);
    assert_eq!(world.comes_back(), ["resyncing", "gap B unannounced -..-", "gap C* unannounced -..-"]);
    let request = world.request();
    assert!(request["cursor"].is_null());
    assert_eq!(request["subscriptions"][0]["from"], json!({"seq": "1:0:7"}));
    assert!(world.acks(&request).is_empty());
    let done = format!(
        r#"{{"op":"replay_done","id":{},"channel":"trades","symbol":"A","seq":null}}"#,
        request["id"]
    );
    assert_eq!(world.says(&done), ["live"]);
}

/// The cursor of another cluster is refused as a whole: then it is tried without.
#[test]
fn a_cursor_that_is_refused_is_given_up() {
    let mut world = World::with(vec![Subscription::trades(["A"])]);
    world.trades("A", &[(7, "")]);
    world.says(&heartbeat("c1"));
    world.comes_back();
    let request = world.request();
    let refused = json!({"op": "error", "id": request["id"], "code": "bad_request", "number": 4400, "message": "no cursor", "fatal": false});
    assert_eq!(world.says(&refused.to_string()), ["bad_request -"]);
    let request = world.request();
    assert!(request["cursor"].is_null());
    assert_eq!(request["subscriptions"][0]["from"], json!({"seq": "1:0:7"}));
    // And when that is refused too, it is told what is given up.
    let refused = json!({"op": "error", "id": request["id"], "code": "bad_request", "number": 4400, "message": "no", "fatal": false});
    assert_eq!(world.says(&refused.to_string()), ["bad_request -", "bad_request A", "live"]);
}

/// `subscribe_from` an old cursor, of a client that had a newer one already: when the session was lost before the next one came, a
/// pattern went on from the newer, and what lay between was lost without a gap, though it was said to be done.
#[test]
fn what_was_asked_for_from_a_cursor_goes_on_from_that_one() {
    let mut world = World::with(vec![Subscription::quotes(["A"])]);
    world.says(&heartbeat("new"));
    world.subscribes_from(Some("old"), Subscription::trades(["A", "B*"]));
    world.trades("A", &[(1, r#","replay":true"#)]);
    assert_eq!(world.comes_back(), ["resyncing"]);
    let requests = [world.request(), world.request(), world.request()];
    let asked =
        requests.each_ref().map(|request| format!("{} {}", request["cursor"], request["subscriptions"]));
    assert_eq!(
        asked,
        [
            r#""new" [{"channel":"quotes","symbols":["A"]}]"#,
            r#""old" [{"channel":"trades","symbols":["B*"]}]"#,
            r#"null [{"channel":"trades","from":{"seq":"1:0:1"},"symbols":["A"]}]"#,
        ]
    );
    requests.iter().for_each(|request| assert!(world.acks(request).is_empty()));
    let done = |channel: &str, symbol: &str| {
        json!({"op": "replay_done", "id": 9, "channel": channel, "symbol": symbol, "seq": null}).to_string()
    };
    assert!(world.says(&done("quotes", "A")).is_empty());
    assert_eq!(world.says(&done("trades", "A")), ["done A"]);
    assert_eq!(world.says(&done("trades", "B*")), ["done B*", "live"]);
    // The next one covers all.
    world.says(&heartbeat("newer"));
    world.comes_back();
    let cursors = [world.request(), world.request()].map(|request| request["cursor"].clone());
    assert_eq!(cursors, ["newer", "newer"]);
}

/// A cursor of its user is refused in another session: the client's own one is kept, but it is no way to go on with what it does not
/// cover, and so that is told to be missing.
#[test]
fn a_cursor_of_its_user_that_is_refused_takes_no_other_with_it() {
    let mut world = World::with(vec![Subscription::quotes(["A"])]);
    world.says(&heartbeat("new"));
    world.subscribes_from(Some("old"), Subscription::trades(["B*"]));
    world.comes_back();
    let (quotes, trades) = (world.request(), world.request());
    assert_eq!((&quotes["cursor"], &trades["cursor"]), (&json!("new"), &json!("old")));
    let refused = json!({"op": "error", "id": trades["id"], "code": "bad_request", "number": 4400, "message": "no cursor", "fatal": false});
    assert_eq!(world.says(&refused.to_string()), ["bad_request -", "gap B* unannounced -..-", "done B*"]);
    assert_eq!(world.session.cursor.as_deref(), Some("new"));
    let trades = world.request();
    assert_eq!(trades["subscriptions"], json!([{"channel": "trades", "symbols": ["B*"]}]));
    assert!(trades["cursor"].is_null());
    // When the one that was kept is refused too, there is none.
    let refused = json!({"op": "error", "id": quotes["id"], "code": "bad_request", "number": 4400, "message": "no cursor", "fatal": false});
    world.says(&refused.to_string());
    assert_eq!(world.session.cursor, None);
}

/// A past that was asked for from a cursor was lost with that cursor, and began anew behind a gap: its end was never said, now or after
/// a later loss, and whoever waited for it waited for ever.
#[test]
fn a_past_that_begins_anew_is_done() {
    let mut world = World::with(vec![]);
    world.subscribes_from(Some("old"), Subscription::trades(["A", "B*"]));
    world.trades("A", &[(1, r#","replay":true"#)]);
    assert_eq!(world.comes_back(), ["resyncing"]);
    let request = world.request();
    assert_eq!(request["cursor"], "old");
    let refused = json!({"op": "error", "id": request["id"], "code": "bad_request", "number": 4400, "message": "no cursor", "fatal": false});
    assert_eq!(world.says(&refused.to_string()), ["bad_request -", "gap B* unannounced -..-", "done B*"]);
    // The other one has a position to go on from, and is done when the gateway says so.
    let done = |symbol: &str| {
        json!({"op": "replay_done", "id": 9, "channel": "trades", "symbol": symbol, "seq": null}).to_string()
    };
    let request = world.request();
    let [seq, anew] = [0, 1].map(|index| request["subscriptions"][index]["from"]["seq"].as_str());
    assert_eq!((&request["cursor"], seq, anew), (&Value::Null, Some("1:0:1"), None));
    assert!(world.acks(&request).is_empty());
    assert_eq!(world.says(&done("A")), ["done A", "live"]);
    // It is said once.
    world.says(&heartbeat("c1"));
    assert_eq!(world.comes_back(), ["resyncing"]);
    let request = world.request();
    assert_eq!(request["cursor"], "c1");
    world.acks(&request);
    assert!(world.says(&done("A")).is_empty());
    assert_eq!(world.says(&done("B*")), ["live"]);
}

#[test]
fn what_comes_too_fast_is_asked_for_again() {
    let mut world = World::with(vec![]);
    world.session.ask(UserRequest {
        asked: Request::Subscribe,
        cursor: None,
        subscriptions: vec![Subscription::trades(["A"])],
    });
    let request = world.request();
    let slower = json!({"op": "error", "id": request["id"], "code": "rate_limited", "number": 4429, "message": "slower", "fatal": false, "retry_after_ms": 70});
    assert_eq!(world.says(&slower.to_string()), ["rate_limited A"]);
    assert_eq!(world.session.out.again_after, Some(Duration::from_millis(70)));
    world.session.again();
    let again = world.request();
    assert_eq!(again["subscriptions"], request["subscriptions"]);
    assert_ne!(again["id"], request["id"]);
    assert_eq!(world.acks(&again), ["ack true"]);
}

/// What was asked for and not answered when the session ended is asked for in the next one, in the same order, and its user hears
/// of it once.
#[test]
fn what_was_not_answered_is_asked_for_again() {
    let mut world = World::with(vec![]);
    for symbol in ["A", "B"] {
        world.session.ask(UserRequest {
            asked: Request::Subscribe,
            cursor: None,
            subscriptions: vec![Subscription::trades([symbol])],
        });
    }
    assert!(world.comes_back().is_empty(), "it is not live before that was answered");
    let (a, b) = (world.request(), world.request());
    assert_eq!(a["subscriptions"][0]["symbols"], json!(["A"]));
    assert_eq!(world.acks(&a), ["ack true"]);
    assert_eq!(world.acks(&b), ["ack true", "live"]);
}

#[test]
fn a_gap_of_what_the_client_has_is_not_its_concern() {
    let mut world = World::with(vec![Subscription::trades(["A"])]);
    world.trades("A", &[(9, "")]);
    world.says(&heartbeat("c1"));
    world.comes_back();
    let request = world.request();
    world.acks(&request);
    let gap = |upto| {
        format!(
            r#"[{{"type":"gap","symbol":"A","channel":"trades","cause":"retention","upto":"1:0:{upto}"}}]"#
        )
    };
    assert!(world.says(&gap(6)).is_empty());
    assert_eq!(world.says(&gap(12)), ["gap A retention -..12"]);
    assert_eq!(world.trades("A", &[(13, r#","prev":"1:0:12""#)]), ["live", "A 13"]);
}

/// What a reconnect resumed is gone: the next event may follow anything, and its break is none.
#[test]
fn what_has_aged_out_is_excused_once() {
    let mut world = World::with(vec![Subscription::trades(["A"])]);
    world.trades("A", &[(9, "")]);
    world.says(&heartbeat("c1"));
    world.comes_back();
    let request = world.request();
    world.acks(&request);
    let gone = json!({"op": "error", "id": request["id"], "code": "replay_aged_out", "number": 4410, "message": "gone", "fatal": false});
    assert_eq!(world.says(&gone.to_string()), ["replay_aged_out -", "live"]);
    let told = world.trades("A", &[(80, r#","prev":"1:0:78""#), (90, r#","prev":"1:0:85""#)]);
    assert_eq!(told, ["A 80", "gap A unannounced 80..85", "A 90"]);
}

#[test]
fn tokens_are_shown_when_they_are_wanted() {
    let mut world = World::new(true);
    world.session.begin();
    assert!(world.says(&HELLO.replace("none", "required")).is_empty());
    assert!(std::mem::take(&mut world.session.out.wants_token));
    world.session.token("t1");
    let auth = world.request();
    assert_eq!((&auth["op"], &auth["token"]), (&json!("auth"), &json!("t1")));
    assert_eq!(world.acks(&auth), ["auth true", "live"]);
    world.subscribes(Subscription::trades(["A"]));
    let expiring = r#"{"op":"error","code":"token_expiring","number":4498,"message":"soon","fatal":false}"#;
    assert_eq!(world.says(expiring), ["token_expiring -"]);
    assert!(std::mem::take(&mut world.session.out.wants_token));
    world.session.token("t2");
    let auth = world.request();
    // It goes on in place, with less than before.
    let ack = json!({"op": "ack", "id": auth["id"], "ok": true, "results": [{"channel": "trades", "symbol": "A", "ok": false, "code": "forbidden", "message": "no longer"}]});
    assert_eq!(world.says(&ack.to_string()), ["auth true", "forbidden A"]);
    assert_eq!(world.comes_back(), ["live"], "nothing is held");
    // A token does not stand in what the session keeps.
    assert!(!format!("{:?}", world.session).contains("t2"));
}

#[test]
fn without_a_token_it_gives_up_where_one_is_asked_for() {
    let mut world = World::new(false);
    world.session.begin();
    assert_eq!(world.says(&HELLO.replace("none", "required")), ["unauthenticated -"]);
    assert!(world.session.out.give_up.is_some());
}

/// The past is over when it is done; it is asked for from its beginning when it was broken off, and then discarded as far as it
/// was had.
#[test]
fn the_past_is_played_once() {
    let mut world = World::with(vec![]);
    world.subscribes(Subscription::trades(["A"]).past(0, Some(5), None));
    assert_eq!(world.trades("A", &[(1, r#","replay":true"#)]), ["A 1"]);
    assert_eq!(world.comes_back(), ["resyncing"]);
    let request = world.request();
    assert_eq!(request["subscriptions"][0]["from"], json!({"time_ns": "0", "until_ns": "5"}));
    assert_eq!(world.acks(&request), ["live"], "it does not have to wait for all of the past");
    let told = world.trades("A", &[(1, r#","replay":true"#), (2, r#","prev":"1:0:1","replay":true"#)]);
    assert_eq!(told, ["A 2"]);
    let done = format!(
        r#"{{"op":"replay_done","id":{},"channel":"trades","symbol":"A","seq":"1:0:2"}}"#,
        request["id"]
    );
    assert_eq!(world.says(&done), ["done A"]);
    assert!(world.comes_back().iter().eq(["live"]), "nothing is held");
}

/// A pattern was given up, and with it the books of symbols that were subscribed to by name: their updates went into empty ones.
#[test]
fn what_is_subscribed_to_by_name_outlives_a_pattern() {
    let mut world = World::with(vec![Subscription::book(["B*"]), Subscription::book(["BC"])]);
    for symbol in ["BC", "BD"] {
        world.books(symbol, &[(1, r#","snapshot":true"#)]);
    }
    assert_eq!(world.gives_up(Channel::Book, "B*"), [Symbol::from("BD")]);
    let told = world.books("BC", &[(5, r#","prev":"1:0:4""#)]);
    assert_eq!(told, ["gap BC unannounced 1..4", "BC 5"], "its chain goes on too");
}

/// A name was given up while a pattern in the same depth went on, of which a gateway sends no state anew as nothing changes: the book was
/// thrown away, its updates went into an empty one, and what was missing right behind went unnoticed.
#[test]
fn a_book_outlives_its_name_where_a_pattern_goes_on() {
    for (pattern, goes_on) in [
        (Subscription::book(["B*"]).depth(5), true),
        (Subscription::book(["*"]).depth(5).on_slow(OnSlow::Skip), true),
        (Subscription::book(["B*"]), false),
        (Subscription::book(["B*"]).depth(5).conflate_ms(9), false),
        (Subscription::book(["B*"]).depth(5).past(0, Some(5), None), false),
        (Subscription::book(["C*"]).depth(5), false),
    ] {
        let mut world = World::with(vec![pattern, Subscription::book(["B"]).depth(5)]);
        world.books("B", &[(1, r#","snapshot":true"#)]);
        assert_eq!(
            world.gives_up(Channel::Book, "B"),
            if goes_on { vec![] } else { vec![Symbol::from("B")] }
        );
        let told = world.books("B", &[(5, r#","prev":"1:0:4""#)]);
        assert_eq!(told, if goes_on { vec!["gap B unannounced 1..4", "B 5"] } else { vec!["B 5"] });
    }
    // Both together, one after the other.
    let mut world = World::with(vec![Subscription::book(["*"]), Subscription::book(["B"])]);
    world.books("B", &[(1, r#","snapshot":true"#)]);
    assert!(world.gives_up(Channel::Book, "B").is_empty());
    assert_eq!(world.gives_up(Channel::Book, "*"), [Symbol::from("B")]);
}

/// What was given up while it was being resumed is not waited for: the client never said that it was live again.
#[test]
fn nobody_waits_for_what_was_given_up() {
    let mut world = World::with(vec![Subscription::trades(["A"]), Subscription::trades(["*"])]);
    world.trades("A", &[(4, "")]);
    world.says(&heartbeat("c1"));
    world.comes_back();
    let request = world.request();
    assert!(world.acks(&request).is_empty());
    world.gives_up(Channel::Trades, "A");
    // Its pattern is resumed too, so that it goes on where it was.
    let again = r#","prev":"1:0:3","replay":true"#;
    assert_eq!(world.trades("A", &[(4, again), (6, r#","prev":"1:0:4","replay":true"#)]), ["A 6"]);
    let done = format!(
        r#"{{"op":"replay_done","id":{},"channel":"trades","symbol":"*","seq":null}}"#,
        request["id"]
    );
    assert_eq!(world.says(&done), ["live"]);
}
