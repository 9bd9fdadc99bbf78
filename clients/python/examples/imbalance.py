"""How much more is bid than offered in the best levels of a book, once a second: 1 is all bids, -1 all asks.

python imbalance.py --url ws://127.0.0.1:8080/v1/stream --symbol BTCUSDT --seconds 10
"""

from __future__ import annotations

import argparse
import time

from tickgate import Live


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream")
    parser.add_argument("--symbol", default="BTCUSDT")
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    with Live(args.url) as live:
        book = live.book(args.symbol, depth=20)
        end_s = time.monotonic() + args.seconds
        print(f"{'bid':>12} {'ask':>12} {'imbalance':>10} {'updates':>8}")
        while time.monotonic() < end_s:
            live.run(seconds=min(1.0, max(end_s - time.monotonic(), 0)))
            bid = sum(level.size for level in book.bids(args.levels))
            ask = sum(level.size for level in book.asks(args.levels))
            if book.best_bid is None or book.best_ask is None:
                print("the book is not complete", "" if book.is_complete else "yet")
                continue
            imbalance = (bid - ask) / (bid + ask)
            print(f"{book.best_bid.price:>12} {book.best_ask.price:>12} {imbalance:>10.3f} {book.updates:>8}")


if __name__ == "__main__":
    main()
