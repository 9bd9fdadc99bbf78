//! The Dockerfile, compose.yaml and what is in `deploy/`, held to the gateway that they deploy.
//!
//! Whether they are right for the tools that they are written for is looked at by `cargo xtask check`.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tickgate_gateway::admin::{Admin, AdminState, Token};
use tickgate_gateway::cli::{Cli, Command};
use tickgate_gateway::config::load::Sources;
use tickgate_gateway::config::{Config, ceiling};
use tickgate_gateway::feed::directory::Directory;
use tickgate_gateway::latency::LatencyWindow;
use tickgate_gateway::metrics::catalog::{self, Kind};
use tickgate_gateway::reload::InEffect;
use tickgate_gateway::stats::Board;

/// What the kernel keeps for an idle socket, rounded up; it counts it as the container's.
const SOCKET_BYTES: u64 = 5 << 10;
/// Where compose.yaml has a token.
const COMPOSED_TOKEN: &str = "/run/tickgate/token";
/// Stands for the token of the admin listener.
const TOKEN: &str = "a token of these tests";
/// What a pod should have left after its drain before it is killed, for the process itself to end.
const SPARE_MS: u64 = 5_000;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml<T: serde::de::DeserializeOwned>(path: &str) -> T {
    serde_norway::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn manifest(name: &str) -> Value {
    yaml(&format!("deploy/kubernetes/{name}.yaml"))
}

/// What is at `pointer`, which must be there.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"))
}

fn str_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_else(|| panic!("no text at {pointer}"))
}

fn u64_at(value: &Value, pointer: &str) -> u64 {
    at(value, pointer).as_u64().unwrap_or_else(|| panic!("no number at {pointer}"))
}

fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).as_array().unwrap_or_else(|| panic!("no list at {pointer}"))
}

/// The configuration of a pod.
fn pod_config() -> Config {
    let file = manifest("configmap");
    let sources = Sources::new().text("configmap.yaml", str_at(&file, "/data/tickgate.toml"));
    // What the Secret brings that pods do not start without.
    let container = container();
    let secret = at(&container, "/envFrom/0/secretRef");
    assert_eq!((str_at(secret, "/name"), secret.get("optional")), ("tickgate", None));
    let refused = Config::load(&sources).expect_err("the admin listener is open without it").to_string();
    assert!(refused.contains("admin_token"), "{refused}");
    let token = ("TICKGATE_ADMIN_TOKEN".into(), TOKEN.into());
    Config::load(&sources.environment([token])).unwrap_or_else(|errors| panic!("{errors}"))
}

fn pod() -> Value {
    at(&manifest("deployment"), "/spec/template/spec").clone()
}

fn container() -> Value {
    at(&pod(), "/containers/0").clone()
}

/// The number of a port of the container, by its name.
fn container_port(name: &str) -> u64 {
    let container = container();
    let mut ports = list_at(&container, "/ports").iter();
    let port = ports.find(|port| str_at(port, "/name") == name);
    u64_at(port.unwrap_or_else(|| panic!("no port {name}")), "/containerPort")
}

#[test]
fn everything_is_about_the_same_pods() {
    let deployment = manifest("deployment");
    let labels = at(&deployment, "/spec/template/metadata/labels");
    assert_eq!(at(&deployment, "/spec/selector/matchLabels"), labels);
    for (name, selector) in [
        ("service", "/spec/selector"),
        ("pdb", "/spec/selector/matchLabels"),
        ("networkpolicy", "/spec/podSelector/matchLabels"),
        ("podmonitor", "/spec/selector/matchLabels"),
    ] {
        assert_eq!(at(&manifest(name), selector), labels, "{name}");
    }
    let target = manifest("hpa");
    for key in ["apiVersion", "kind"] {
        assert_eq!(at(&target, &format!("/spec/scaleTargetRef/{key}")), &deployment[key]);
    }
    assert_eq!(at(&target, "/spec/scaleTargetRef/name"), at(&deployment, "/metadata/name"));
    // Else the autoscaler's number would be set back with each `apply`.
    assert_eq!(deployment.pointer("/spec/replicas"), None);
}

