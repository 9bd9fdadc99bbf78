"""Captures trades into a Parquet file. Needs pyarrow or polars beside the client.

python capture.py --url ws://127.0.0.1:8080/v1/stream --seconds 10 --out trades.parquet
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from arguments import events, missing, parser, run, tell
from tickgate import Capture, Live, TickgateError


def main() -> int:
    """The command line."""
    line = parser(__doc__)
    line.add_argument("--out", type=Path, default="trades.parquet", help="the file: %(default)s")
    args = line.parse_args()
    # What is there under that name stays as it is until there is something better.
    part = args.out.with_name(f"{args.out.name}.part")
    try:
        if args.out.is_dir():
            raise IsADirectoryError(f"{args.out} is a folder")
        # What cannot be written is better known before anything is captured: the package may be missing, or the folder.
        Capture().to_parquet(part, "trades")
    except (TickgateError, OSError) as error:
        tell(str(error))
        return 2
    try:
        # Without a word in between it would be `captured = live.capture(seconds=args.seconds)`.
        captured = Capture()
        with Live(args.url) as live, suppress(KeyboardInterrupt):
            live.subscribe("trades", args.symbols)
            for event in events(live, args, "trades"):
                captured.add(event)
        trades = captured.events("trades")
        if not trades:
            return 1
        captured.to_parquet(part, "trades").replace(args.out)
    finally:
        part.unlink(missing_ok=True)
    gaps = captured.events("gaps")
    print(f"{len(trades)} trades, {missing(len(gaps), sum(gap.count or 0 for gap in gaps))}")
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    run(main)
