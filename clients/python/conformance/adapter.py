"""The Python client's part in the conformance scenarios: see clients/conformance/README.md."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import tickgate
from tickgate import Ack, AuthAck, BookUpdate, Error, Feed, Gap, GoAway, Live, Quote, ReplayDone, Resync, Slow, State, Status, Trade
from tickgate.notices import AnyEvent

_lock = threading.Lock()
_KINDS = {Trade: "trade", Quote: "quote", BookUpdate: "book", Status: "status", Gap: "gap"}
_OPTIONS = ("on_slow", "conflate_ms", "depth", "snapshot")


def show(event: str, **fields: Any) -> None:
    """Prints an event, without the fields that have no value."""
    kept = {name: value for name, value in fields.items() if value is not None}
    with _lock:
        print(json.dumps({"event": event, **kept}), flush=True)


def text(value: Any) -> Any:
    """A value as the scenarios want it: decimals and times as text."""
    return format(value, "f") if isinstance(value, Decimal) else value


def levels(side: list[Any]) -> list[list[str]]:
    """Levels as pairs of texts."""
    return [[text(price), text(size)] for price, size in side]


def data(event: Any) -> dict[str, Any]:
    """The fields of a data event or a gap."""
    fields: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name == "received_ns" or value is None or value is False or (name == "merged" and value <= 1):
            continue
        if name in ("bids", "asks"):
            fields[name] = levels(value)
        else:
            fields[name] = str(value) if name.endswith("_ns") else text(value)
    return fields


def results(came: tuple[tickgate.AckResult, ...]) -> list[dict[str, Any]]:
    """Results of an answer as on the wire."""
    fields = tickgate.AckResult.__struct_fields__
    return [{name: getattr(one, name) for name in fields if getattr(one, name) is not None} for one in came]


def tell(event: AnyEvent) -> None:
    """Prints what the client hands out."""
    if isinstance(event, State):
        show("state", state=event.state, attempt=event.attempt if event.state == "reconnecting" else None)
    elif isinstance(event, Ack):
        show("ack", ok=event.ok, results=results(event.results))
    elif isinstance(event, AuthAck):
        show("auth", ok=event.ok)
    elif isinstance(event, Resync):
        show("resync", channel=event.channel, symbol=event.symbol)
    elif isinstance(event, ReplayDone):
        show("replay_done", channel=event.channel, symbol=event.symbol, seq=event.seq)
    elif isinstance(event, Slow):
        show("slow", action=event.action)
    elif isinstance(event, GoAway):
        show("goaway", reason=event.reason)
    elif isinstance(event, Feed):
        show("feed", name=event.name, state=event.state)
    elif isinstance(event, Error):
        show("error", code=event.code, fatal=event.fatal, symbol=event.symbol, hint=event.hint)
    else:
        show(_KINDS[type(event)], **data(event))


class Client:
    """The client, and the thread that takes its events."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        self._tokens = list(tokens)
        self._books: dict[str, tickgate.Book[Decimal]] = {}
        self._wanted: list[Callable[[], None]] = []
        self.live = Live(url, token=self._token if tokens else None, prices=Decimal)
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _token(self) -> str:
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]

    def _take(self) -> None:
        try:
            for event in self.live:
                tell(event)
        except tickgate.TickgateError as error:
            print(error, file=sys.stderr)

    def command(self, cmd: str, request: dict[str, Any]) -> None:
        """Does what a command says."""
        if cmd == "subscribe":
            options = {name: request[name] for name in _OPTIONS if name in request}
            from_ = request.get("from")
            if from_:
                options["from_"] = from_["seq"] if "seq" in from_ else int(from_["time_ns"])
            for symbol in request["symbols"] if request["channel"] == "book" else ():
                if not symbol.endswith("*"):
                    self._books[symbol] = self.live.book(symbol, depth=options.get("depth"), subscribe=False)
            self.live.subscribe(request["channel"], request["symbols"], **options)
        elif cmd == "unsubscribe":
            self.live.unsubscribe(request["channel"], request["symbols"])
        elif cmd == "book":
            symbol = request["symbol"]
            book = self._books.get(symbol) or self.live.book(symbol, subscribe=False)
            show("levels", symbol=book.symbol, is_complete=book.is_complete, bids=levels(book.bids()), asks=levels(book.asks()))
        elif cmd == "stats":
            stats = self.live.stats()
            names = ("events", "gaps", "duplicates", "unverified", "unannounced", "reconnects", "bad_frames")
            show("stats", **{name: getattr(stats, name) for name in names})
        elif cmd == "close":
            self.close()

    def close(self) -> None:
        """Closes the client, and prints what is left."""
        self.live.close()
        self._thread.join()


def main() -> None:
    """Takes commands until `close` or the end of the input."""
    client: Client | None = None
    for line in sys.stdin:
        request = json.loads(line)
        cmd = request.get("cmd")
        if cmd == "connect":
            client = Client(request["url"], request.get("tokens", []))
        elif client is None:
            show("failed", message=f"{cmd} before connect")
            sys.exit(1)
        else:
            client.command(cmd, request)
        if cmd == "close":
            return
    if client is not None:
        client.close()


if __name__ == "__main__":
    main()
