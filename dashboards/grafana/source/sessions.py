"""Who is here, who was not let in, who had to go; and how near the limits are."""

from parts import GREEN, RED, YELLOW, bars, board, lines, number, of, total, within_range

def stats():
    yield number(
        "Clients",
        "Open sessions over all gateways. Half of the gateways should be able to take all of them.",
        "none",
        [(f"sum ({of('tickgate_sessions_open')})", "sessions")],
    )
    yield number(
        "Sessions, of the limit",
        "Open sessions of `limits.sessions_max`, on the fullest gateway. At 100 % newcomers get 503: balance better, add gateways, or raise it (the "
        "memory ceiling grows with it).",
        "percentunit",
        [(f"max (sum by (instance) ({of('tickgate_sessions_open')}) / on (instance) {of('tickgate_limit_sessions')})", "full")],
        [(0.8, YELLOW), (0.95, RED)],
        decimals=1,
    )
    yield number(
        "Refused",
        "Connections refused before they became a session, in the time shown; by reason below.",
        "none",
        [(within_range("tickgate_connections_refused_total"), "connections")],
        [(1, YELLOW), (10000, RED)],
        decimals=0,
        instant=True,
    )
    yield number(
        "Ended as too slow",
        "Sessions ended because they read too slowly, took nothing for too long, or were the largest when all slow ones together held too much "
        "(*pressure*), in the time shown. `/sessions?top=20` names who is slow now.",
        "none",
        [
            (within_range("tickgate_sessions_closed_total", 'reason=~"slow_consumer|stalled"'), "ended"),
            (within_range("tickgate_sessions_pressure_closed_total"), "pressure"),
        ],
        [(1, YELLOW), (100, RED)],
        decimals=0,
        instant=True,
    )
    yield number(
        "Not believed",
        "Tokens and API keys that were not believed, in the time shown; by reason below. After a change of keys: clients with old ones. All at once and "
        "*unknown_key*: the issuer's keys cannot be fetched.",
        "none",
        [(within_range("tickgate_auth_refused_total"), "credentials")],
        [(1, YELLOW), (1000, RED)],
        decimals=0,
        instant=True,
    )
    expires = of("tickgate_tls_certificate_expires_timestamp_seconds")
    yield number(
        "Certificate",
        "Time left of the certificate that runs out first. Under 14 days: whatever renews it has failed; replace the files, and they are read "
        "without a restart.",
        "s",
        [(f"min ({expires} - timestamp({expires}))", "left")],
        ([(86400, YELLOW), (14 * 86400, GREEN)], RED),
        empty="no TLS",
    )


def first():
    yield lines(
        "Open sessions",
        "Open sessions, by encoding and by shard, and those that get delayed data. Shards should have about the same: the kernel spreads them. Beside them "
        "connections that have not shown yet who they are.",
        "none",
        [
            (f"sum by (encoding) ({of('tickgate_sessions_encoding_open')})", "{{encoding}}"),
            (f"sum by (instance, shard) ({of('tickgate_sessions_open')})", "shard {{shard}} of {{instance}}"),
            (f"sum ({of('tickgate_auth_pending')})", "not shown who they are"),
        ],
        table=True,
    )
    yield lines(
        "Opened and ended",
        "Sessions that began and ended a second. Both high for long: clients that come back again and again; see why they end, next.",
        "eps",
        [
            (total("tickgate_sessions_opened_total"), "opened"),
            (total("tickgate_sessions_closed_total"), "ended"),
            (total("tickgate_connections_refused_total"), "refused"),
        ],
    )
    yield lines(
        "Ended, by reason",
        "Sessions that ended a second, by reason. *rate_limited*, *protocol*, *too_big*, *pings*, *unfinished*: a client that does wrong; "
        "*reading_full*: `limits.reading_bytes_total_max`; *panic*: a fault of ours. What each means is in the gateway's README.",
        "eps",
        [(total("tickgate_sessions_closed_total", "reason"), "{{reason}}")],
        table=True,
    )
    yield lines(
        "Refused, by reason",
        "Connections refused a second, by reason. *sessions_max*: full; *address_…* and *rate*: one address, or everybody at once; *displaced*: too many "
        "handshakes half done; *draining*: a load balancer that has not noticed; *unauthenticated*: see *Who they are*.",
        "eps",
        [(total("tickgate_connections_refused_total", "reason"), "{{reason}}")],
        table=True,
    )


