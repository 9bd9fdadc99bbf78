#!/usr/bin/env python3
"""Holds a client to the scenarios that all clients of Tickgate share.

    python3 clients/conformance/run.py --adapter "python clients/python/conformance/adapter.py" [SCENARIO …]

The programs are taken from TICKGATE_BIN_DIR, by default target/debug. Exit status: 0 all scenarios are as expected, 1 some are not,
64 wrong command line. Python 3.10 or later, and nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from conformance.golden import compare, normal
from conformance.scenarios import ALL, SLOWEST
from conformance.stage import Failed
from conformance.world import World

_LOG_TAIL = 3_000


def run(name: str, command: list[str], *, is_new: bool) -> str | None:
    """Runs a scenario; gives what is wrong, if anything."""
    with tempfile.TemporaryDirectory(prefix="tickgate-conformance-") as folder:
        log = Path(folder) / "adapter.log"
        world = World(command, log)
        try:
            ALL[name](world)
            world.client.close()
            failed = [event for event in world.client.events if event.get("event") == "failed"]
            if failed:
                raise Failed(f"the adapter says: {failed[0].get('message')}")
            if world.summary is not None:
                lines = [json.dumps(line, sort_keys=True) for line in world.summary]
            else:
                lines = normal(world.client.events)
            compare(name, lines, is_new=is_new)
        except (AssertionError, OSError, KeyError, IndexError) as error:
            where = "" if isinstance(error, Failed) else traceback.format_exc()
            said = log.read_text(errors="replace")[-_LOG_TAIL:]
            return f"{type(error).__name__}: {error}\n{where}" + (f"the adapter's log:\n{said}" if said else "")
        finally:
            world.close()
    return None


def timed(name: str, command: list[str], *, is_new: bool) -> tuple[str, str | None, float]:
    """Runs a scenario; gives its name, what is wrong, and how long it took in seconds."""
    began = time.monotonic()
    wrong = run(name, command, is_new=is_new)
    return name, wrong, time.monotonic() - began


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(ALL)}; all unless some are named")
    parser.add_argument("--adapter", required=True, metavar="COMMAND", help="the adapter of the client, with its arguments")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="scenarios at once, each with its own gateways (4)")
    parser.add_argument("--write", action="store_true", help="make what this client prints the golden files")
    args = parser.parse_args()
    unknown = [name for name in args.scenarios if name not in ALL]
    if unknown:
        print(f"no such scenario: {', '.join(unknown)}; they are {', '.join(ALL)}", file=sys.stderr)
        return 64
    if args.jobs < 1:
        print("--jobs is 1 or more", file=sys.stderr)
        return 64
    # The slowest waits most, and comes first.
    names = sorted(args.scenarios or ALL, key=lambda name: name != SLOWEST)
    failures = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        running = [pool.submit(timed, name, shlex.split(args.adapter), is_new=args.write) for name in names]
        for done in as_completed(running):
            name, wrong, took_s = done.result()
            print(f"{'FAILED' if wrong else 'ok':>6}  {name:<24} {took_s:6.1f} s", flush=True)
            if wrong:
                failures += 1
                print(wrong, flush=True)
    print(f"{len(names) - failures} of {len(names)} scenarios are as expected")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
