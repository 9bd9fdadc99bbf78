"""What a client says and understands, without sockets, clocks or threads: messages in, events and messages out.

A `Core` lives as long as its client and goes through many sessions: `opened` and `lost` part them. What it wants to send is taken
with `take_outbox`, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from functools import partial
from typing import Any

from .errors import NotReadable, Refused
from .events import CHANNELS, BookUpdate, Channel, Gap, Quote, Status, Trade
from .judge import Judge
from .mending import BY_NAME_MAX, Mending
from .notices import (
    Ack,
    AckResult,
    AnyEvent,
    AuthAck,
    Error,
    Feed,
    GoAway,
    ReplayDone,
    Slow,
    State,
    StateName,
)
from .prices import PriceType
from .request import Answered, Request
from .stats import Clock, FeedState, Latencies
from .subscriptions import Options, Pair, Subscriptions, is_past
from .wire import (
    Decoder,
    Heartbeat,
    Hello,
    Limits,
    Pong,
    WireAck,
    WireError,
    WireGoAway,
    WireReplayDone,
    WireSlow,
    encode,
)

# A gateway has some feeds: what is beyond is not told.
_FEEDS_MAX = 1_000
# How long after it a book is asked for again whose chain broke again.
_RESYNC_EVERY_NS = 1_000_000_000
# When a request that resumes is sent again which was refused for now, without a word as to when.
_RETRY_NS = 1_000_000_000
# How long after a refusal a token is tried again: its key may not be known yet.
_TOKEN_RETRY_NS = 5_000_000_000
_TOKEN_TRIES = 3


class Core:
    """A client, but for its socket."""

    def __init__(self, prices: PriceType = float) -> None:
        self.judge = Judge()
        self.subscriptions = Subscriptions()
        self.clock = Clock()
        self.latencies = Latencies()
        self.limits = Limits()
        self.state: StateName = "connecting"
        self.session: str | None = None
        # Whether there ever was one that took requests.
        self.had_session = False
        self.heartbeat_ms = 0
        self.cursor: str | None = None
        self.feeds: dict[str, str] = {}
        self.feed_state: FeedState = "unknown"
        self.messages = self.bytes = self.bad_frames = 0
        # The gateway waits for a token, or says that the present one is nearly over.
        self.wants_token_at_ns: int | None = None
        # What a fatal error said.
        self.fatal: WireError | None = None
        self._decoder = Decoder(prices)
        self._outbox: list[bytes] = []
        self._requests: dict[int, Request] = {}
        self._pings: deque[tuple[int, int]] = deque(maxlen=8)
        self._next_id = 1
        self._is_ready = False
        # Replays that a reconnect waits for, each with the request that resumed it; and what is the past alone, until it is over.
        self._awaited: dict[Pair, int] = {}
        self._pasts: set[Pair] = set()
        # Ids of the requests that a session begins with, and whether it may be called live without more.
        self._first: set[int] = set()
        self._later: list[tuple[int, Request]] = []
        self._resync_at_ns = 0
        self._mending = Mending(self._send_about)
        self._token_tries = 0

    # What the user asks for.

    def subscribe(
        self,
        channel: Channel,
        symbols: list[str],
        options: Options,
        answered: Answered | None = None,
        *,
        cursor: str | None = None,
        keeps_place: bool = False,
    ) -> None:
        """Subscribes, now or as soon as there is a session, behind `cursor` if there is one. `keeps_place`: what was seen stays seen,
        although it says where to begin.
        """
        body: dict[str, Any] = {"op": "subscribe", "subscriptions": [{"channel": channel, "symbols": symbols, **options}]}
        if cursor is not None:
            body["cursor"] = cursor
        request = Request("subscribe", body, [(channel, symbol) for symbol in symbols])
        request.options = options
        request.answered = answered
        request.keeps_place = keeps_place
        self._give_way(channel, symbols)
        self._ask(request)

    def unsubscribe(self, channel: Channel, symbols: list[str], answered: Answered | None = None) -> None:
        """Unsubscribes."""
        body = {"op": "unsubscribe", "subscriptions": [{"channel": channel, "symbols": symbols}]}
        request = Request("unsubscribe", body, [(channel, symbol) for symbol in symbols])
        request.answered = answered
        self._give_way(channel, symbols)
        self._ask(request)

    def _give_way(self, channel: Channel, symbols: list[str]) -> None:
        if channel == "book":
            self.judge.broken_books.update(self._mending.gives_way(symbols))

    def authenticate(self, token: str) -> None:
        """Shows a token, because the gateway wants one."""
        self.wants_token_at_ns = None
        self._send(Request("auth", {"op": "auth", "token": token}, []))

    def ping(self, now_ns: int) -> None:
        """Asks the gateway for its time."""
        if self.session is not None:
            number = self._next_id
            self._next_id += 1
            self._pings.append((number, now_ns))
            self._outbox.append(encode({"op": "ping", "id": number}))

    def take_outbox(self) -> list[bytes]:
        """The messages to send."""
        outbox, self._outbox = self._outbox, []
        return outbox

    # What happens.

    def lost(self) -> None:
        """The session has ended. Requests without an answer are sent again in the next one."""
        if self.session is not None:
            self.judge.came_back(partial(self.subscriptions.is_covered, "book"))
        self.session = None
        self.fatal = None
        # The next gateway may have other feeds, and says how they are with its first heartbeat.
        self.feed_state = "unknown"
        self._is_ready = False
        self.wants_token_at_ns = None
        self._outbox.clear()
        self._later.clear()
        self._mending.clear()
        self._awaited.clear()
        self._first.clear()
        self._pings.clear()
        self.clock.reset()
        users = {i: r for i, r in self._requests.items() if r.kind in ("subscribe", "unsubscribe")}
        self._requests = users

    def move(self, state: StateName, out: list[AnyEvent], *, attempt: int = 0, reason: str = "") -> None:
        """Tells a new state."""
        if state != self.state or attempt or state == "connecting":
            self.state = state
            out.append(State(state, attempt, reason))

    def tick(self, now_ns: int) -> None:
        """Does what is due by now."""
        if self._later:
            due = [request for at_ns, request in self._later if at_ns <= now_ns]
            self._later = [(at_ns, request) for at_ns, request in self._later if at_ns > now_ns]
            for request in due:
                number = self._send(request)
                if request.kind == "resume":
                    self._first.add(number)
        self._resync_books(now_ns)

    def binary(self, size: int, out: list[AnyEvent]) -> None:
        """A binary message came, of which there are none in this protocol."""
        self.messages += 1
        self.bytes += size
        self._bad_frame("a binary message", out)

    def text(self, text: bytes | memoryview, received_ns: int, out: list[AnyEvent]) -> None:
        """Takes a text message, and adds what is to be handed out to `out`."""
        self.messages += 1
        self.bytes += len(text)
        try:
            first = text[0] if len(text) else 0
            if first == 0x5B:  # [
                self._data(text, received_ns, out)
            elif first == 0x7B:  # {
                self._control(text, received_ns, out)
            else:
                raise NotReadable("neither an object nor an array")
        except NotReadable as error:
            self._bad_frame(str(error), out)

    def _data(self, text: bytes | memoryview, received_ns: int, out: list[AnyEvent]) -> None:
        events = self._decoder.data(text)
        came = self.judge.frame(events, received_ns)
        if came:
            first = came[0]
            ingest_ns = getattr(first, "ingest_ns", None)
            # What was there before the subscription says nothing about the way here.
            # As long as the clocks were not compared in this session, they may differ by anything.
            skew_ns = self.clock.skew_ns
            if skew_ns is not None and ingest_ns is not None and not (first.snapshot or first.replay):  # type: ignore[union-attr]
                self.latencies.record(received_ns + skew_ns - ingest_ns)
            out.extend(came)
            self._mending.came(came)
            if self._awaited:
                self._catch_up(came, out)
        if self.judge.broken_books:
            self._resync_books(received_ns)

    def _catch_up(self, came: list[AnyEvent], out: list[AnyEvent]) -> None:
        """What is live of a symbol comes behind its replay, whether that was said to be done or not."""
        for event in came:
            if isinstance(event, (Trade, Quote, BookUpdate, Status)) and not (event.snapshot or event.replay):
                self._awaited.pop((event.channel, event.symbol), None)
        self._settle(out)

    def _bad_frame(self, what: str, out: list[AnyEvent]) -> None:
        self.bad_frames += 1
        out.append(Error("bad_frame", what[:256]))

    def _control(self, text: bytes | memoryview, received_ns: int, out: list[AnyEvent]) -> None:
        message = self._decoder.control(text)
        if isinstance(message, Heartbeat):
            self._keep_cursor(message.cursor)
            self.feed_state = _worst([feed.state for feed in message.feeds])
            for feed in message.feeds:
                if self.feeds.get(feed.name) != feed.state and (feed.name in self.feeds or len(self.feeds) < _FEEDS_MAX):
                    self.feeds[feed.name] = feed.state
                    out.append(Feed(feed.name, feed.state))
        elif isinstance(message, WireAck):
            request = self._requests.pop(message.id, None) if isinstance(message.id, int) else None
            if request is not None:
                if message.limits is not None:
                    self.limits = message.limits
                self._answered(int(message.id or 0), request, message, received_ns, out)
        elif isinstance(message, WireReplayDone):
            self._replay_done(message, out)
        elif isinstance(message, WireError):
            self._error(message, received_ns, out)
        elif isinstance(message, Pong):
            sent = next((sent for number, sent in self._pings if number == message.id), None)
            if sent is not None:
                self.clock.pong(sent, received_ns, message.now_ns)
        elif isinstance(message, WireSlow):
            out.append(Slow(message.delay_ms, message.queued_bytes, message.limit_bytes, message.action))
        elif isinstance(message, WireGoAway):
            self._keep_cursor(message.cursor)
            out.append(GoAway(message.reason, message.close_in_ms))
        elif isinstance(message, Hello):
            self._hello(message, received_ns, out)

    def _hello(self, hello: Hello, received_ns: int, out: list[AnyEvent]) -> None:
        if self.session is not None:
            raise NotReadable("a second greeting")
        self.session = hello.session
        self.limits = hello.limits
        self.heartbeat_ms = hello.heartbeat_ms
        if hello.auth == "required":
            self.wants_token_at_ns = received_ns
        else:
            self._begin(received_ns, out)

    def _begin(self, now_ns: int, out: list[AnyEvent]) -> None:
        """The gateway is ready for requests: asks for what was held, and for what was asked for meanwhile."""
        self._is_ready = True
        # Before all else, as no latency is known of what comes before its answer.
        self.ping(now_ns)
        waiting = self._requests
        self._requests = {}
        if self.had_session and len(self.subscriptions):
            self.move("resyncing", out)
            self._resume(out)
        self.had_session = True
        for number, request in waiting.items():
            self._send(request, number)
        self._first = set(self._requests)
        self._settle(out)

    def _resume(self, out: list[AnyEvent], pairs: list[Pair] | None = None, told: Container[Pair] = ()) -> None:
        """Asks for what was held, or for some of it. `told`: of which it was said already that something is missing."""
        for resumed in self.subscriptions.resume(self.cursor, self.judge.last, self.judge.lacks_state, pairs):
            request = Request("resume", resumed.body, resumed.pairs)
            request.awaited = resumed.awaited
            self._first.add(self._send(request))
            for channel, symbol in resumed.fresh:
                self.judge.begins_anew(channel, symbol, self._is_its(channel, symbol))
                if (channel, symbol) not in told:
                    self._tell_missing(channel, symbol, out)

    def _tell_missing(self, channel: Channel, symbol: str, out: list[AnyEvent]) -> None:
        """Nobody knows what is missing of it."""
        self.judge.counts.gaps += 1
        out.append(Gap(channel, symbol, "unannounced"))
        held = self.subscriptions.get(channel, symbol)
        if held is not None and held.owes_done:
            # Whoever waits for its past is not to wait for ever.
            held.owes_done = held.is_replayed = False
            out.append(ReplayDone(channel, symbol))

    def _settle(self, out: list[AnyEvent]) -> None:
        """Live, once everything that the session began with was answered and has caught up."""
        if self._is_ready and not self._is_resuming() and not self._awaited:
            self.move("live", out)

    def _is_resuming(self) -> bool:
        """Whether something that the session began with has no answer yet, or is to be asked for again as it came too fast."""
        return bool(self._first) or any(request.kind == "resume" for _, request in self._later)

    def _keep_cursor(self, cursor: str | None) -> None:
        # One that overtakes the answers of a reconnect says nothing of what was missed.
        if cursor is not None and self._is_ready and not self._is_resuming():
            self.cursor = cursor
            self.subscriptions.covered()

    # Requests and their answers.

    def _ask(self, request: Request) -> None:
        if self._is_ready:
            self._send(request)
        else:
            self._requests[self._next_id] = request
            self._next_id += 1

    def _send(self, request: Request, number: int | None = None) -> int:
        if number is None:
            number = self._next_id
            self._next_id += 1
        self._requests[number] = request
        self._outbox.append(encode({**request.body, "id": number}))
        return number

    @property
    def open_requests(self) -> int:
        """Requests that wait for an answer."""
        return len(self._requests)

    def _answered(self, number: int, request: Request, ack: WireAck, now_ns: int, out: list[AnyEvent]) -> None:
        results = tuple(ack.results)
        kind = request.kind
        books: list[str] = []
        if kind == "subscribe":
            self._subscribed(request, results)
        elif kind == "unsubscribe":
            for channel, symbol in request.pairs:
                books += self._end(channel, symbol)
        elif kind == "auth":
            self._token_tries = 0
            ended = self._without_ours([result for result in results if not result.ok])
            for result in ended:
                books += self._drop(result)
            out.append(AuthAck(ack.ok, tuple(ended), tuple(books)))
            if not self._is_ready:
                self._begin(now_ns, out)
        elif kind == "mend":
            granted, not_granted = self._mending.answered(results)
            for symbol in granted:
                self.judge.expects_snapshot("book", symbol)
            self._ask_again(not_granted)
        else:
            refused = {(result.channel, result.symbol) for result in results if not result.ok}
            for pair in request.awaited:
                held = self.subscriptions.get(*pair)
                if held is not None and pair not in refused:
                    held.is_replayed = True
                    self._awaited[pair] = number
            for result in results:
                if not result.ok:
                    out.append(
                        Error(
                            result.code or "refused",
                            result.message or "the subscription has ended",
                            symbol=result.symbol,
                            channel=result.channel,
                            has_ended=True,
                            ended_books=self._drop(result),
                        )
                    )
                elif kind == "resync" and result.channel == "book":
                    self.judge.expects_snapshot("book", result.symbol, self._is_its("book", result.symbol))
        if kind in ("subscribe", "unsubscribe"):
            told = Ack(kind, ack.ok, results, tuple(books))
            out.append(told)
            if request.answered is not None:
                request.answered(told)
        self._first.discard(number)
        self._settle(out)

    def _without_ours(self, ended: list[AckResult]) -> list[AckResult]:
        """Without books that nobody subscribed to by their names but this client, to mend them. They are as broken as before."""
        ours = {result.symbol for result in ended if result.channel == "book" and self._is_ours(result.symbol)}
        self.judge.broken_books.update(self._mending.refused(ours))
        return [result for result in ended if result.channel != "book" or result.symbol not in ours]

    def _is_ours(self, symbol: str) -> bool:
        return self.subscriptions.get("book", symbol) is None and ("book", symbol) not in self._pasts

    def _drop(self, result: AckResult) -> tuple[str, ...]:
        if result.ok or result.channel not in CHANNELS:
            return ()
        return self._end(_channel(result.channel), result.symbol, is_refused=True)

    def _is_its(self, channel: Channel, name: str) -> Callable[[str], bool]:
        """Whether a symbol or pattern brings a symbol, and no more specific one does."""
        return partial(self.subscriptions.is_its, channel, name)

    def _end(self, channel: Channel, name: str, *, is_refused: bool = False) -> tuple[str, ...]:
        """A subscription has ended: what comes of its symbols later begins anew, but for what another one goes on with as it was. What
        is refused no other one brings. Gives the symbols whose books have ended.
        """
        held = self.subscriptions.get(channel, name)
        if held is None:
            return ()
        self.subscriptions.drop(channel, name)
        # Of what has ended no replay is awaited any more.
        self._awaited.pop((channel, name), None)
        if channel == "book":
            # What was to mend its books would outlive it.
            self._mending.gives_way([name], self._is_its(channel, name))

        def ends(symbol: str) -> bool:
            is_its = self.subscriptions.is_its(channel, name, symbol)
            return is_its and (is_refused or not self.subscriptions.goes_on(channel, symbol, held))

        gone = self.judge.unsubscribed(channel, name, ends)
        return tuple(gone) if channel == "book" else ()

    def _subscribed(self, request: Request, results: tuple[AckResult, ...]) -> None:
        for result in results:
            if result.channel not in CHANNELS:
                continue
            channel = _channel(result.channel)
            if not result.ok:
                continue
            cursor = request.body.get("cursor")
            self.subscriptions.hold(channel, result.symbol, request.options, cursor)
            if "from" in request.options or cursor is not None:
                # The user says where to begin: what was seen counts for nothing.
                if not request.keeps_place:
                    self.judge.unsubscribed(channel, result.symbol, self._is_its(channel, result.symbol))
                if is_past(request.options):
                    self._pasts.add((channel, result.symbol))
            else:
                self.judge.resubscribed(channel, result.symbol, self._is_its(channel, result.symbol))

    def _replay_done(self, done: WireReplayDone, out: list[AnyEvent]) -> None:
        if done.channel not in CHANNELS:
            return
        pair = (_channel(done.channel), done.symbol)
        self._awaited.pop(pair, None)
        held = self.subscriptions.get(*pair)
        # What a reconnect resumed is nobody's business, but for a past that was asked for before and is whole only now.
        if pair in self._pasts or (held is not None and held.owes_done):
            self._pasts.discard(pair)
            out.append(ReplayDone(*pair, done.seq))
        if held is not None:
            held.owes_done = held.is_replayed = False
        self._settle(out)

    def _error(self, error: WireError, received_ns: int, out: list[AnyEvent]) -> None:
        self._keep_cursor(error.cursor)
        number = error.id if isinstance(error.id, int) else None
        if error.code == "rate_limited" and not error.fatal and any(number == pinged for pinged, _ in self._pings):
            # Nobody asked for it but this client, and there is a next one.
            return
        request = None if number is None else self._requests.get(number)
        symbol = channel = None
        if request is not None and len(request.pairs) == 1:
            channel, symbol = request.pairs[0]
        if error.fatal or request is None or request.kind != "mend":
            # What was to mend a book nobody asked for, and it is mended in another way.
            out.append(Error(error.code, error.message, error.fatal, symbol, channel))
        if error.fatal:
            self.fatal = error
            return
        if error.code == "replay_aged_out":
            self._aged_out(number)
            self._settle(out)
        elif error.code == "token_expiring":
            self.wants_token_at_ns = received_ns
        elif request is not None and number is not None:
            del self._requests[number]
            self._first.discard(number)
            self._failed(request, error, received_ns, out)
            self._settle(out)

    def _failed(self, request: Request, error: WireError, now_ns: int, out: list[AnyEvent]) -> None:
        """A request was refused as a whole."""
        if request.kind == "auth":
            self._token_tries += 1
            if self._token_tries < _TOKEN_TRIES:
                self.wants_token_at_ns = now_ns + _TOKEN_RETRY_NS
        elif request.kind == "mend":
            symbols = [symbol for _, symbol in request.pairs]
            self._mending.refused(symbols)
            if error.code == "rate_limited":
                self.judge.broken_books.update(symbols)
            else:
                self._ask_again(symbols)
        elif request.kind in ("resume", "resync"):
            if error.code == "rate_limited":
                wait_ns = _RETRY_NS if error.retry_after_ms is None else error.retry_after_ms * 1_000_000
                self._later.append((now_ns + wait_ns, request))
            elif error.code == "bad_request" and "cursor" in request.body:
                # Of another cluster, or made with a key that is no longer known: positions are as good, for who has them.
                refused = request.body["cursor"]
                if refused == self.cursor:
                    self.cursor = None
                    self.subscriptions.uncovered()
                told: set[Pair] = set()
                for channel, symbol in self.subscriptions.forget_cursor(refused, request.pairs):
                    if self.cursor is not None and (symbol.endswith("*") or self.judge.last(channel, symbol) is None):
                        # It goes on from a newer one, or anew, and what was before that is missing.
                        self._tell_missing(channel, symbol, out)
                        told.add((channel, symbol))
                self._resume(out, request.pairs, told)
            else:
                for channel, symbol in request.pairs:
                    books = self._end(channel, symbol, is_refused=True)
                    out.append(Error(error.code, error.message, False, symbol, channel, True, books))
        elif request.answered is not None:
            first = request.pairs[0] if request.pairs else (None, None)
            request.answered(Refused(error.code, error.message, channel=first[0], symbol=first[1]))

    def _aged_out(self, number: int | None) -> None:
        """What a request resumed is gone in part: what comes of it next may follow anything."""
        for channel, symbol in [pair for pair, asked in self._awaited.items() if asked == number]:
            del self._awaited[channel, symbol]
            self.judge.aged_out(channel, symbol, self._is_its(channel, symbol))

    def _resync_books(self, now_ns: int) -> None:
        broken = self.judge.broken_books
        # What is still replayed may bring its state, and would never be done if it were given up.
        if not broken or not self._is_ready or self._is_resuming() or self._awaited or now_ns < self._resync_at_ns:
            return
        users = (request for request in self._requests.values() if request.kind in ("subscribe", "unsubscribe"))
        if any(channel == "book" for request in users for channel, _ in request.pairs[:1]):
            # What brings them may end with its answer.
            return
        self._resync_at_ns = now_ns + _RESYNC_EVERY_NS
        by_name: dict[str, list[str]] = {}
        for symbol in broken:
            name = self.subscriptions.name_of("book", symbol)
            if name is not None:
                by_name.setdefault(name, []).append(symbol)
        broken.clear()
        for name, symbols in sorted(by_name.items()):
            if name.endswith("*") and len(symbols) <= BY_NAME_MAX:
                self._mending.ask(symbols, self.subscriptions.options_of("book", name) or {})
            else:
                self._mending.gives_way(symbols)
                self._ask_again(symbols)

    def _send_about(self, kind: str, body: dict[str, Any], symbols: list[str]) -> None:
        self._send(Request(kind, body, [("book", symbol) for symbol in symbols]))

    def _ask_again(self, symbols: list[str]) -> None:
        """Gives up what brings these books, and subscribes to it again."""
        names = {name for name in (self.subscriptions.name_of("book", symbol) for symbol in symbols) if name}
        for name in sorted(names):
            options = self.subscriptions.options_of("book", name) or {}
            asked = [{"channel": "book", "symbols": [name]}]
            self._send(Request("again", {"op": "unsubscribe", "subscriptions": asked}, []))
            again = [{**asked[0], **options}]
            self._send(Request("resync", {"op": "subscribe", "subscriptions": again}, [("book", name)]))


def _worst(states: list[str]) -> FeedState:
    """Of several feeds' states the one that says most against what comes."""
    if "down" in states:
        return "down"
    return "stale" if "stale" in states else "live" if states else "unknown"


def _channel(name: str) -> Channel:
    return CHANNELS[CHANNELS.index(name)]