#[test]
fn pods_load_their_configuration_and_listen_where_they_are_asked() {
    let config = pod_config();
    for (address, port) in [(config.listen, "stream"), (config.admin, "admin")] {
        assert!(!address.ip().is_loopback(), "{port}: nobody reaches {address} from outside of the pod");
        assert_eq!(u64::from(address.port()), container_port(port), "{port}");
    }
    let (pod, container) = (pod(), container());
    let mount = str_at(&container, "/volumeMounts/0/mountPath");
    let file = format!("--config={mount}/tickgate.toml");
    assert_eq!(list_at(&container, "/args"), [Value::from("run"), Value::from(file)]);
    assert_eq!(at(&pod, "/volumes/0/name"), at(&container, "/volumeMounts/0/name"));
    assert_eq!(at(&pod, "/volumes/0/configMap/name"), at(&manifest("configmap"), "/metadata/name"));

    let service = manifest("service");
    assert_eq!(u64_at(&service, "/spec/ports/0/port"), container_port("stream"));
    assert_eq!(str_at(&service, "/spec/ports/0/targetPort"), "stream");
    // The first rule has no `from` and is for clients; the other one is for the monitoring only.
    let policy = manifest("networkpolicy");
    assert_eq!(str_at(&policy, "/spec/ingress/0/ports/0/port"), "stream");
    assert_eq!(str_at(&policy, "/spec/ingress/1/ports/0/port"), "admin");
    assert!(!list_at(&policy, "/spec/ingress/1/from").is_empty());
}

#[test]
fn what_is_probed_and_scraped_answers() {
    let admin = Admin::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let board = Arc::new(Board::new(0));
    let token = Token::new(pod_config().admin_access.secret().expect("it was checked"));
    let state = AdminState {
        config: InEffect::new(Arc::new(pod_config())),
        board,
        token,
        directory: Arc::new(Directory::new(0)),
        shards: Vec::new(),
        tls: None,
        log: None,
    };
    let admin = admin.spawn(state).expect("a thread");
    let status_with = |path: &str, headers: &str| {
        let mut socket = TcpStream::connect(admin.local_addr()).expect("it listens");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").expect("it takes a request");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer, then the end");
        answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status")
    };
    // Probes and the balancer bring no token, and need none.
    let status = |path: &str| status_with(path, "");

    let container = container();
    for (probe, expected) in [("startupProbe", 200), ("livenessProbe", 200), ("readinessProbe", 503)] {
        assert_eq!(str_at(&container, &format!("/{probe}/httpGet/port")), "admin", "{probe}");
        // Its feed has not started, so it is alive and not ready.
        assert_eq!(status(str_at(&container, &format!("/{probe}/httpGet/path"))), expected, "{probe}");
    }
    let monitor = manifest("podmonitor");
    let metrics = str_at(&monitor, "/spec/podMetricsEndpoints/0/path");
    let authorization = at(&monitor, "/spec/podMetricsEndpoints/0/authorization");
    assert_eq!(str_at(authorization, "/credentials/name"), "tickgate");
    assert_eq!(str_at(authorization, "/credentials/key"), "TICKGATE_ADMIN_TOKEN");
    let header = format!("Authorization: {} {TOKEN}\r\n", str_at(authorization, "/type"));
    assert_eq!((status(metrics), status_with(metrics, &header)), (401, 200));
    let haproxy = text("deploy/haproxy.cfg");
    let check = haproxy.lines().find_map(|line| line.trim().strip_prefix("http-check send meth GET uri "));
    assert_eq!(status(check.expect("a health check")), 503);
}

#[test]
fn pods_have_drained_before_they_are_killed() {
    let config = pod_config();
    let prestop_ms = 1_000 * u64_at(&container(), "/lifecycle/preStop/sleep/seconds");
    let needed_ms = prestop_ms + config.drain.spread_ms + config.drain.grace_ms + SPARE_MS;
    let given_ms = 1_000 * u64_at(&pod(), "/terminationGracePeriodSeconds");
    assert!(given_ms >= needed_ms, "killed after {given_ms} ms, but a drain may take {needed_ms} ms");
}

