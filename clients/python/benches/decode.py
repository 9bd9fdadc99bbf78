"""What it costs to take trades: CPU time of one core, from the bytes of JSON batches to checked events.

    python benches/decode.py [--trades 200000] [--runs 7]

Prints, for batches of several sizes, the median of the runs: decoded alone, and decoded and held to the chain rule as a client does.
A fall below 300,000 trades a second means that one core can no longer take a busy market.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from decimal import Decimal

from tickgate.judge import Judge
from tickgate.prices import Fixed, PriceType
from tickgate.wire import Decoder

SYMBOLS = 50


def trade(number: int) -> str:
    """The nth trade, as a gateway would send it."""
    event = {
        "type": "trade",
        "symbol": f"SYM{number % SYMBOLS}",
        "price": f"{480 + number % 997 / 100:.2f}",
        "size": str(100 + number % 7),
        "side": "buy" if number % 2 else "sell",
        "trade_id": str(number),
        "venue": "Q",
        "seq": f"1f3a:3:{88_000_000 + number}",
        "event_ns": str(1_381_150_800_000_000_000 + number * 1000),
        "ingest_ns": str(1_381_150_800_000_250_000 + number * 1000),
    }
    if number >= SYMBOLS:
        event["prev"] = f"1f3a:3:{88_000_000 + number - SYMBOLS}"
    return json.dumps(event, separators=(",", ":"))


def frames(trades: int, batch: int) -> Iterator[bytes]:
    """`trades` trades of some symbols, `batch` to a frame."""
    for first in range(0, trades, batch):
        numbers = range(first, min(first + batch, trades))
        yield ("[" + ",".join(map(trade, numbers)) + "]").encode()


def per_second(trades: int, runs: int, take: Callable[[], int]) -> float:
    """The median of `runs` times that `take`, which says how many events came of it, needs."""
    rates = []
    for _ in range(runs):
        began = time.process_time()
        count = take()
        rates.append(trades / (time.process_time() - began))
        assert count == trades, f"{count} of {trades} trades came"
    return statistics.median(rates)


def measure(trades: int, runs: int) -> None:
    kinds: list[tuple[str, PriceType]] = [("float", float), ("Decimal", Decimal), ("Fixed(4)", Fixed(4))]
    print(f"{'trades a frame':>14} {'prices':>9} {'decoded/s':>12} {'decoded and checked/s':>22}")
    for batch in (1, 10, 100, 1000):
        texts = list(frames(trades, batch))
        for name, prices in kinds:
            decoder = Decoder(prices)

            def decode(decoder: Decoder = decoder, texts: list[bytes] = texts) -> int:
                return sum(len(decoder.data(text)) for text in texts)

            def check(decoder: Decoder = decoder, texts: list[bytes] = texts) -> int:
                judge = Judge()
                return sum(len(judge.frame(decoder.data(text), 1)) for text in texts)

            decoded, checked = per_second(trades, runs, decode), per_second(trades, runs, check)
            print(f"{batch:>14} {name:>9} {decoded:>12,.0f} {checked:>22,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    measure(args.trades, args.runs)


if __name__ == "__main__":
    main()
