"""Captures trades into a Parquet file. Needs pyarrow or polars beside the client.

python capture.py --url ws://127.0.0.1:8080/v1/stream --seconds 10 --out trades.parquet
"""

from __future__ import annotations

from contextlib import suppress

from arguments import events, parser, run, symbols
from tickgate import Capture, Live


def main() -> int:
    """The command line."""
    line = parser(__doc__)
    line.add_argument("--out", default="trades.parquet")
    args = line.parse_args()
    # Without a word in between it would be `captured = live.capture(seconds=args.seconds)`.
    captured = Capture()
    with Live(args.url) as live, suppress(KeyboardInterrupt):
        live.subscribe("trades", symbols(args))
        for event in events(live, args, "trades"):
            captured.add(event)
    trades = captured.events("trades")
    print(f"{len(trades)} trades, {len(captured.events('gaps'))} gaps")
    if not trades:
        return 1
    print(f"written to {captured.to_parquet(args.out, 'trades')}")
    return 0


if __name__ == "__main__":
    run(main)
