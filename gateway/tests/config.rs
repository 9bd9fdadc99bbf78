//! Configuration through its public face: precedence, errors all at once, and text that loads as the same again.

use proptest::prelude::*;
use std::ffi::OsString;
use tickgate_gateway::config::load::{Loaded, Sources};
use tickgate_gateway::config::{Config, ConfigErrors, FeedConfig, example};

/// The file in the repository.
const EXAMPLE: &str = include_str!("../../tickgate.example.toml");

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Loads `file` with `variables` and `--set` assignments.
fn load(file: &str, variables: &[(&str, &str)], set: &[&str]) -> Result<Config, ConfigErrors> {
    let sources = Sources::new().text("gate.toml", file).environment(environment(variables));
    Config::load(&set.iter().fold(sources, |sources, assignment| sources.set(assignment)))
}

/// The errors of a load that must fail, one line each.
fn errors(file: &str, variables: &[(&str, &str)], set: &[&str]) -> Vec<String> {
    let errors = load(file, variables, set).expect_err("there are errors");
    errors.0.iter().map(ToString::to_string).collect()
}

/// Checks that a load fails with exactly these errors.
fn check_errors(file: &str, variables: &[(&str, &str)], set: &[&str], expected: &[&str]) {
    assert_eq!(errors(file, variables, set), expected);
}

#[test]
fn without_any_source_everything_is_default() {
    assert_eq!(load("", &[], &[]), Ok(Config::default()));
    assert_eq!(Config::default().check(), Ok(()));
}

#[test]
fn file_then_environment_then_flags() {
    let file =
        "listen = '127.0.0.1:1'\nadmin = '127.0.0.1:2'\n[outbox]\nbytes_max = '2MiB'\nage_max_ms = 700\n";
    let from_file = load(file, &[], &[]).expect("it is right");
    assert_eq!((from_file.outbox.bytes_max, from_file.outbox.age_max_ms), (2 << 20, 700));

    let variables =
        [("TICKGATE_LISTEN", "127.0.0.1:3"), ("TICKGATE_OUTBOX_BYTES_MAX", "3MiB"), ("HOME", "/x")];
    let with_environment = load(file, &variables, &[]).expect("it is right");
    assert_eq!(with_environment.outbox.bytes_max, 3 << 20);
    assert_eq!(with_environment.listen.port(), 3);
    assert_eq!(with_environment.admin.port(), 2);

    let with_flags =
        load(file, &variables, &["outbox.bytes_max=4MiB", "outbox.age_max_ms=1s"]).expect("it is right");
    assert_eq!((with_flags.outbox.bytes_max, with_flags.outbox.age_max_ms), (4 << 20, 1_000));
    assert_eq!(with_flags.listen.port(), 3);
}

#[test]
fn what_of_the_file_is_hidden_is_told_with_what_hides_it() {
    let file = "log = 'debug'\nlisten = '127.0.0.1:1'\nadmin = '127.0.0.1:2'\n[outbox]\nage_max_ms = 700\n\
        [[feeds]]\ntopic = 'x'\n[kafka.properties]\nclient.id = 'one'\n'socket.keepalive.enable' = true\n";
    let variables = [
        ("TICKGATE_LOG", "warn"),
        ("TICKGATE_LISTEN", "127.0.0.1:3"),
        ("TICKGATE_KAFKA_PROPERTIES_CLIENT_ID", "two"),
        // No other than in the file, and none that the file has.
        ("TICKGATE_ADMIN", "127.0.0.1:2"),
        ("TICKGATE_OUTBOX_BYTES_MAX", "3MiB"),
        ("TICKGATE_KAFKA_PROPERTIES_CLIENT_RACK", "r"),
    ];
    let sources = Sources::new().text("gate.toml", file).environment(environment(&variables));
    let loaded = Loaded::load(&sources.set("listen=127.0.0.1:4").topic("y")).expect("it is right");
    let hidden: Vec<String> = loaded.hidden.iter().map(|(path, by)| format!("{path} by {by}")).collect();
    let expected = [
        "feeds by --topic",
        "kafka.properties.client.id by environment TICKGATE_KAFKA_PROPERTIES_CLIENT_ID",
        "listen by --set",
        "log by environment TICKGATE_LOG",
    ];
    assert_eq!((hidden, loaded.has_file), (expected.map(str::to_owned).to_vec(), true));
    let loaded = Loaded::load(&Sources::new().environment(environment(&variables))).expect("it is right");
    assert_eq!((loaded.hidden, loaded.has_file), (vec![], false));
}

