"""What can go wrong, each with a code, where it concerns one the symbol, and a hint at what to do."""

from __future__ import annotations

import re

HINTS: dict[str, str] = {
    "bad_request": "mend what the message says, by protocol/README.md",
    "unauthenticated": "pass token= a token that the gateway takes, or a function that fetches a fresh one",
    "forbidden": "the token does not grant this: ask for less, or for a token that grants more",
    "unknown_channel": "the channels are trades, quotes, book and status",
    "unknown_symbol": "no such symbol here: look at its spelling",
    "auth_timeout": "the token came too late: fetch it before connecting",
    "replay_aged_out": "some of what was asked for is gone, or beyond what this gateway gives; a gap says what is missing",
    "subscription_limit": "hold fewer subscriptions, or use a pattern such as 'BTC*'",
    "rate_limited": "wait, and ask for more symbols with fewer requests",
    "connection_limit": "close other connections of this subject",
    "slow_consumer": "read faster, subscribe to less, or choose on_slow='conflate' or 'skip'",
    "token_expiring": "pass token= a function that fetches a fresh token; then this is done for you",
    "token_expired": "pass token= a function that fetches a fresh token",
    "internal": "a fault of the gateway: a stream goes on by itself; ask for a past again, from the time that the message names",
    "source_down": "Kafka does not answer the gateway: a stream goes on by itself; ask for a past again, from the time in the message",
    "bad_frame": "a message that this client cannot read: something between it and the gateway, or another protocol version",
    "bad_position": "positions are '<epoch in hex>:<partition>:<offset>', as `seq` has them",
    "token_failed": "the function given as token= raised, or took too long",
    "connection_lost": "is the gateway there? With reconnect=True the client comes back by itself",
    "bad_url": "the URL is ws://HOST:PORT/v1/stream, or wss://…: are host, port and path right?",
    "refused": "is there a Tickgate gateway at this URL? A proxy before it may have refused it, too",
    "too_many_symbols": "so many symbols cannot be checked for gaps by one client: use several, with patterns that part them",
    "callback_failed": "a function given to on() raised; the event was handed out all the same",
    "closed": "the client was closed",
    "missing_extra": "data frames are not part of the plain client: install polars, pandas or pyarrow beside it",
}


UNSEEN_HINT = "no record has named this symbol yet: is it right? /symbols on the gateway's admin port lists what ticks"


SEVERAL_HINT = "to a gateway this is one name: several are given as a list, as in ['AAPL', 'MS*']"
# With these a request may be refused because of a symbol.
_ABOUT_SYMBOLS = frozenset({"bad_request", "unknown_symbol", "forbidden"})
# A symbol may have these in it, and hardly any has; blanks are in those of options.
_BETWEEN = re.compile(r"[,;]")
_BETWEEN_UNSEEN = re.compile(r"[,;\s]")


def hint(code: str, symbol: str | None = None) -> str:
    """What to do about an error with this `code`, where it is known about this `symbol` or pattern."""
    if symbol is not None and code in _ABOUT_SYMBOLS and _BETWEEN.search(symbol):
        return SEVERAL_HINT
    return HINTS.get(code, "see protocol/README.md")


def unseen_hint(symbol: str) -> str:
    """What may be wrong with a symbol that no record has named yet."""
    return f"{UNSEEN_HINT}; {SEVERAL_HINT}" if _BETWEEN_UNSEEN.search(symbol) else UNSEEN_HINT


class TickgateError(Exception):
    """Something failed for good. `code` is the protocol's name for it, or one of this client's."""

    def __init__(self, code: str, message: str, *, symbol: str | None = None, channel: str | None = None) -> None:
        self.code = code
        self.message = message
        self.symbol = symbol
        self.channel = channel
        self.hint = hint(code, symbol)
        about = f" ({channel} {symbol})" if symbol else ""
        super().__init__(f"{code}{about}: {message}. Hint: {self.hint}")


class Refused(TickgateError):
    """A subscription was refused, in whole or in part."""


class ConnectionLost(TickgateError):
    """The connection ended, and the client does not come back: it was told not to, or it would be in vain."""


class NotReadable(ValueError):
    """A message cannot be read, and nothing of it was taken."""