def second():
    yield lines(
        "Requests",
        "Requests of clients a second, those answered with an error, subscriptions that were forbidden, and sessions that were ended for breaking "
        "the protocol, by how. Errors after a release of a client are its own; violations may be somebody who tries things.",
        "reqps",
        [
            (total("tickgate_requests_read_total"), "read"),
            (total("tickgate_requests_failed_total"), "failed"),
            (total("tickgate_subscriptions_forbidden_total"), "forbidden"),
            (total("tickgate_violations_total", "cause"), "violation: {{cause}}"),
        ],
        table=True,
    )
    yield lines(
        "Who they are",
        "Credentials believed a second by kind, and not believed by reason. *expired* and *not_yet* on all clients: this machine's clock. *unknown_key*, "
        "*signature*: keys of the issuer; see how many are in effect and whether fetches fail.",
        "eps",
        [
            (total("tickgate_auth_accepted_total", "way"), "{{way}}"),
            (total("tickgate_auth_refused_total", "reason"), "refused: {{reason}}"),
            (total("tickgate_auth_keys_fetches_total", "result"), "keys fetched: {{result}}"),
            (total("tickgate_auth_revocation_records_total", "result"), "revocations: {{result}}"),
            (f"min ({of('tickgate_auth_keys_fetched')})", "keys in effect (number)"),
            (f"max ({of('tickgate_auth_revoked_entries')})", "revoked (number)"),
            (f"max ({of('tickgate_auth_revoked_lines_unread')})", "revoked, not understood (number)"),
        ],
        table=True,
    )
    yield lines(
        "TLS",
        "TLS handshakes a second: whole ones cost a millisecond of a processor, resumed ones a fifth. Failed ones by reason: *certificate*, *refused*: whom "
        "they trust; *not_tls*: plain clients on this port. And whether replaced certificate files were taken over.",
        "eps",
        [
            (total("tickgate_tls_handshakes_total", "kind"), "{{kind}}"),
            (total("tickgate_tls_handshakes_failed_total", "reason"), "failed: {{reason}}"),
            (total("tickgate_tls_certificate_reloads_total", "result"), "certificate: {{result}}"),
        ],
        table=True,
    )
    yield bars(
        "Limits in use",
        "What is used of each limit, on the gateway that is nearest to it. At 100 % what is new is refused, and its client told why. From 80 % "
        "on: raise it (`/config` shows all; the memory ceiling grows with most), or spread the load.",
        "percentunit",
        list(limits()),
        [(0.8, YELLOW), (0.95, RED)],
        top=1,
    )


def limits():
    def of_limit(used, limit):
        return f"max (sum by (instance) ({of(used)}) / on (instance) {of(limit)})"

    yield of_limit("tickgate_sessions_open", "tickgate_limit_sessions"), "sessions"
    yield of_limit("tickgate_subscriptions_held", "tickgate_limit_subscriptions_all"), "subscriptions"
    yield of_limit("tickgate_feed_symbols_known", "tickgate_limit_symbols"), "symbols"
    yield of_limit("tickgate_feed_book_levels_kept", "tickgate_limit_book_levels"), "book levels"
    yield of_limit("tickgate_outbox_held_bytes", "tickgate_limit_outbox_all_bytes"), "slow sessions' bytes"
    yield of_limit("tickgate_requests_reading_bytes", "tickgate_limit_reading_bytes"), "requests' bytes"
    yield of_limit("tickgate_auth_pending", "tickgate_limit_auth_pending"), "not shown who"
    yield of_limit("tickgate_replays_parts_waiting", "tickgate_limit_replays_parts_waiting"), "replays waiting"
    yield of_limit("tickgate_replays_parts_reading", "tickgate_limit_replays_parts_reading"), "replay readers"
    yield of_limit("process_open_fds", "process_max_fds"), "open files"


def third():
    yield lines(
        "Replays under way",
        "Clients that are given what they missed, or the past, and the parts of Kafka that wait for a reader or are being read. Many waiting "
        "for long: more `replay.consumers_max`, or more `replay.memory_bytes_max` so that fewer need Kafka.",
        "none",
        [
            (f"sum by (kind) ({of('tickgate_replays_running')})", "{{kind}}"),
            (f"sum ({of('tickgate_replays_parts_waiting')})", "parts waiting"),
            (f"sum ({of('tickgate_replays_parts_reading')})", "parts being read"),
        ],
    )
    yield lines(
        "Replays begun and ended",
        "Replays a second: begun, and ended by how. *lost*: something was gone, and the client was told: a longer retention of the topic. *no_answer*: a "
        "past was broken off as Kafka did not answer, *failed*: as the gateway failed to read it; nothing is gone by that. *given_up*: the client left "
        "first. Refused ones and cursors that were not taken, by reason: *aged_out*: away for too long; *no_answer*: some of it could not be had, gone "
        "or not; *signature*: gateways with different keys.",
        "eps",
        [
            (total("tickgate_replays_begun_total", "kind"), "begun: {{kind}}"),
            (total("tickgate_replays_ended_total", "kind, result"), "ended: {{kind}}, {{result}}"),
            (total("tickgate_replays_refused_total", "reason"), "refused: {{reason}}"),
            (total("tickgate_resumes_refused_total", "reason"), "cursor: {{reason}}"),
            (total("tickgate_replays_parts_refused_total", "reason"), "put off: {{reason}}"),
        ],
        table=True,
    )
    yield lines(
        "What replays read again",
        "Records read again from Kafka a second, those with something for the client, and events given from memory. Read much, kept little: clients "
        "that follow few symbols come back after long; memory would spare Kafka that.",
        "recps",
        [
            (total("tickgate_replays_records_read_total"), "records read"),
            (total("tickgate_replays_records_passed_total"), "of use"),
            (total("tickgate_replays_events_read_total"), "events made"),
            (total("tickgate_feed_resumed_events_total"), "events from memory"),
            (total("tickgate_replays_parts_read_total", "result"), "parts: {{result}}"),
        ],
        table=True,
    )
    yield lines(
        "Readers of replays",
        "How many readers were busy, and how many of them paused because of `replay.records_per_s`. Busy all the time and pausing: raise it if processors "
        "and brokers have time to spare. Busy and not pausing: Kafka is slow.",
        "none",
        [
            (total("tickgate_replays_reading_seconds_total"), "busy"),
            (total("tickgate_replays_pausing_seconds_total"), "of these, pausing"),
            (f"sum ({of('tickgate_limit_replays_parts_reading')})", "there are"),
        ],
    )


def dashboard():
    rows = [
        (4, [(4, panel) for panel in stats()]),
        (6, [(6, panel) for panel in first()]),
        (6, [(6, panel) for panel in second()]),
        (6, [(6, panel) for panel in third()]),
    ]
    return board("sessions", "Who is here, who was not let in, who had to go; and how near the limits are.", rows)