#[test]
fn every_error_is_reported_at_once_with_its_place() {
    check_errors(
        "lisen = '127.0.0.1:1'\n\n[outbox]\nbytes_max = true\nbyte_max = 5\nentries_max = 1\n[limits]\nsessions_max = -1\n\
         head_timeout_ms = 1.5\n[drain]\nspread_ms = 'soon'\n[kafka]\nbrokers = 'kafka'\nsymbols_max = 2000000000\n",
        &[("TICKGATE_SHARDS", "many"), ("TICKGATE_KAFKA__BROKERS", "a:1")],
        &["admin=here", "bytes_max=1", "drain.grace_ms"],
        &[
            "gate.toml:1: lisen: unknown key; did you mean `listen`?",
            "gate.toml:4: outbox.bytes_max: must be a whole number of bytes or a text as \"1MiB\", not `true`",
            "gate.toml:5: outbox.byte_max: unknown key; did you mean `outbox.bytes_max`?",
            "gate.toml:6: outbox.entries_max: must be 16 to 16777216 (events), not 1",
            "gate.toml:8: limits.sessions_max: must not be negative (sessions), not -1",
            "gate.toml:9: limits.head_timeout_ms: must be a whole number of milliseconds or a text as \"5s\", not a fraction",
            "gate.toml:11: drain.spread_ms: must be a time, a plain number or as \"500ms\", \"5s\" or \"2m\", not `soon`",
            "gate.toml:13: kafka.brokers: must be host:port separated by commas; `kafka` is not",
            "gate.toml:14: kafka.symbols_max: must be 1 to 10000000 (symbols), not 2000000000",
            "environment TICKGATE_KAFKA__BROKERS: unknown variable; did you mean TICKGATE_KAFKA_BROKERS?",
            "environment TICKGATE_SHARDS: shards: must be a whole number of threads, not `many`",
            "--set: admin: must be an IP address and a port, as \"127.0.0.1:8080\" or \"[::]:8080\", not `here`",
            "--set: bytes_max: unknown key; did you mean `outbox.bytes_max`?",
            "--set: drain.grace_ms: must be key=value",
        ],
    );
}

#[test]
fn relations_name_both_sides_and_where_they_were_set() {
    check_errors(
        "listen = '127.0.0.1:9090'\n[outbox]\nbytes_max = '32KiB'\nstall_timeout_ms = '2s'\n",
        &[("TICKGATE_OUTBOX_FRAME_BYTES_MAX", "64KiB")],
        &[],
        &[
            "gate.toml:3: outbox.bytes_max: outbox.write_bytes_max (64KiB) must not exceed outbox.bytes_max (32KiB): \
             one write cannot take more than the queue holds",
            "environment TICKGATE_OUTBOX_FRAME_BYTES_MAX: outbox.frame_bytes_max: outbox.frame_bytes_max (64KiB) must \
             not exceed outbox.bytes_max (32KiB, gate.toml:3): a frame is built from what the queue holds",
            "gate.toml:4: outbox.stall_timeout_ms: outbox.age_max_ms (5s) must not exceed outbox.stall_timeout_ms \
             (2s): `on_slow` would never act before the session ends",
            "gate.toml:1: listen: clients and admin cannot share 127.0.0.1:9090",
        ],
    );
    // Shards share the bounds over all sessions.
    check_errors(
        "shards = 4\n[outbox]\ntotal_bytes_max = '3MiB'\n[limits]\nsubscriptions_max = 9\nsubscriptions_total_max = 8\n",
        &[],
        &[],
        &[
            "gate.toml:3: outbox.total_bytes_max: outbox.bytes_max (1MiB) on each of 4 shards must not exceed \
             outbox.total_bytes_max (3MiB): one session could never fill its queue",
            "gate.toml:5: limits.subscriptions_max: limits.subscriptions_max (9) must not exceed \
             limits.subscriptions_total_max (8, gate.toml:6): one session could never hold so many",
        ],
    );
    // A key that is wrong by itself is not compared as well.
    check_errors(
        "[outbox]\nbytes_max = '1KiB'\n",
        &[],
        &[],
        &["gate.toml:2: outbox.bytes_max: must be 16KiB to 1GiB (bytes), not 1KiB"],
    );
}

