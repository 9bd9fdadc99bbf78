//! Clocks that are compared by asking the gateway for its time.

use super::*;

/// The gateway is asked at `sent_ns` and says what time it is; the answer comes at 1500.
fn asks_time(world: &mut World, sent_ns: i64, now_ns: i64) {
    world.session.ping(sent_ns);
    let ping = world.request();
    assert_eq!(ping["op"], "ping");
    let pong = json!({"op": "pong", "id": ping["id"], "now_ns": now_ns.to_string()});
    assert!(world.says(&pong.to_string()).is_empty());
}

/// The client went to another gateway, and for its next messages the clock of the one before, which it no longer spoke to, still counted.
#[test]
fn clocks_are_compared_anew_with_another_gateway() {
    let mut world = World::with(vec![]);
    asks_time(&mut world, 1300, 9000);
    world.session.ping(1400);
    let late = world.request();
    world.comes_back();
    assert_eq!(world.session.skew(), None);
    // Nobody asked this one.
    world.says(&json!({"op": "pong", "id": late["id"], "now_ns": "9000"}).to_string());
    assert_eq!(world.session.skew(), None);
    asks_time(&mut world, 1100, 200);
    assert_eq!(world.session.skew(), Some(Skew { round_trip_ns: 400, skew_ns: -1100 }));
}

/// Of the last eight round trips the quickest one says most; what came while the clock here was set says nothing.
#[test]
fn clocks_are_compared() {
    let mut world = World::with(vec![]);
    assert_eq!((world.session.skew(), world.session.silence()), (None, Some(Duration::from_secs(11))));
    asks_time(&mut world, 1300, 2000);
    assert_eq!(world.session.skew(), Some(Skew { round_trip_ns: 200, skew_ns: 600 }));
    asks_time(&mut world, 1400, 2000);
    asks_time(&mut world, 1000, 2000);
    asks_time(&mut world, 1501, 9000);
    let best = Skew { round_trip_ns: 100, skew_ns: 550 };
    assert_eq!(world.session.skew(), Some(best));
    (0..6).for_each(|_| asks_time(&mut world, 1200, 2000));
    assert_eq!(world.session.skew(), Some(best));
    asks_time(&mut world, 1200, 2000);
    assert_eq!(world.session.skew(), Some(Skew { round_trip_ns: 300, skew_ns: 650 }));
    // What was asked and never answered takes no more room.
    (0..1_000).for_each(|_| world.session.ping(1));
    world.collect();
    world.requests.clear();
    asks_time(&mut world, 1400, 2000);
    assert_eq!(world.session.skew(), Some(best));
}

/// The ping of a session went out behind all that was resumed: before its answer everything that was replayed came, by clocks that nobody
/// had compared.
#[test]
fn the_time_is_asked_for_before_anything_is_resumed() {
    let mut world = World::with(vec![Subscription::trades(["A"]), Subscription::book(["B"])]);
    world.says(&heartbeat("c1"));
    assert_eq!(world.comes_back(), ["resyncing"]);
    world.session.ping(1400);
    let ops = [world.request(), world.request(), world.request()].map(|request| request["op"].clone());
    assert_eq!(ops, ["ping", "subscribe", "subscribe"]);
}

/// A ping that came too fast for the gateway was told as if its user had asked for something.
#[test]
fn a_ping_that_is_refused_is_nobodys_business() {
    let mut world = World::with(vec![]);
    let slower = |id: &Value| {
        json!({"op": "error", "id": id, "code": "rate_limited", "number": 4429, "message": "slower", "fatal": false, "retry_after_ms": 70})
            .to_string()
    };
    world.session.ping(1400);
    let ping = world.request();
    assert!(world.says(&slower(&ping["id"])).is_empty());
    assert_eq!(world.session.out.again_after, None);
    // It was given up, and whatever else is said under its number is told.
    assert_eq!(world.says(&slower(&ping["id"])), ["rate_limited -"]);
    asks_time(&mut world, 1400, 2000);
    assert_eq!(world.session.skew(), Some(Skew { round_trip_ns: 100, skew_ns: 550 }));
}
