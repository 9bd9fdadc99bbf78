use super::*;
use std::collections::BTreeSet;

const SEED: u64 = 7;

fn symbols(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("S{n}")).collect()
}

#[test]
fn the_same_seed_plans_the_same() {
    let plan = Plan { connections: 200, personas: "stalled=5%".parse().unwrap(), ..Plan::new("ws://x") };
    let clients = plan.clients(0, &symbols(100));
    assert_eq!(clients, plan.clients(0, &symbols(100)));
    assert_ne!(clients, Plan { seed: 2, ..plan.clone() }.clients(0, &symbols(100)));
    // One client more changes nothing about the choices of the others.
    let more = Plan { connections: 201, ..plan }.clients(0, &symbols(100));
    assert!(clients.iter().zip(&more).all(|(a, b)| a.pairs == b.pairs));
}

/// Two gateways and three processes: nobody twice, nobody left out, and everybody does what one process would let it do.
#[test]
fn processes_share_the_clients() {
    let alone = Plan { connections: 101, personas: "stalled=20%".parse().unwrap(), ..Plan::new("ws://a") };
    let plan = Plan {
        urls: vec!["ws://a".to_owned(), "ws://b".to_owned()],
        processes: 3,
        threads: 2,
        ..alone.clone()
    };
    let parts: Vec<_> = (0..3).map(|process| plan.clients(process, &symbols(50))).collect();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [34, 34, 33]);
    assert_eq!((0..3).map(|process| plan.connections_of(process)).collect::<Vec<_>>(), [34, 34, 33]);
    let mut clients = parts.concat();
    clients.sort_unstable_by_key(|client| client.index);
    assert_eq!(clients, alone.clients(0, &symbols(50)));
    // Every thread of every process has clients at both gateways: of 101, 8 or 9 each.
    let mut counts = std::collections::BTreeMap::new();
    for Place { gateway, process, thread } in (0..101).map(|index| plan.place(index)) {
        *counts.entry((gateway, process, thread)).or_insert(0) += 1;
    }
    assert!(counts.len() == 12 && counts.values().all(|count| (8..=9).contains(count)), "{counts:?}");
}

#[test]
fn symbols_follow_their_popularity() {
    let plan = Plan { connections: 5_000, symbols_per_client: 10, seed: SEED, ..Plan::new("ws://x") };
    let mut counts = vec![0usize; 500];
    for client in plan.clients(0, &symbols(500)) {
        let own: BTreeSet<u32> = client.pairs.iter().map(|(_, symbol)| *symbol).collect();
        assert_eq!(own.len(), 10, "different symbols, as many as asked for");
        assert!((0..3).all(|hot| own.contains(&hot)), "the hot ones are among them");
        own.iter().for_each(|symbol| counts[*symbol as usize] += 1);
    }
    // Rank 10 against rank 160: 16^0.85 is 10.6, a little less because nobody takes a symbol twice.
    let around = |rank: usize| counts[rank - 5..rank + 5].iter().sum::<usize>() as f64;
    let ratio = around(10) / around(160);
    assert!((7.0..14.0).contains(&ratio), "seed {SEED}: {ratio}");
    assert!(counts[400..].iter().sum::<usize>() > 500, "seed {SEED}: rare symbols are watched too");
}

#[test]
fn popularity_by_itself_is_exact() {
    let popularity = Popularity::new(4, 1.0);
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut counts = [0.0f64; 4];
    for _ in 0..50_000 {
        counts[popularity.one(&mut rng) as usize] += 1.0;
    }
    // 1, 1/2, 1/3, 1/4 add up to 25/12.
    for (rank, count) in counts.iter().enumerate() {
        let expected = 50_000.0 * 12.0 / 25.0 / (rank + 1) as f64;
        assert!((count / expected - 1.0).abs() < 0.03, "seed {SEED}: {counts:?}");
    }
}

#[test]
fn few_symbols_are_all_taken() {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut all = Popularity::new(40, 5.0).choose(100, 3, &mut rng);
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<_>>());
    assert!(Popularity::new(0, 1.0).choose(3, 3, &mut rng).is_empty());
}

#[test]
fn channels_follow_their_weights() {
    let mix: ChannelMix = "trades=1,quotes=3,book=0".parse().unwrap();
    assert_eq!(mix.channels().collect::<Vec<_>>(), [Channel::Trades, Channel::Quotes]);
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let trades = (0..10_000).filter(|_| mix.draw(&mut rng) == Channel::Trades).count();
    assert!((2_300..2_700).contains(&trades), "seed {SEED}: {trades}");
    for (text, fault) in [
        ("bars", "`bars` is no channel: there are trades, quotes, book and status"),
        ("trades=-1", "`-1` is no weight: expected a number, like trades=0.5"),
        ("trades,trades", "`trades` is named twice"),
        ("trades=0", "at least one channel needs a weight above 0"),
        ("", "at least one channel needs a weight above 0"),
    ] {
        assert_eq!(text.parse::<ChannelMix>().unwrap_err(), fault);
    }
}

#[test]
fn many_connections_take_several_source_addresses() {
    let loopback: SocketAddr = "127.0.0.1:9000".parse().unwrap();
    let plan = |connections| Plan { connections, ..Plan::new("ws://x") };
    assert_eq!(plan(20_000).source_address(5, loopback), None);
    let address = |index| plan(60_000).source_address(index, loopback).unwrap().to_string();
    assert_eq!([0, 1, 2, 3].map(address), ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2"]);
    assert_eq!(plan(60_000).source_address(0, "10.0.0.1:9000".parse().unwrap()), None);
}

#[test]
fn all_faults_at_once() {
    let plan = Plan {
        connections: 0,
        depth: 3,
        conflate_ms: 2_000,
        symbols: vec!["A*".to_owned(), "*A".to_owned()],
        ..Plan::new("ws://x")
    };
    assert_eq!(plan.check().unwrap_err().len(), 4);
    assert_eq!(Plan::new("ws://x").check(), Ok(()));
    let plan = Plan {
        urls: vec!["ws://x".to_owned(), "ws://x".to_owned()],
        processes: 6,
        gateway_pids: vec![1],
        ..Plan::new("")
    };
    assert_eq!(
        plan.check().unwrap_err(),
        [
            "`ws://x` is named twice",
            "1 processes of gateways are given, but 2 URLs: give one for each, or none",
            "10 connections are too few: each of 6 processes needs one to each of 2 gateways",
        ]
    );
}

#[test]
fn requests_carry_the_options_that_fit() {
    let plan = Plan { on_slow: Some(OnSlow::Conflate), conflate_ms: 50, depth: 5, ..Plan::new("ws://x") };
    let pairs = [(Channel::Book, 0), (Channel::Trades, 1), (Channel::Trades, 0)];
    let requests = plan.requests(&pairs, &symbols(2));
    assert_eq!(
        requests,
        [
            json!([{"channel": "trades", "symbols": ["S1", "S0"]}]),
            json!([{"channel": "book", "symbols": ["S0"], "on_slow": "conflate", "conflate_ms": 50, "depth": 5}]),
        ]
    );
    let many: Vec<_> = (0..1_201).map(|n| (Channel::Quotes, n)).collect();
    assert_eq!(plan.requests(&many, &symbols(1_201)).len(), 3);
}