#[test]
fn feeds_are_named_once_and_read_once() {
    let config = load(
        "[[feeds]]\ntopic = 'a'\nsilence_ms = '1m'\n[[feeds]]\ntopic = 'b'\nname = 'B'\noptional = true\n",
        &[],
        &[],
    );
    let feeds = config.expect("it is right").feeds;
    assert_eq!(feeds[0], FeedConfig { silence_ms: 60_000, ..FeedConfig::for_topic("a") });
    assert_eq!(feeds[1], FeedConfig { name: "B".to_owned(), optional: true, ..FeedConfig::for_topic("b") });

    check_errors(
        "[[feeds]]\ntopic = 'a'\n[[feeds]]\ntopic = 'a'\n[[feeds]]\ntopic = 'b'\nname = 'a'\n[kafka]\ndead_letter_topic = 'b'\n",
        &[],
        &[],
        &[
            "gate.toml:3: feeds[1].topic: `a` is read by feeds[0] already",
            "gate.toml:5: feeds[2].name: `a` is the name of feeds[0] already",
            "gate.toml:9: kafka.dead_letter_topic: `b` is read by feeds[2]: bad records would circle",
        ],
    );
    check_errors(
        "[[feeds]]\nsilence = 5\nsymbols = ['BTC*', 7]\n",
        &[],
        &[],
        &[
            "gate.toml:1: feeds[0].topic: is missing: a feed reads one",
            "gate.toml:2: feeds[0].silence: unknown key; did you mean `feeds[0].silence_ms`?",
            "gate.toml:3: feeds[0].symbols: a symbol is 1 to 64 bytes without `*` and control characters, `BTC*` is not",
        ],
    );
    check_errors("feeds = []", &[], &[], &["gate.toml:1: feeds: there must be one at least"]);
    check_errors(
        "feeds = 'ticks'",
        &[],
        &[],
        &["gate.toml:1: feeds: must be a list of tables, each `[[feeds]]`"],
    );
}

/// A list of those revoked that nobody was held against was taken without a word, and one that dead letters went to.
#[test]
fn a_topic_of_those_revoked_is_for_nothing_else() {
    check_errors(
        "[kafka]\ndead_letter_topic = 'revoked'\n[auth]\nrevocation_topic = 'revoked'\n",
        &[],
        &[],
        &[
            "gate.toml:4: auth.revocation_topic: is set, but nobody is asked: set auth.mode = \"required\", or take this out",
            "gate.toml:2: kafka.dead_letter_topic: `revoked` is auth.revocation_topic: bad records would say who is revoked",
        ],
    );
    check_errors(
        "[auth]\nrevocation_fail_open = true\n",
        &[],
        &[],
        &["gate.toml:2: auth.revocation_fail_open: is set without auth.revocation_topic"],
    );
}

#[test]
fn topics_choose_among_the_feeds_of_the_file() {
    let file = "[[feeds]]\ntopic = 'a'\nsilence_ms = 500\n[[feeds]]\ntopic = 'b'\n";
    let sources = |file: &str| Sources::new().text("gate.toml", file);
    let config = Config::load(&sources(file).topic("a,c")).expect("it is right");
    assert_eq!(
        config.feeds,
        [FeedConfig { silence_ms: 500, ..FeedConfig::for_topic("a") }, FeedConfig::for_topic("c")]
    );

    let config = load(file, &[("TICKGATE_TOPIC", "b")], &[]).expect("it is right");
    assert_eq!(config.feeds, [FeedConfig::for_topic("b")]);
    let config = load(file, &[("TICKGATE_FEEDS", "[{topic='x', optional=true}]")], &[]).expect("it is right");
    assert_eq!(config.feeds, [FeedConfig { optional: true, ..FeedConfig::for_topic("x") }]);

    let wrong = Config::load(&sources(file).topic("not a topic")).expect_err("it has spaces");
    assert!(wrong.to_string().contains("--topic: feeds: must be a Kafka topic"), "{wrong}");
    check_errors(
        "",
        &[("TICKGATE_FEEDS", "[{topic='x', optinal=true}]")],
        &[],
        &["environment TICKGATE_FEEDS: feeds[0].optinal: unknown key; did you mean `feeds[0].optional`?"],
    );
}

