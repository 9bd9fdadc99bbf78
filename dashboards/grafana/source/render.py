"""Writes every dashboard as JSON into the folder that is named on the command line."""

import importlib
import json
import pathlib
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder

import parts


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, _ in parts.BOARDS:
        built = importlib.import_module(name).dashboard().build()
        text = json.dumps(built, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


main()
