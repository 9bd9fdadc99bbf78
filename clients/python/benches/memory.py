"""What a client takes of memory whose program takes no events, while a server sends as much as it can.

    python benches/memory.py [--trades 600000]

Prints the resident memory of this process before it connects, and when it has stopped reading. That it goes on to grow with the number of
trades would mean that something is without a bound. Linux alone says it so.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "conformance"))

from conformance.server import Server
from decode import frames

from tickgate import Live

PER_FRAME = 100
MIB = 1024 * 1024
# The socket of one that has stopped reading is looked at for so long: nothing more may come.
QUIET_S = 3.0
GIVE_UP_S = 120.0


def flood(trades: int, told: Connection) -> None:
    """A server that sends so many trades to whoever comes, as fast as they are read."""
    server = Server()
    told.send(server.url)
    server.greet()
    for frame in frames(trades, PER_FRAME):
        server.send(frame)
    told.send("all sent")
    told.recv()


def memory_bytes(name: str) -> int:
    """Resident memory of this process: `VmRSS`, or `VmHWM`, the most that it ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def quiet(live: Live[float]) -> None:
    """Waits until no more is read."""
    end_s = time.monotonic() + GIVE_UP_S
    seen, since_s = -1, time.monotonic()
    while time.monotonic() - since_s < QUIET_S:
        if live.stats().messages != seen:
            seen, since_s = live.stats().messages, time.monotonic()
        if time.monotonic() > end_s:
            sys.exit("it never stops reading")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=600_000)
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    server = spawn.Process(target=flood, args=(args.trades, there), daemon=True)
    server.start()
    url = here.recv()
    before = memory_bytes("VmRSS")
    with Live(url) as live:
        quiet(live)
        stats, stands, most = live.stats(), memory_bytes("VmRSS"), memory_bytes("VmHWM")
        is_sent = here.poll()
        server.terminate()
        server.join()
    how_many = "all" if is_sent else "not all"
    print(f"{args.trades} trades, {how_many} of them sent; {stats.queued_events} wait, reading stopped {stats.paused} time(s)")
    print(f"before {before / MIB:.0f} MiB, then {stands / MIB:.0f} MiB, never above {most / MIB:.0f} MiB")


if __name__ == "__main__":
    main()