#[test]
fn properties_come_from_everywhere_and_secrets_are_masked() {
    let file = "[kafka.properties]\nsecurity.protocol = 'sasl_plaintext'\n'fetch.wait.max.ms' = 50\n'check.crcs' = true\n";
    let variables = [("TICKGATE_KAFKA_PROPERTIES_SASL_PASSWORD", "hunter2")];
    let set = ["kafka.properties.sasl.username=me", "kafka.properties.\"client.rack\"=a=b"];
    let config = load(file, &variables, &set).expect("it is right");
    let found: Vec<_> =
        config.kafka.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        found,
        [
            ("check.crcs", "true"),
            ("client.rack", "a=b"),
            ("fetch.wait.max.ms", "50"),
            ("sasl.password", "hunter2"),
            ("sasl.username", "me"),
            ("security.protocol", "sasl_plaintext"),
        ]
    );

    let shown = config.masked().to_toml();
    assert!(shown.contains(r#""sasl.username" = "me""#), "{shown}");
    assert!(shown.contains(r#""sasl.password" = "********""#), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    // It was once taken as a configuration whose password is stars.
    let refused = errors(&shown, &[], &[]);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].ends_with("kafka.properties.sasl.password: is masked, as in a configuration that was shown: set the secret itself"), "{refused:?}");
    let again = Sources::new().text("shown", &shown).set("kafka.properties.sasl.password=hunter2");
    assert_eq!(Config::load(&again), Ok(config.clone()));
    assert_eq!(Config::load(&Sources::new().text("whole", &config.to_toml())), Ok(config));

    check_errors(
        "[kafka.properties]\nbootstrap.servers = 'x:1'\n",
        &[],
        &[],
        &["gate.toml:2: kafka.properties.bootstrap.servers: is set by the gateway: set kafka.brokers"],
    );
}

/// A mistyped name was found by librdkafka only, after the check, and its words repeated the value.
#[test]
fn properties_are_checked_with_the_rest_and_their_values_never_shown() {
    check_errors(
        "[kafka.properties]\nfetch.wait.max.ms = 'hunter2'\n",
        &[],
        &["kafka.properties.sasl.pasword=hunter2"],
        &[
            "gate.toml:2: kafka.properties.fetch.wait.max.ms: is not set to a value that librdkafka takes for it",
            "--set: kafka.properties.sasl.pasword: is no property of librdkafka",
        ],
    );
}

#[test]
fn an_error_never_shows_a_secret() {
    let file = "[kafka.properties]\nsasl.password = ['hunter2']\n";
    let found = errors(file, &[("TICKGATE_SASL_PASSWORD", "hunter2")], &["kafka.property.password=hunter2"])
        .join("\n");
    assert!(!found.contains("hunter2"), "{found}");
}

#[test]
fn the_key_of_cursors_is_a_secret_from_a_key_or_a_file() {
    let secret = "sixteen bytes or more";
    let config = load("", &[("TICKGATE_REPLAY_CURSOR_KEY", secret)], &[]).expect("it is right");
    assert_eq!(config.replay.secret(), Ok(secret.as_bytes().to_vec()));
    assert!(!format!("{config:?}").contains(secret));
    let shown = config.masked().to_toml();
    assert!(shown.contains("cursor_key = \"********\"") && !shown.contains(secret), "{shown}");
    let refused = errors(&shown, &[], &[]);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(
        refused[0].ends_with(
            "replay.cursor_key: is masked, as in a configuration that was shown: set the secret itself"
        ),
        "{refused:?}"
    );
    assert_eq!(Config::load(&Sources::new().text("whole", &config.to_toml())), Ok(config));
    assert_eq!(Config::default().masked(), Config::default());

    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let from_file = |path: &str| load("", &[], &[&format!("replay.cursor_key_file={path}")]);
    let config = from_file(&path("key", &format!("{secret}\n"))).expect("it is right");
    assert_eq!(config.replay.secret(), Ok(secret.as_bytes().to_vec()));
    for (path, what) in [
        (path("short", "hunter2 "), "must hold a secret of 16 to 1024 bytes, not of 7"),
        (folder.path().join("none").display().to_string(), "cannot be read: "),
        ("/dev/zero".to_owned(), "must hold a secret of 16 to 1024 bytes, not of 2048"),
    ] {
        let error = from_file(&path).expect_err(what).to_string();
        assert!(error.contains(&format!("--set: replay.cursor_key_file: {what}")), "{error}");
    }
    check_errors(
        "[replay]\ncursor_key = 'hunter2'\n[limits]\nrequests_per_s = 0\n",
        &[],
        &[],
        &[
            "gate.toml:2: replay.cursor_key: must be empty or of 16 to 1024 bytes, not of 7",
            "gate.toml:4: limits.requests_per_s: must be 1 to 1000000 (requests), not 0",
        ],
    );
    check_errors(
        "[replay]\ncursor_key = 77777777\n",
        &[],
        &[],
        &["gate.toml:2: replay.cursor_key: must be text"],
    );
    let both = format!("[replay]\ncursor_key = '{secret}'\ncursor_key_file = 'x'\n");
    let twice = |line: u8, at: &str| {
        format!(
            "gate.toml:{line}: replay.cursor_key_file: is set beside replay.cursor_key ({at}): one of them is enough"
        )
    };
    check_errors(&both, &[], &[], &[&twice(3, "gate.toml:2")]);
    // The file alone was blamed, which named no secret that anybody could find in it.
    let file = "[replay]\ncursor_key_file = 'x'\n";
    let variable = "environment TICKGATE_REPLAY_CURSOR_KEY";
    check_errors(file, &[("TICKGATE_REPLAY_CURSOR_KEY", secret)], &[], &[&twice(2, variable)]);
}

#[test]
fn another_key_of_cursors_needs_one_that_signs() {
    let what = "is set without replay.cursor_key: cursors would be signed with no secret, and forged ones accepted; \
                set that, or take this one out";
    let other = "cursor_key_also = 'another of sixteen bytes'\n";
    let alone = format!("gate.toml:2: replay.cursor_key_also: {what}");
    check_errors(&format!("[replay]\n{other}"), &[], &[], &[&alone]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, "a secret of sixteen bytes or more").expect("written");
    let file = format!("replay.cursor_key_also_file={}", path.display());
    check_errors("", &[], &[&file], &[&format!("--set: replay.cursor_key_also_file: {what}")]);
    // With one that signs, from wherever it comes, both are right.
    for also in ["replay.cursor_key_also=another of sixteen bytes", &file] {
        for signs in
            ["replay.cursor_key=sixteen bytes or more", &format!("replay.cursor_key_file={}", path.display())]
        {
            assert!(load("", &[], &[also, signs]).is_ok(), "{also} {signs}");
        }
    }
    // What is wrong with the one that signs is said alone.
    let wrong = format!("[replay]\n{other}cursor_key = 'short'\n");
    let short = "gate.toml:3: replay.cursor_key: must be empty or of 16 to 1024 bytes, not of 5";
    check_errors(&wrong, &[], &[], &[short]);
}

#[test]
fn lists_and_other_shapes() {
    let config =
        load("[session]\nallowed_origins = ['https://a.example', 'http://b.example:81']\n", &[], &[]);
    assert_eq!(
        config.expect("it is right").session.allowed_origins,
        ["https://a.example", "http://b.example:81"]
    );
    let config = load("", &[("TICKGATE_SESSION_ALLOWED_ORIGINS", "https://a.example, null")], &[]);
    assert_eq!(config.expect("it is right").session.allowed_origins, ["https://a.example", "null"]);
    check_errors(
        "outbox = 5\nkafka.brokers = ['a:1']\n",
        &[],
        &["session.allowed_origins=https://a.example/"],
        &[
            "gate.toml:1: outbox: must be a section, `[outbox]`",
            "gate.toml:2: kafka.brokers: must be text, not a list",
            "--set: session.allowed_origins: an origin is scheme://host[:port] in lower case without a path, \
             as \"https://example.com\", or \"*\" for all; `https://a.example/` is not",
        ],
    );
}

#[test]
fn others_than_this_machine_need_a_token_to_ask_the_admin_listener() {
    let open = "gate.toml:1: admin: 0.0.0.0:9090 is reached by others, and shows them clients and limits: set \
                admin_token_file or admin_token, or stay on 127.0.0.1";
    check_errors("admin = '0.0.0.0:9090'\n", &[], &[], &[open]);
    for loopback in ["127.0.0.1:0", "127.0.0.9:1", "[::1]:9090"] {
        assert!(load(&format!("admin = '{loopback}'\n"), &[], &[]).is_ok(), "{loopback}");
    }
    let secret = "sixteen bytes or more";
    let config =
        load("admin = '[::]:9090'\n", &[("TICKGATE_ADMIN_TOKEN", secret)], &[]).expect("it is right");
    assert_eq!(config.admin_access.secret(), Ok(secret.as_bytes().to_vec()));
    assert!(!format!("{config:?}{}", config.masked().to_toml()).contains(secret));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{secret}\n")).expect("it is written");
    let named = format!("admin_token_file={}", file.path().display());
    let config = load("admin = '0.0.0.0:9090'\n", &[], &[&named]).expect("it is right");
    assert_eq!(config.admin_access.secret(), Ok(secret.as_bytes().to_vec()));
    assert_eq!(errors("admin_token = 'guess'\n", &[], &[]).len(), 1);
    assert_eq!(errors(&format!("admin_token = '{secret}'\n"), &[], &[&named]).len(), 1, "one is enough");
    let missing = errors("admin = '0.0.0.0:9090'\nadmin_token_file = '/no such file'\n", &[], &[]);
    assert!(missing.len() == 1 && missing[0].contains("admin_token_file: cannot be read"), "{missing:?}");
}

#[test]
fn proxies_are_believed_by_their_networks() {
    let right = "[proxies]\nprotocol = 'v2'\ntrusted = ['10.0.0.0/8', '::1']\n";
    assert_eq!(load(right, &[], &[]).expect("it is right").proxies.trusted, ["10.0.0.0/8", "::1"]);
    for (wrong, expected) in [
        (
            "protocol = 'v2'",
            "gate.toml:2: proxies.protocol: is believed of nobody: name their networks in proxies.trusted",
        ),
        (
            "trusted = ['::1']",
            "gate.toml:2: proxies.trusted: is not used: set proxies.protocol to what they speak",
        ),
        (
            "protocol = 'v1'",
            "gate.toml:2: proxies.protocol: must be \"none\", \"x-forwarded-for\" or \"v2\", not `v1`",
        ),
        (
            "trusted = ['10.0.0.1/8']",
            "gate.toml:2: proxies.trusted: `10.0.0.1/8` names one of its addresses: write 10.0.0.0/8 for all of them",
        ),
    ] {
        check_errors(&format!("[proxies]\n{wrong}\n"), &[], &[], &[expected]);
    }
}

#[test]
fn a_file_that_is_no_toml_says_where_and_a_missing_one_which() {
    let found = errors("listen = '127.0.0.1:1'\nadmin = \n[outbox\n", &[], &[]);
    assert!(found[0].starts_with("gate.toml:2: ") && found[1].starts_with("gate.toml:3: "), "{found:?}");
    let found = errors("listen = '127.0.0.1:1'\nlisten = '127.0.0.1:2'\n", &[], &[]);
    assert!(found[0].starts_with("gate.toml:2: duplicate key"), "{found:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.toml");
    let error = Config::load(&Sources::new().file(&path)).expect_err("it does not exist").to_string();
    assert!(error.contains("none.toml: cannot be read"), "{error}");

    let path = folder.path().join("gate.toml");
    std::fs::write(&path, "shards = 3").expect("written");
    let from_variable = Sources::new().environment([("TICKGATE_CONFIG".into(), path.clone().into())]);
    assert_eq!(Config::load(&from_variable).expect("it is right").shards, 3);
    let flag_wins = Sources::new().file(&path).environment(environment(&[("TICKGATE_CONFIG", "/nowhere")]));
    assert_eq!(Config::load(&flag_wins).expect("it is right").shards, 3);
}

#[test]
fn variables_of_others_are_left_alone_and_typing_errors_are_not() {
    assert!(load("", &[("TICKGATE_LOG", "debug"), ("TICKGATE_TEST_X", "1"), ("PATH", "/bin")], &[]).is_ok());
    assert!(load("", &[("TICKGATE_BROKER_LOG", "debug")], &[]).is_ok());
    // What a container finds beside a Service named `tickgate`.
    for (name, value) in [
        ("TICKGATE_SERVICE_HOST", "10.0.0.7"),
        ("TICKGATE_SERVICE_PORT", "8080"),
        ("TICKGATE_SERVICE_PORT_STREAM", "8080"),
        ("TICKGATE_PORT", "tcp://10.0.0.7:8080"),
        ("TICKGATE_PORT_8080_TCP", "tcp://10.0.0.7:8080"),
        ("TICKGATE_PORT_8080_TCP_ADDR", "10.0.0.7"),
        ("TICKGATE_WS_SERVICE_HOST", "10.0.0.8"),
    ] {
        assert!(load("", &[(name, value)], &[]).is_ok(), "{name}");
    }
    for (name, expected) in [
        ("TICKGATE_LISEN", "unknown variable; did you mean TICKGATE_LISTEN?"),
        ("TICKGATE_BROKERS", "unknown variable; did you mean TICKGATE_KAFKA_BROKERS?"),
        ("TICKGATE_TOPICS", "unknown variable; did you mean TICKGATE_TOPIC?"),
        ("TICKGATE_QUITE_SOMETHING_ELSE", "unknown variable"),
        ("TICKGATE_PORT", "unknown variable"),
    ] {
        check_errors("", &[(name, "1")], &[], &[&format!("environment {name}: {expected}")]);
    }
}

/// The example is generated from the table of keys; `TICKGATE_TEST_BLESS=1 cargo test -p tickgate-gateway --test config`
/// writes it anew after a key changed.
#[test]
fn the_example_is_what_the_keys_say() {
    if std::env::var_os("TICKGATE_TEST_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tickgate.example.toml");
        std::fs::write(path, example()).expect("the repository can be written");
        return;
    }
    assert_eq!(EXAMPLE, example(), "run the test once with TICKGATE_TEST_BLESS=1");
}

