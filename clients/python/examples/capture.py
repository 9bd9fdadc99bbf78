"""Captures trades into a Parquet file. Needs tickgate[arrow] or tickgate[polars].

python capture.py --url ws://127.0.0.1:8080/v1/stream --seconds 10 --out trades.parquet
"""

from __future__ import annotations

import argparse

from tickgate import Live


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream")
    parser.add_argument("--symbols", default="*")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", default="trades.parquet")
    args = parser.parse_args()
    with Live(args.url) as live:
        live.subscribe("trades", args.symbols.split(",")).wait().check()
        captured = live.capture(seconds=args.seconds)
    path = captured.to_parquet(args.out, "trades")
    gaps = len(captured.events("gaps"))
    print(f"{len(captured.events('trades'))} trades, {gaps} gaps")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