#[test]
fn pods_fit_into_what_they_request() {
    let config = pod_config();
    assert!(config.shards > 0, "else a shard for every processor of the machine");
    let container = container();
    let sockets = (config.limits.sessions_max + config.limits.handshakes_max) as u64 * SOCKET_BYTES;
    let needed = ceiling::sum(&ceiling::memory_ceiling(&config)) + sockets;
    let limit = gibibytes(str_at(&container, "/resources/limits/memory"));
    assert!(limit >= needed, "a limit of {limit} bytes, but a ceiling of {needed} with sockets");
    assert_eq!(at(&container, "/resources/requests/memory"), at(&container, "/resources/limits/memory"));
    let processors: u64 = str_at(&container, "/resources/requests/cpu").parse().expect("whole processors");
    assert_eq!(processors, config.shards as u64 + 1, "one for each shard and one for the feed");
    assert_eq!(container.pointer("/resources/limits/cpu"), None, "a limit pauses it within bursts");
}

fn gibibytes(quantity: &str) -> u64 {
    quantity.strip_suffix("Gi").and_then(|number| number.parse::<u64>().ok()).expect("so many Gi") << 30
}

#[test]
fn pods_may_do_nothing_that_they_do_not_need() {
    let pod = pod();
    for (pointer, expected) in [
        ("/automountServiceAccountToken", Value::from(false)),
        ("/enableServiceLinks", Value::from(false)),
        ("/securityContext/runAsNonRoot", Value::from(true)),
        ("/securityContext/seccompProfile/type", Value::from("RuntimeDefault")),
        ("/containers/0/securityContext/allowPrivilegeEscalation", Value::from(false)),
        ("/containers/0/securityContext/readOnlyRootFilesystem", Value::from(true)),
        ("/containers/0/securityContext/capabilities/drop/0", Value::from("ALL")),
    ] {
        assert_eq!(at(&pod, pointer), &expected, "{pointer}");
    }
    let user = u64_at(&pod, "/securityContext/runAsUser");
    assert!(text("Dockerfile").contains(&format!("\nUSER {user}:{user}\n")), "the image has another user");
}

#[test]
fn the_autoscaler_goes_by_metrics_that_there_are() {
    let hpa = manifest("hpa");
    let metrics = list_at(&hpa, "/spec/metrics");
    let [sessions, cpu] = metrics else { panic!("two metrics") };
    let name = str_at(sessions, "/pods/metric/name");
    let known = catalog::find(name).unwrap_or_else(|| panic!("there is no metric {name}"));
    assert_eq!(known.kind, Kind::Gauge, "{name}");
    let rule = format!("seriesQuery: {name}{{");
    assert!(text("deploy/kubernetes/hpa.yaml").contains(&rule), "the adapter's rule is about another metric");
    let target: usize = str_at(sessions, "/pods/target/averageValue").parse().expect("a number");
    assert_eq!(target, pod_config().limits.sessions_max * 7 / 10, "70 % of limits.sessions_max");
    assert_eq!(str_at(cpu, "/resource/name"), "cpu");
}