#[test]
fn the_example_holds_every_key_once_and_is_the_default() {
    assert_eq!(Config::load(&Sources::new().text("tickgate.example.toml", EXAMPLE)), Ok(Config::default()));
    let assignments: Vec<&str> =
        EXAMPLE.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).collect();
    // As a table, the default has every key that can be set, but none of the properties, which have no closed list.
    let table = Config::default().to_table();
    let mut keys = 0;
    for (name, value) in &table {
        match value {
            toml::Value::Table(section) => {
                keys += section.iter().filter(|(_, value)| !value.is_table()).count();
                assert_eq!(EXAMPLE.lines().filter(|line| *line == format!("[{name}]")).count(), 1, "{name}");
            }
            toml::Value::Array(feeds) => keys += feeds[0].as_table().expect("a feed is a table").len(),
            _ => keys += 1,
        }
    }
    assert_eq!(assignments.len(), keys, "{assignments:#?}");
    for line in EXAMPLE.lines() {
        assert!(line.len() <= 110, "{line}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_loads_as_the_same(
        sessions_max in 1..1_000_000usize,
        bytes_max in (1usize << 20)..(1 << 30),
        age_max_ms in 100..60_000u64,
        name in "[a-zA-Z0-9 äöü\"'\\\\]{1,20}",
        symbols in prop::collection::vec("[A-Z0-9./\"-]{1,12}", 0..5),
        values in prop::collection::btree_map("client\\.id|client\\.rack|sasl\\.username|sasl\\.password", "\\PC{1,20}", 0..4),
        optional in any::<bool>(),
    ) {
        let mut config = Config::default();
        config.limits.sessions_max = sessions_max;
        config.outbox.bytes_max = bytes_max;
        config.outbox.total_bytes_max = 256 << 30;
        config.outbox.age_max_ms = age_max_ms;
        config.kafka.properties = values;
        config.feeds = vec![FeedConfig { name, symbols, optional, ..FeedConfig::for_topic("t") }];
        let text = config.to_toml();
        prop_assert_eq!(Config::load(&Sources::new().text("printed", &text)), Ok(config), "{}", text);
    }

    #[test]
    fn nothing_that_is_typed_makes_it_panic(
        file in "\\PC{0,80}",
        key in "[a-z_.\\[\\]0-9]{0,30}",
        value in "\\PC{0,30}",
        variable in "TICKGATE_[A-Z_]{0,20}",
    ) {
        let sources = Sources::new().text("gate.toml", &file).environment([((&variable).into(), (&value).into())]);
        let _ = Config::load(&sources.set(&format!("{key}={value}")).topic(&value));
    }
}
