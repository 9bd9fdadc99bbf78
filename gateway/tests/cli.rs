//! The command line of the real binary: what it prints where, and what it exits with.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output};

fn tickgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickgate"))
        .args(arguments)
        .env_remove("TICKGATE_CONFIG")
        .output()
        .expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Nothing listens there: what these tests start must fail before it reads anything.
const NOWHERE: &str = "127.0.0.1:1";

#[test]
fn help_and_version_go_to_standard_output() {
    for (arguments, expected) in [
        (&["--help"][..], "Usage: tickgate <COMMAND>"),
        (&["run", "--help"], "--print-config"),
        (&["demo", "--help"], "--clients"),
        (&["top", "--help"], "--token-file"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let output = tickgate(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains(expected), "{arguments:?}: {}", text(&output.stdout));
        assert!(output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn what_is_not_understood_exits_with_64() {
    for arguments in [&[][..], &["serve"], &["run", "--port", "1"], &["demo", "--for", "never"]] {
        let output = tickgate(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn every_error_of_the_configuration_is_listed_at_once() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"listen = \"nowhere\"\n[limits]\nsession_max = 5\n[outbox]\nbytes_max = \"many\"\n")
        .expect("written");
    let path = file.path().to_str().expect("a path");
    let output = Command::new(env!("CARGO_BIN_EXE_tickgate"))
        .args(["run", "--config", path, "--set", "drain.spread_ms=-1", "--brokers", "nobody"])
        .env("TICKGATE_KAFKA_REFRESH_MS", "soon")
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(64));
    let errors = text(&output.stderr);
    for expected in [
        "listen",
        "limits.session_max: unknown key; did you mean `limits.sessions_max`?",
        "outbox.bytes_max",
        "drain.spread_ms",
        "kafka.brokers",
        "kafka.refresh_ms",
        "TICKGATE_KAFKA_REFRESH_MS",
    ] {
        assert!(errors.contains(expected), "{expected} is missing:\n{errors}");
    }
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_the_configuration() {
    let output = tickgate(&["run", "--config", "/nowhere/tickgate.toml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("/nowhere/tickgate.toml"), "{}", text(&output.stderr));
}

#[test]
fn print_config_shows_what_is_in_effect_without_secrets() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"[kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\"client.id\" = \"mine\"\n")
        .expect("written");
    let path = file.path().to_str().expect("a path");
    let arguments = ["run", "--config", path, "--brokers", "k1:9092", "--topic", "t", "--print-config"];
    let output = tickgate(&arguments);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    let table: toml::Table = printed.parse().expect("TOML");
    assert_eq!(table["kafka"]["brokers"].as_str(), Some("k1:9092"));
    assert_eq!(table["kafka"]["properties"]["client.id"].as_str(), Some("mine"));
    assert_eq!(table["feeds"][0]["topic"].as_str(), Some("t"));
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    // What it prints can be loaded again, with the secrets that it does not show.
    let again = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(again.path(), &printed).expect("written");
    let again = again.path().to_str().expect("a path");
    let output = tickgate(&["run", "--config", again, "--print-config"]);
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    let secret = "kafka.properties.sasl.password=hunter2";
    let output = tickgate(&["run", "--config", again, "--set", secret, "--print-config"]);
    assert_eq!(text(&output.stdout), printed);
}

/// Whether its sockets share the port among shards or not: a second gateway must not take the first one's clients.
#[test]
fn a_busy_port_is_named() {
    let busy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let shared = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    shared.set_reuse_port(true).expect("an option");
    shared
        .bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into())
        .expect("a free port");
    shared.listen(1).expect("it listens");
    let shared_address = shared.local_addr().expect("bound").as_socket().expect("an address").to_string();
    let address = busy.local_addr().expect("bound").to_string();
    for shards in ["shards=1", "shards=2"] {
        for (flag, other, address) in [
            ("--listen", "--admin", &address),
            ("--listen", "--admin", &shared_address),
            ("--admin", "--listen", &address),
        ] {
            let arguments =
                ["run", "--brokers", NOWHERE, flag, address, other, "127.0.0.1:0", "--set", shards];
            let output = tickgate(&arguments);
            let errors = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
            let line = errors.lines().last().expect("a line");
            assert!(line.contains(address.as_str()) && line.contains(flag), "it says what to change: {line}");
        }
    }
}

#[test]
fn a_gateway_that_is_not_there_cannot_be_watched_and_it_says_what_to_do() {
    let output = tickgate(&["top", "--admin", NOWHERE]);
    assert_eq!(output.status.code(), Some(69));
    let errors = text(&output.stderr);
    assert!(output.stdout.is_empty() && errors.contains("127.0.0.1:1: Connection refused"), "{errors}");
    assert!(errors.lines().nth(1).is_some_and(|hint| hint.contains("--admin")), "{errors}");
}
