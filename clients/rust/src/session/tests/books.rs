//! Books that break, and books whose state is lost: in a gap, or with the session that was to bring it.

use super::*;

#[test]
fn a_book_that_breaks_is_asked_for_again_once() {
    let mut world = World::with(vec![Subscription::book(["B*"]).depth(5)]);
    let told = world
        .books("B1", &[(1, r#","snapshot":true"#), (5, r#","prev":"1:0:4""#), (9, r#","prev":"1:0:8""#)]);
    assert_eq!(told, ["B1 1", "gap B1 unannounced 1..4", "B1 5", "gap B1 unannounced 5..8", "B1 9"]);
    let (release, renew) = (world.request(), world.request());
    assert!(world.requests.is_empty(), "once");
    assert_eq!(
        (&release["op"], &release["subscriptions"][0]["symbols"]),
        (&json!("unsubscribe"), &json!(["B*"]))
    );
    assert_eq!(renew["subscriptions"][0]["depth"], 5);
    assert!(world.acks(&release).is_empty());
    assert!(world.acks(&renew).is_empty());
    // The snapshot stands where the client is already.
    let told = world.books("B1", &[(9, r#","snapshot":true"#), (10, r#","prev":"1:0:9""#)]);
    assert_eq!(told, ["resync B1", "B1 9", "B1 10"]);
}

/// A user's own subscribe brings a state that replaces what there was, which is no surprise.
#[test]
fn only_a_snapshot_that_nobody_asked_for_is_a_resync() {
    let mut world = World::with(vec![Subscription::book(["B"])]);
    world.books("B", &[(1, r#","snapshot":true"#), (2, r#","prev":"1:0:1""#)]);
    world.subscribes(Subscription::book(["B"]).depth(5));
    assert_eq!(world.books("B", &[(2, r#","snapshot":true"#)]), ["B 2"]);
    assert_eq!(world.books("B", &[(4, r#","prev":"1:0:2","snapshot":true"#)]), ["resync B", "B 4"]);
}

/// A whole book that nobody had seen, or whose depth was another one before, went on behind an older cursor or position, with its changes
/// alone: it was never complete, or said that it was and lacked levels.
#[test]
fn a_whole_book_that_lacks_its_state_begins_anew() {
    for cursor in [None, Some("c")] {
        let mut world = World::with(vec![Subscription::quotes(["Q"])]);
        if let Some(cursor) = cursor {
            world.says(&heartbeat(cursor));
        }
        world.subscribes(Subscription::book(["SEEN", "BROKEN", "TOLD"]));
        world.subscribes(Subscription::book(["DEEPER"]).depth(1));
        world.subscribes(Subscription::book(["P*"]).depth(5));
        for symbol in ["SEEN", "BROKEN", "TOLD", "DEEPER", "P1"] {
            assert_eq!(world.books(symbol, &[(1, r#","snapshot":true"#)]), [format!("{symbol} 1")]);
        }
        assert_eq!(
            world.books("BROKEN", &[(5, r#","prev":"1:0:4""#)]),
            ["gap BROKEN unannounced 1..4", "BROKEN 5"]
        );
        let told = r#"[{"type":"gap","symbol":"TOLD","channel":"book","cause":"overload","after":"1:0:1","upto":"1:0:5"}]"#;
        assert_eq!(world.says(told), ["gap TOLD overload 1..5"]);
        world.collect();
        world.requests.clear();
        // The same once more brings nothing, and the book is there.
        world.subscribes(Subscription::book(["SEEN"]));
        world.subscribes(Subscription::book(["DEEPER", "NEW", "P*"]));
        world.subscribes(Subscription::book(["TOP*"]).depth(5));
        world.subscribes(Subscription::book(["SLOW"]).conflate_ms(100));
        if cursor.is_some() {
            world.subscribes_from(Some("kept with the book"), Subscription::book(["MINE*"]));
        }
        let mut told = world.comes_back();
        told.retain(|event| event.starts_with("gap"));
        let gap = |name: &&str| format!("gap {name} unannounced -..-");
        let mut anew = vec!["BROKEN", "DEEPER", "NEW", "P*", "TOLD"];
        if cursor.is_none() {
            // Of these nothing is known at all.
            anew.extend(["SLOW", "TOP*", "Q"]);
            told.sort();
            anew.sort_unstable();
        }
        assert_eq!(told, anew.iter().map(gap).collect::<Vec<_>>());
        world.collect();
        let mut asked = Vec::new();
        for request in std::mem::take(&mut world.requests) {
            for subscription in request["subscriptions"].as_array().expect("some") {
                let names: Vec<&str> = subscription["symbols"]
                    .as_array()
                    .expect("names")
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                let whence = if request["cursor"].is_null() {
                    &subscription["from"]["seq"]
                } else {
                    &request["cursor"]
                };
                asked.extend(whence.as_str().map(|whence| format!("{} {whence}", names.join(","))));
            }
        }
        match cursor {
            None => assert_eq!(asked, ["SEEN 1:0:1"]),
            Some(_) => {
                assert_eq!(asked, ["Q c", "TOP* c", "SLOW c", "MINE* kept with the book", "SEEN 1:0:1"])
            }
        }
        // Its state stands where the client is already, and what its user has asked for and did not get is no surprise.
        assert_eq!(world.books("DEEPER", &[(1, r#","snapshot":true"#)]), ["DEEPER 1"]);
        assert_eq!(world.books("P1", &[(1, r#","snapshot":true"#)]), ["P1 1"]);
        assert_eq!(world.books("BROKEN", &[(5, r#","snapshot":true"#)]), ["resync BROKEN", "BROKEN 5"]);
    }
}

/// Who lost the session while a broken book was being had anew had none for ever: the next one went on from the cursor with changes alone, and
/// no break of it was answered any more.
#[test]
fn a_book_that_is_broken_when_its_session_ends_is_asked_for_in_the_next_one() {
    // Before the gateway answers, or before the state comes.
    for is_answered in [false, true] {
        let mut world = World::with(vec![Subscription::book(["B*"])]);
        for symbol in ["B1", "B2"] {
            world.books(symbol, &[(1, r#","snapshot":true"#)]);
        }
        world.says(&heartbeat("c1"));
        world.books("B1", &[(5, r#","prev":"1:0:4""#)]);
        let (release, renew) = (world.request(), world.request());
        if is_answered {
            assert!(world.acks(&release).is_empty() && world.acks(&renew).is_empty());
        }
        assert_eq!(world.comes_back(), ["resyncing"]);
        let resume = world.request();
        assert_eq!(resume["cursor"], "c1");
        assert!(world.acks(&resume).is_empty());
        // Not while it is replayed: nobody would hear the end of that. Another break in it changes nothing.
        let replay: &[(u64, &str)] =
            &[(5, r#","prev":"1:0:4","replay":true"#), (9, r#","prev":"1:0:8","replay":true"#)];
        let replayed = world.books("B1", if is_answered { &replay[..1] } else { replay });
        assert_eq!(replayed, if is_answered { vec![] } else { vec!["gap B1 unannounced 5..8", "B1 9"] });
        world.collect();
        assert!(world.requests.is_empty());
        let done =
            json!({"op": "replay_done", "id": resume["id"], "channel": "book", "symbol": "B*", "seq": null});
        assert_eq!(world.says(&done.to_string()), ["live"]);
        let (release, renew) = (world.request(), world.request());
        assert_eq!((&release["op"], &renew["op"]), (&json!("unsubscribe"), &json!("subscribe")));
        assert!(world.requests.is_empty(), "once");
        assert!(world.acks(&release).is_empty() && world.acks(&renew).is_empty());
        let told = world.books("B1", &[(9, r#","snapshot":true"#), (10, r#","prev":"1:0:9""#)]);
        assert_eq!(told, ["resync B1", "B1 9", "B1 10"]);
        world.books("B2", &[(1, r#","snapshot":true"#)]);
        // It is over.
        world.comes_back();
        let resume = world.request();
        world.acks(&resume);
        assert_eq!(world.says(&done.to_string()), ["live"]);
        world.collect();
        assert!(world.requests.is_empty());
    }
}

/// A gateway told a gap, and the session ended before the state behind it; a pattern went on in place of a name, and its state was lost likewise.
/// The next session brought changes, into an empty book.
#[test]
fn changes_without_a_state_have_it_asked_for_once() {
    let asks = |world: &mut World| {
        world.collect();
        world
            .requests
            .drain(..)
            .map(|request| request["op"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    let renewal = ["unsubscribe", "subscribe"];
    // The gap comes in the session that goes on.
    let mut world = World::with(vec![Subscription::book(["A"])]);
    world.books("A", &[(1, r#","snapshot":true"#)]);
    world.says(
        r#"[{"type":"gap","symbol":"A","channel":"book","cause":"overload","after":"1:0:1","upto":"1:0:4"}]"#,
    );
    assert!(asks(&mut world).is_empty(), "the gateway sends it by itself");
    world.books("A", &[(5, r#","prev":"1:0:4""#), (6, r#","prev":"1:0:5""#)]);
    assert_eq!(asks(&mut world), renewal);
    // Of what never had a state it is the same, once nothing of it is replayed any more.
    let changes =
        [(5, r#","prev":"1:0:4","replay":true"#), (6, r#","prev":"1:0:5""#), (7, r#","prev":"1:0:6""#)];
    let mut world = World::with(vec![Subscription::book(["*"])]);
    world.says(&heartbeat("c1"));
    world.comes_back();
    let resume = world.request();
    world.acks(&resume);
    assert_eq!(world.books("A", &changes[..2]), ["A 5", "A 6"]);
    assert!(asks(&mut world).is_empty());
    let done =
        json!({"op": "replay_done", "id": resume["id"], "channel": "book", "symbol": "*", "seq": null});
    assert_eq!(world.says(&done.to_string()), ["live"]);
    assert_eq!(asks(&mut world), renewal);
    // Who has said where to go on has it from elsewhere.
    let mut world =
        World::with(vec![Subscription::book(["A"]).from_seq(Position { epoch: 1, partition: 0, offset: 4 })]);
    world.books("A", &changes);
    assert!(asks(&mut world).is_empty());
}

/// A cursor that came with a request stood for all that was held before, too, of whose books it knew nothing: they went on behind it.
#[test]
fn a_cursor_of_its_user_covers_nothing_else() {
    let mut world = World::with(vec![Subscription::book(["NEW", "*"])]);
    world.subscribes_from(Some("mine"), Subscription::trades(["T*"]));
    assert_eq!(world.comes_back(), ["resyncing", "gap * unannounced -..-", "gap NEW unannounced -..-"]);
    assert_eq!(world.request()["cursor"], "mine");
}

/// A book broke while its user's past of it was played. It was begun anew at once, so that the end of that past never came; and what was to
/// be the past alone went on live.
#[test]
fn a_book_that_breaks_in_its_past_is_asked_for_behind_it() {
    let from = Position { epoch: 1, partition: 0, offset: 0 };
    let asked = |begun: Subscription, name: &str, is_from_cursor: bool| {
        let mut world = World::with(vec![Subscription::book(["OTHER"])]);
        world.subscribes_from(is_from_cursor.then_some("c"), begun);
        let replay = [
            (1, r#","snapshot":true,"replay":true"#),
            (5, r#","prev":"1:0:4","replay":true"#),
            (9, r#","prev":"1:0:8","replay":true"#),
        ];
        let told = world.books("B", &replay);
        assert_eq!(told, ["B 1", "gap B unannounced 1..4", "B 5", "gap B unannounced 5..8", "B 9"]);
        world.collect();
        assert!(world.requests.is_empty(), "the past is still played");
        // The end of another one changes nothing.
        world.subscribes(Subscription::book(["C"]).from_seq(from));
        let done = |name: &str| {
            json!({"op": "replay_done", "id": 9, "channel": "book", "symbol": name, "seq": null}).to_string()
        };
        assert_eq!(world.says(&done("C")), ["done C"]);
        world.collect();
        assert!(world.requests.is_empty(), "the past is still played");
        assert_eq!(world.says(&done(name)), [format!("done {name}")]);
        world.collect();
        let asked: Vec<String> = world
            .requests
            .iter()
            .map(|request| format!("{} {}", request["op"].as_str().expect("text"), request["subscriptions"]))
            .collect();
        world.requests.clear();
        // It is said once.
        assert!(world.says(&done(name)).is_empty());
        world.collect();
        assert!(world.requests.is_empty(), "once");
        asked
    };
    let renewal = |name: &str| {
        let subscriptions = json!([{"channel": "book", "symbols": [name]}]);
        ["unsubscribe", "subscribe"].map(|op| format!("{op} {subscriptions}"))
    };
    assert_eq!(asked(Subscription::book(["B"]).from_seq(from), "B", false), renewal("B"));
    assert_eq!(asked(Subscription::book(["B"]), "B", true), renewal("B"));
    assert_eq!(asked(Subscription::book(["B*"]), "B*", true), renewal("B*"));
    // Of the past alone nothing goes on.
    assert!(asked(Subscription::book(["B"]).past(0, Some(5), None), "B", false).is_empty());
}

/// The same when the past is given up before its end, and a pattern goes on.
#[test]
fn a_book_that_broke_in_a_past_that_is_given_up_is_asked_for() {
    let mut world = World::with(vec![Subscription::book(["*"])]);
    world.books("OTHER", &[(1, r#","snapshot":true"#)]);
    world.subscribes_from(Some("c"), Subscription::book(["B"]));
    let replay = [(1, r#","snapshot":true,"replay":true"#), (5, r#","prev":"1:0:4","replay":true"#)];
    assert_eq!(world.books("B", &replay), ["B 1", "gap B unannounced 1..4", "B 5"]);
    assert!(world.gives_up(Channel::Book, "B").is_empty());
    let asked = [world.request(), world.request()];
    let asked = asked.map(|request| format!("{} {}", request["op"], request["subscriptions"][0]["symbols"]));
    assert_eq!(asked, [r#""unsubscribe" ["*"]"#, r#""subscribe" ["*"]"#]);
    assert!(world.requests.is_empty());
}
