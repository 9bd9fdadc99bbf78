"""What every example takes and says: `--url`, `--seconds` and `--symbols`, a word when nothing comes, and one when it fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from tickgate import Ack, BookUpdate, Error, Event, Live, Quote, State, Status, TickgateError, Trade
from tickgate.events import P

# How long nothing may come before that is told, and what is.
_QUIET_S = 5.0
_NO_CONNECTION = "no connection to {url} yet, {state}: {reason}. Is a gateway there?"
_NOTHING = (
    "no {what} of {symbols} yet. Are the symbols right, and has this market {what}? "
    "/symbols?top=20 on the gateway's admin port lists what ticks"
)
_CONNECTED = ("live", "resyncing", "stale")
_told = ""


def run(main: Callable[[], int]) -> NoReturn:
    """Ends the program as `main` says, or with a line that says what failed: a fault of the line of command needs no traceback."""
    try:
        sys.exit(main())
    except (TickgateError, ValueError, OSError) as error:
        tell(str(error))
        sys.exit(1)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that every example has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream", help="a gateway: %(default)s")
    parser.add_argument("--symbols", default="*", help="symbols and patterns, with commas between them: %(default)s")
    parser.add_argument("--seconds", type=float, default=10, help="how long; Ctrl-C ends it early: %(default)s")
    return parser


def symbols(args: argparse.Namespace) -> list[str]:
    """The symbols and patterns of `--symbols`.

    Raises:
        ValueError: there are none.
    """
    names = [name.strip() for name in args.symbols.split(",") if name.strip()]
    if not names:
        raise ValueError("--symbols names none: give symbols and patterns with commas between them, as in AAPL,MS*")
    return names


def events(live: Live[P], args: argparse.Namespace, what: str) -> Iterator[Event[P]]:
    """What comes in `--seconds`. Says on standard error when something of the market has come, what fails, and what may be wrong
    when nothing comes for a while.

    Raises:
        Refused: none of the symbols is one.
        TimeoutError: there was no connection all the while.
    """
    end_s = time.monotonic() + args.seconds
    came, state, told, said = False, State("connecting"), "", ""
    while state.state != "closed" and (left_s := end_s - time.monotonic()) > 0:
        for event in live.events(min(left_s, _QUIET_S)):
            if isinstance(event, State):
                state = event
            elif isinstance(event, Error):
                tell(f"{event.code}: {event.message}. Hint: {event.hint}")
            elif isinstance(event, Ack):
                if all(result.code == "bad_request" for result in event.results):
                    event.check()
                for result in event.results:
                    if result.hint:
                        tell(f"{result.channel} {result.symbol}: {'. Hint: '.join(filter(None, (result.message, result.hint)))}")
            yield event
            if not came and isinstance(event, (Trade, Quote, BookUpdate, Status)):
                came = True
                tell(f"{what} of {args.symbols} for {args.seconds:g} s; Ctrl-C ends it early")
        why = _NOTHING if state.state in _CONNECTED else _NO_CONNECTION
        said = why.format(url=args.url, state=state.state, reason=state.reason or "no answer", what=what, symbols=args.symbols)
        if not came and why != told:
            told = why
            tell(said)
    if not came and told == _NO_CONNECTION:
        raise TimeoutError(said)


def tell(text: str) -> None:
    """Says something that is not the result, but not twice in a row: what ends a stream is an event of it, and raised."""
    global _told
    if text != _told:
        print(text, file=sys.stderr, flush=True)
    _told = text
