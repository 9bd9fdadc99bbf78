"""What every example takes and says: `--url`, `--seconds` and `--symbols`, and a word when nothing comes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from tickgate import Ack, BookUpdate, Error, Event, Live, Quote, State, Status, Trade
from tickgate.events import P

# How long nothing may come before that is told, and what is.
_QUIET_S = 5.0
_NO_CONNECTION = "no connection to {url} yet, {state}: {reason}. Is a gateway there?"
_NOTHING = (
    "no {what} of {symbols} yet. Are the symbols right, and has this market {what}? "
    "/symbols on the gateway's admin port lists what ticks: curl 'http://127.0.0.1:9090/symbols?top=20'"
)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that every example has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream", help="a gateway: %(default)s")
    parser.add_argument("--symbols", default="*", help="symbols and patterns, with commas between them: %(default)s")
    parser.add_argument("--seconds", type=float, default=10, help="how long; Ctrl-C ends it early: %(default)s")
    return parser


def events(live: Live[P], args: argparse.Namespace, what: str) -> Iterator[Event[P]]:
    """What comes in `--seconds`. Says on standard error when something of the market has come, what fails, and what may be wrong
    when nothing comes for a while.
    """
    end_s = time.monotonic() + args.seconds
    came, state, told = False, State("connecting"), ""
    while state.state != "closed" and (left_s := end_s - time.monotonic()) > 0:
        for event in live.events(min(left_s, _QUIET_S)):
            if isinstance(event, State):
                state = event
            elif isinstance(event, Error):
                tell(f"{event.code}: {event.message}. {event.hint}")
            elif isinstance(event, Ack):
                for result in event.results:
                    if result.hint:
                        tell(f"{result.channel} {result.symbol}: {result.message or result.hint}")
            yield event
            if not came and isinstance(event, (Trade, Quote, BookUpdate, Status)):
                came = True
                tell(f"{what} of {args.symbols} for {args.seconds:g} s; Ctrl-C ends it early")
        why = _NO_CONNECTION if state.state != "live" else _NOTHING
        if not came and why != told:
            told = why
            tell(why.format(url=args.url, state=state.state, reason=state.reason or "no answer", what=what, symbols=args.symbols))


def tell(text: str) -> None:
    """Says something that is not the result."""
    print(text, file=sys.stderr, flush=True)
