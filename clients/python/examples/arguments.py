"""What every example takes and says: `--url`, `--seconds` and `--symbols`, a word when nothing comes, and one when it fails.

Exit codes: 0 something came; 1 nothing came, and standard error says why; 2 wrong command line; 130 Ctrl-C before it listened, or once
more while it ended.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NoReturn

from tickgate import Ack, BookUpdate, Error, Event, Live, Quote, State, Status, TickgateError, Trade
from tickgate.events import P

# How long nothing may come before that is told.
_QUIET_S = 5.0
_CONNECTED = ("live", "resyncing", "stale")
# With these a request is refused as a whole.
_REFUSALS = ("bad_request", "forbidden", "rate_limited", "subscription_limit", "unknown_channel", "unknown_symbol")
_told = ""


def run(main: Callable[[], int]) -> NoReturn:
    """Ends the program as `main` says, or with a line that says what failed: a fault of the line of command needs no traceback."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # Before it listened, or the second one: who presses it again does not want to wait for the end of a connection.
        sys.exit(130)
    except (TickgateError, OSError) as error:
        tell(str(error))
        sys.exit(1)
    except ValueError as error:
        # Of an address that is none.
        tell(str(error))
        sys.exit(2)


def parser(description: str | None, *, is_table: bool = False) -> argparse.ArgumentParser:
    """The command line that every example has. `is_table`: it prints a line for each symbol."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream", help="a gateway: %(default)s")
    parser.add_argument("--symbols", type=_symbols, default="*", help="symbols and patterns, with commas between them: %(default)s")
    parser.add_argument("--seconds", type=_seconds, default=10, help="how long, above 0; Ctrl-C ends it early: %(default)s")
    if is_table:
        parser.add_argument("--top", type=_count, default=10, metavar="N", help="so many symbols, the busiest ones: %(default)s")
        parser.add_argument("--all", action="store_true", help="every symbol")
    return parser


def rows(counts: Mapping[str, int], args: argparse.Namespace) -> list[str]:
    """The symbols for which there is to be a line, by how many events came of each, the busiest first."""
    busiest = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    return busiest if args.all else busiest[: args.top]


def tell_rest(counts: Mapping[str, int], args: argparse.Namespace) -> None:
    """The last line, where there are more."""
    left = len(counts) - len(rows(counts, args))
    if left:
        print(f"and {left} more: --all shows {'it' if left == 1 else 'them'}")


def missing(gaps: int, events: int) -> str:
    """So many gaps, and how many events those lost that know it."""
    said = f"{gaps} gap{'' if gaps == 1 else 's'}"
    if not gaps:
        return said
    return f"{said}, {events} event{'' if events == 1 else 's'} where known" if events else f"{said}, of how many events is unknown"


def is_of(name: str, symbol: str) -> bool:
    """Whether a gap of `name`, which may be a pattern, is one of a symbol."""
    return symbol.startswith(name[:-1]) if name.endswith("*") else name == symbol


def events(live: Live[P], args: argparse.Namespace, what: str, requests: int = 1) -> Iterator[Event[P]]:
    """What comes in `--seconds`, or until all `requests` were refused. Says on standard error when something of the market has come,
    what fails, and what may be wrong when nothing comes for a while.
    """
    watch = _Watch(live, args, what, requests)
    end_s = time.monotonic() + args.seconds
    try:
        while not watch.is_closed and (left_s := end_s - time.monotonic()) > 0:
            for event in live.events(min(left_s, _QUIET_S)):
                watch.look(event)
                yield event
                watch.tell_first(event)
                if watch.is_refused:
                    return
            watch.tell_quiet()
    except KeyboardInterrupt:
        watch.tell_quiet()
        raise


class _Watch:
    """What an example has heard, and said of it."""

    def __init__(self, live: Live[P], args: argparse.Namespace, what: str, requests: int) -> None:
        self.is_closed = self.is_refused = False
        self._live = live
        self._url = args.url
        self._what = what
        self._seconds = args.seconds
        self._symbols = list(args.symbols)
        # Requests without an answer, and symbols that were granted or refused, and both.
        self._waiting = requests
        self._granted: set[str] = set()
        self._refused: set[str] = set()
        # Anything of the market, and something that is no state of before.
        self._has_come = self._has_news_come = self._was_live = False
        self._state = State("connecting")
        self._reason = self._said = ""

    def look(self, event: Event[P]) -> None:
        """Looks at an event, and says what is wrong."""
        if isinstance(event, State):
            self._state = event
            self.is_closed = event.state == "closed"
            if event.state == "reconnecting" and event.reason != self._reason:
                self._reason = event.reason
                what = f"the connection to {self._url} is lost" if self._was_live else f"no connection to {self._url}"
                tell(f"{what}: {event.reason}; trying again")
            elif event.state == "live":
                self._was_live, self._reason = True, ""
        elif isinstance(event, Error):
            # What refuses a connection is the reason of the next state.
            if event.fatal or self._state.state in _CONNECTED:
                tell(f"{event.code}: {event.message}. Hint: {event.hint}")
            if event.code in _REFUSALS and not event.fatal and self._state.state in _CONNECTED:
                self._answered(())
        elif isinstance(event, Ack) and event.op == "subscribe":
            hints: list[str] = []
            for result in event.results:
                (self._granted if result.ok else self._refused).add(result.symbol)
                said = [part for part in (result.message, result.hint) if part and part not in hints]
                if result.hint:
                    hints.append(result.hint)
                if said:
                    tell(f"{result.channel} {result.symbol}: {'. Hint: '.join(said)}")
            self._answered(result.symbol for result in event.results if result.ok)

    def _answered(self, granted: Iterable[str]) -> None:
        self._waiting -= 1
        self._granted.update(granted)
        if self._waiting <= 0 and not self._granted:
            self.is_refused = True

    def tell_first(self, event: Event[P]) -> None:
        """Says so when something of the market came, once."""
        if not isinstance(event, (Trade, Quote, BookUpdate, Status)):
            return
        self._has_news_come |= not event.snapshot
        if not self._has_come:
            self._has_come = True
            tell(f"{self._what} of {','.join(self._symbols)} for {self._seconds:g} s; Ctrl-C ends it early")

    def tell_quiet(self) -> None:
        """Says why nothing has come, where that was not said."""
        if self._has_news_come or self.is_closed:
            return
        why = self._why()
        if why and why != self._said:
            self._said = why
            tell(why)

    def _why(self) -> str:
        if self._state.state not in _CONNECTED:
            if self._has_come:
                return ""
            # Why the last attempt failed was told at once.
            return "" if self._reason else f"no answer from {self._url} yet"
        asked = [symbol for symbol in self._symbols if symbol in self._granted or symbol not in self._refused]
        nothing = "nothing but states of before" if self._has_come else f"no {self._what} of {','.join(asked)} yet"
        feeds = self._live.stats().feeds
        for state, said in (
            ("down", "the gateway does not hear from Kafka"),
            ("stale", "nothing has come to the gateway for a while"),
        ):
            names = [name for name, is_state in feeds.items() if is_state == state]
            if names:
                is_are = "feed" if len(names) == 1 else "feeds"
                return f"{nothing}: the gateway's {is_are} {', '.join(names)} {'is' if len(names) == 1 else 'are'} {state}, {said}"
        if self._has_come:
            # The market may well be closed.
            return ""
        if self._live.stats().feed_state == "unknown":
            return f"{nothing}, and the gateway has not said yet how its feeds are"
        return (
            f"{nothing}. Are the symbols right, and has this market {self._what}? "
            "/symbols?top=20 on the gateway's admin port lists what ticks"
        )


def tell(text: str) -> None:
    """Says something that is not the result, but not twice in a row: what ends a stream is an event of it, and raised."""
    global _told
    if text != _told:
        print(text, file=sys.stderr, flush=True)
    _told = text


def _symbols(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"an empty name in {text!r}: symbols and patterns have commas between them, as in AAPL,MS*")
    return names


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"a number of seconds above 0, not {text!r}")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1, not {text!r}")
    return int(text)