/// There is no schema of it where the others come from, so this is one, of the part that is used.
#[test]
fn the_pod_monitor_is_one() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct PodMonitor {
        api_version: String,
        kind: String,
        metadata: Metadata,
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Metadata {
        name: String,
        #[serde(rename = "labels")]
        _labels: BTreeMap<String, String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Spec {
        job_label: String,
        selector: Selector,
        pod_metrics_endpoints: Vec<Endpoint>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Selector {
        match_labels: BTreeMap<String, String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Endpoint {
        port: String,
        #[serde(rename = "path")]
        _path: String,
        interval: String,
        scrape_timeout: String,
        #[serde(rename = "authorization")]
        _authorization: Authorization,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Authorization {
        #[serde(rename = "type")]
        _kind: String,
        #[serde(rename = "credentials")]
        _credentials: Credentials,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Credentials {
        #[serde(rename = "name")]
        _name: String,
        #[serde(rename = "key")]
        _key: String,
    }

    let monitor: PodMonitor = yaml("deploy/kubernetes/podmonitor.yaml");
    assert_eq!(
        (monitor.api_version.as_str(), monitor.kind.as_str()),
        ("monitoring.coreos.com/v1", "PodMonitor")
    );
    assert!(!monitor.metadata.name.is_empty() && !monitor.spec.selector.match_labels.is_empty());
    let job = &monitor.spec.selector.match_labels[&monitor.spec.job_label];
    assert_eq!(job, "tickgate", "the job that alerts ask for");
    let [endpoint] = &monitor.spec.pod_metrics_endpoints[..] else { panic!("one endpoint") };
    container_port(&endpoint.port);
    let (interval_s, timeout_s) = (seconds(&endpoint.interval), seconds(&endpoint.scrape_timeout));
    assert!(timeout_s <= interval_s, "the operator refuses a time-out that is longer than the interval");
    assert!(interval_s * 1_000_000_000 <= LatencyWindow::LENGTH_NS, "quantiles would be missed");
}

fn seconds(duration: &str) -> u64 {
    duration.strip_suffix('s').and_then(|number| number.parse().ok()).expect("a duration in seconds")
}

/// A service of compose.yaml.
fn service(name: &str) -> Value {
    let compose: Value = yaml("compose.yaml");
    at(&compose, &format!("/services/{name}")).clone()
}

fn words(service: &Value) -> Vec<String> {
    list_at(service, "/command").iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// The configuration of the gateway in compose.yaml.
fn composed_config() -> Config {
    // In place of the one that compose makes.
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(token.path(), TOKEN).expect("it is written");
    let words = words(&service("gateway"));
    let files = words.iter().filter(|word| word.ends_with(COMPOSED_TOKEN)).count();
    assert_eq!(files, 1, "the admin listener needs a token");
    let words = words.iter().map(|word| word.replace(COMPOSED_TOKEN, &token.path().display().to_string()));
    let words = std::iter::once("tickgate".to_owned()).chain(words);
    let cli = Cli::read(words).unwrap_or_else(|(error, _)| panic!("{error}"));
    let Command::Run(args) = cli.command else { panic!("it runs") };
    args.load().unwrap_or_else(|errors| panic!("{errors}")).config
}

#[test]
fn the_composed_gateway_starts_and_is_reached() {
    let (config, gateway) = (composed_config(), service("gateway"));
    for (address, published) in [(config.listen, 0), (config.admin, 1)] {
        assert!(!address.ip().is_loopback(), "nobody reaches {address} from outside of the container");
        let port = address.port();
        assert_eq!(str_at(&gateway, &format!("/ports/{published}")), format!("127.0.0.1:{port}:{port}"));
        let exposed = text("Dockerfile").lines().any(|line| {
            line.strip_prefix("EXPOSE ").is_some_and(|ports| ports.split(' ').any(|p| p == port.to_string()))
        });
        assert!(exposed, "the Dockerfile does not expose {port}");
    }
    let given_ms = 1_000 * seconds(str_at(&gateway, "/stop_grace_period"));
    assert!(given_ms >= config.drain.spread_ms + config.drain.grace_ms + SPARE_MS);
    assert!(u64_at(&gateway, "/ulimits/nofile") > config.limits.sessions_max as u64);
}

#[test]
fn what_is_composed_finds_each_other() {
    let config = composed_config();
    let kafka = service("kafka");
    let advertised = format!("PLAINTEXT://{}", config.kafka.brokers);
    assert_eq!(str_at(&kafka, "/environment/KAFKA_ADVERTISED_LISTENERS"), advertised);
    let simulator = words(&service("simulator"));
    for word in [format!("--brokers={}", config.kafka.brokers), format!("--topic={}", config.feeds[0].topic)]
    {
        assert!(simulator.contains(&word), "the simulator lacks {word}");
    }
    let prometheus: Value = yaml("deploy/compose/prometheus.yml");
    let target = str_at(&prometheus, "/scrape_configs/0/static_configs/0/targets/0");
    assert_eq!(target, format!("gateway:{}", config.admin.port()));
    // Whoever makes the token gives it to both.
    assert_eq!(str_at(&prometheus, "/scrape_configs/0/authorization/credentials_file"), COMPOSED_TOKEN);
    assert!(words(&service("token")).iter().any(|word| word.contains(COMPOSED_TOKEN)));
    for name in ["token", "gateway", "prometheus"] {
        let service = service(name);
        let volumes = list_at(&service, "/volumes");
        let holds = |volume: &Value| volume.as_str().is_some_and(|v| v.starts_with("token:/run/tickgate"));
        assert!(volumes.iter().any(holds), "{name}");
    }
    let source: Value = yaml("deploy/compose/grafana/provisioning/datasources/prometheus.yml");
    assert_eq!(str_at(&source, "/datasources/0/url"), "http://prometheus:9090");
    let interval = str_at(&prometheus, "/global/scrape_interval");
    assert_eq!(str_at(&source, "/datasources/0/jsonData/timeInterval"), interval);
    assert!(seconds(interval) * 1_000_000_000 <= LatencyWindow::LENGTH_NS, "quantiles would be missed");

    // A folder that is not there is made by Docker, empty.
    let mut mounts = 0;
    for name in ["prometheus", "grafana"] {
        for volume in list_at(&service(name), "/volumes") {
            let source = volume.as_str().and_then(|volume| volume.split(':').next()).expect("a volume");
            if source.starts_with('.') {
                let path: PathBuf = repository().join(source);
                assert!(path.exists(), "{name} mounts {source}, which is not there");
                mounts += 1;
            }
        }
    }
    assert_eq!(mounts, 4, "the configurations of Prometheus and Grafana, the rules and the dashboards");
    // The rules are where Prometheus looks for them.
    let folder = "/etc/prometheus/tickgate";
    let mount = format!("./dashboards/prometheus:{folder}:ro");
    assert!(list_at(&service("prometheus"), "/volumes").iter().any(|volume| volume == mount.as_str()));
    let named = list_at(&prometheus, "/rule_files");
    for file in ["rules.yml", "alerts.yml"] {
        assert!(repository().join("dashboards/prometheus").join(file).is_file(), "{file}");
        let path = format!("{folder}/{file}");
        assert!(named.iter().any(|rules| rules == path.as_str()), "{path} is not loaded");
    }
    assert_eq!(named.len(), 2, "what else is named nobody has looked at");
    // Where Grafana looks for dashboards is where they are mounted.
    let provider: Value = yaml("deploy/compose/grafana/provisioning/dashboards/tickgate.yml");
    let folder = format!("./dashboards/grafana:{}:ro", str_at(&provider, "/providers/0/options/path"));
    assert!(list_at(&service("grafana"), "/volumes").iter().any(|volume| volume == folder.as_str()));
}

#[test]
fn images_are_built_by_the_compiler_of_the_repository() {
    let (dockerfile, toolchain) = (text("Dockerfile"), text("rust-toolchain.toml"));
    let pinned = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel");
    let used = dockerfile.lines().find_map(|line| line.strip_prefix("ARG RUST_VERSION=")).expect("a version");
    assert_eq!(used, pinned.trim_matches('"'));
    for name in ["gateway", "simulator"] {
        let service = service(name);
        let stage = format!("FROM runtime AS {}\n", str_at(&service, "/build/target"));
        assert!(dockerfile.contains(&stage), "{name}: no such stage");
        let tag = str_at(&service, "/image").rsplit(':').next().expect("a tag");
        assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{name}");
    }
    assert_eq!(str_at(&container(), "/image"), format!("tickgate:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_balancer_knows_the_gateways_defaults() {
    let config = Config::default();
    let haproxy = text("deploy/haproxy.cfg");
    let lines: Vec<&str> = haproxy.lines().map(str::trim).collect();
    let servers: Vec<&&str> = lines.iter().filter(|line| line.starts_with("server ")).collect();
    assert!(servers.len() > 1);
    for server in servers {
        assert!(server.ends_with(&format!(":{}", config.listen.port())), "{server}");
    }
    let defaults = lines.iter().find(|line| line.starts_with("default-server ")).expect("defaults");
    for expected in
        [format!(" port {} ", config.admin.port()), format!(" maxconn {}", config.limits.sessions_max)]
    {
        assert!(defaults.contains(&expected), "{expected} is missing in {defaults}");
    }
    // What waits longer for a word than a gateway takes between two heartbeats cuts nobody.
    let tunnel = lines.iter().find_map(|line| line.strip_prefix("timeout tunnel ")).expect("a time-out");
    let tunnel = humantime::parse_duration(tunnel).expect("a duration");
    assert!(tunnel.as_millis() as u64 > 10 * config.session.heartbeat_ms);
}
