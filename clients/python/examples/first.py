"""The first script of the README."""

import sys

from tickgate import Live

with Live(sys.argv[1]) as live:
    live.subscribe("trades", ["*"])
    for event in live:
        print(event)
