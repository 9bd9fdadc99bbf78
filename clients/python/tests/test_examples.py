"""The examples: what they print, what they say when nothing comes or something is wrong, and how they end."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conformance.server import Server
from conformance.stage import TOPIC, Gateway, Stage, eventually
from conformance.world import quote, trade

from test_programs import HERE, python
from tickgate import Live, Quote

EXAMPLES = sorted(path for path in (HERE / "examples").glob("*.py") if path.stem != "arguments")
# What each of them prints of a market with books.
PRINTED = {
    "capture": r"^[1-9]\d* trades, 0 gaps\nwritten to trades\.parquet$",
    "imbalance": r"^symbol +mean +last +updates\n\w+ +-?[01]\.\d{3} +-?[01]\.\d{3} +[1-9]",
    "latency": r"(?s)^[1-9]\d* events, 0 gaps;.*gateway to here, p99 +[0-9.]+ ms.*intended sending to here, p99 +[0-9.]+ ms$",
    "resume": r"(?s)State\(state='live'\)\n +[1-9]\d* trades, 0 of them missed.*^0 reconnects, 0 duplicates discarded; 0 gaps; 0 of",
    "spread": r"^symbol +quotes +mean bps +widest bps +crossed\n\w+ +[1-9]\d* +[0-9.]+ +[0-9.]+ +\d+$",
    "vwap": r"^symbol +volume +vwap\n\w+ +[0-9.]+ +[0-9.]+$",
}


def test_every_example_is_looked_at() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(PRINTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, swaps: Gateway, tmp_path: Path) -> None:
    # In 2 s, or however long it takes here until something comes.
    for seconds in (2, 8, 32):
        program = python(str(path), "--url", swaps.url, "--seconds", str(seconds), cwd=tmp_path)
        said, errors = program.communicate(timeout=100)
        if program.returncode == 0 and re.search(PRINTED[path.stem], said.rstrip(), re.MULTILINE):
            break
    assert program.returncode == 0, errors
    assert re.search(PRINTED[path.stem], said.rstrip(), re.MULTILINE), said
    assert re.search(r"[a-z ]+ of \* for \d+ s; Ctrl-C ends it early\n", errors)
    if path.stem == "capture":
        from pyarrow import parquet

        assert parquet.read_table(tmp_path / "trades.parquet").num_rows > 0


def test_examples_end_with_ctrl_c_and_print_what_they_have(swaps: Gateway, tmp_path: Path) -> None:
    programs = [(path.stem, python(str(path), "--url", swaps.url, "--seconds", "600", cwd=tmp_path)) for path in EXAMPLES]
    for name, program in programs:
        assert program.stderr is not None
        while "Ctrl-C ends it early" not in (line := program.stderr.readline()):
            assert line, f"{name} ended"
        program.send_signal(signal.SIGINT)
    for name, program in programs:
        said, errors = program.communicate(timeout=100)
        assert (program.returncode, errors) == (0, ""), name
        assert len(said.splitlines()) >= 2, name


def test_examples_say_what_may_be_wrong_when_nothing_comes(gateway: Gateway) -> None:
    # They printed the head of an empty table, or nothing.
    wrong = ("--url", gateway.url, "--seconds", "600", "--symbols", "TPYO,NO*")
    for name, program in [(path.stem, python(str(path), *wrong)) for path in EXAMPLES]:
        assert program.stderr is not None
        lines: list[str] = []
        # Of a gateway that has just been started the feeds are stale until there was a record.
        while not lines or "of TPYO,NO* yet" not in lines[-1]:
            lines.append(program.stderr.readline())
            assert lines[-1], f"{name} ended: {lines}"
        assert any("TPYO: no record has named this symbol yet: is it right?" in line for line in lines), name
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=100)
        # A feed that nothing comes to is stale in the end, which is said as well.
        assert (program.returncode, [line for line in errors.splitlines() if " is stale" not in line]) == (1, []), name


def example(name: str, *args: str, cwd: Path | None = None) -> tuple[int, str, list[str]]:
    """Runs an example to its end: its exit code, what it prints, and the lines that it says beside that."""
    program = python(str(HERE / "examples" / f"{name}.py"), *args, cwd=cwd)
    said, errors = program.communicate(timeout=100)
    return program.returncode, said, errors.splitlines()


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_says_what_the_gateway_refuses_and_ends(name: str, gateway: Gateway, tmp_path: Path) -> None:
    # It said so of each part of it, or that there were no trades yet.
    code, said, errors = example(name, "--url", gateway.url, "--symbols", "A*B,A*L", "--seconds", "600", cwd=tmp_path)
    assert (code, [line for line in errors if "yet" in line]) == (1, [])
    assert sum("`*` only at the end" in line for line in errors) == len(errors)
    assert sum("Hint: " in line for line in errors) == (2 if name == "latency" else 1)
    assert name == "resume" or said == ""
    code, said, errors = example(name, "--url", f"{gateway.url}s", "--seconds", "600", cwd=tmp_path)
    assert (code, len(errors)) == (1, 1)
    assert "HTTP 404: the stream is at /v1/stream" in errors[0]
    assert os.listdir(tmp_path) == []


def told_until(program: subprocess.Popen[str], is_it: Callable[[str], bool]) -> list[str]:
    """What an example says beside what it prints, up to the first line that is it."""
    assert program.stderr is not None
    lines: list[str] = []
    while not lines or not is_it(lines[-1]):
        line = program.stderr.readline()
        assert line, f"it ended: {lines}"
        lines.append(line.rstrip())
    return lines


def interrupted(program: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """Ctrl-C: the exit code, what it prints, and what it says until it has ended."""
    program.send_signal(signal.SIGINT)
    said, errors = program.communicate(timeout=100)
    return program.returncode, said, errors.splitlines()


def test_an_example_does_not_wait_for_what_was_refused(gateway: Gateway) -> None:
    command = ("--url", gateway.url, "--symbols", "A*L,TPYO", "--seconds", "600")
    program = python(str(HERE / "examples" / "vwap.py"), *command)
    errors = told_until(program, lambda line: line.startswith("no trades of"))
    assert any("`*` only at the end" in line for line in errors)
    assert errors[-1].startswith("no trades of TPYO yet")
    assert interrupted(program)[:2] == (1, "")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--seconds", "0"), "a number of seconds above 0, not '0'"),
        (("--seconds", "-1"), "a number of seconds above 0, not '-1'"),
        (("--seconds", "nan"), "a number of seconds above 0, not 'nan'"),
        (("--symbols", ","), "an empty name in ','"),
        (("--symbols", "A,,B"), "an empty name in 'A,,B'"),
        (("--top", "0"), "a whole number of at least 1, not '0'"),
        (("--url", "localhost:8080"), "the URL of a gateway is ws://HOST:PORT/v1/stream"),
        (("--url", "ws://localhost:99999/v1/stream"), "Port out of range 0-65535"),
    ],
)
def test_an_example_does_not_begin_with_a_wrong_command_line(args: tuple[str, ...], says: str) -> None:
    # It printed the head of an empty table.
    code, said, errors = example("vwap", *args)
    assert (code, said) == (2, "")
    assert says in errors[-1]


def test_an_example_says_at_once_and_once_that_there_is_no_connection(gateway: Gateway) -> None:
    # Bound, and nobody listens: nobody else can begin to.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"ws://127.0.0.1:{taken.getsockname()[1]}/v1/stream"
        program = python(str(HERE / "examples" / "vwap.py"), "--url", nobody, "--seconds", "600")
        (line,) = told_until(program, lambda _: True)
        assert re.fullmatch(f"no connection to {nobody}: .*Connect call failed.*; trying again", line)
        # However often it tries: the second time comes within seconds.
        for seconds in (2, 8, 32):
            code, said, errors = example("spread", "--url", nobody, "--seconds", str(seconds))
            if errors == [line]:
                break
        assert (code, said, errors) == (1, "", [line])
        assert interrupted(program) == (1, "", [])
    # What speaks no TLS.
    secure = gateway.url.replace("ws://", "wss://")
    program = python(str(HERE / "examples" / "latency.py"), "--url", secure, "--seconds", "600")
    line = told_until(program, lambda line: line.startswith("no connection"))[-1]
    assert line.startswith(f"no connection to {secure}: what answers there speaks no TLS")
    assert line.endswith("try ws://; trying again")
    assert interrupted(program) == (1, "", [])


def test_an_example_says_that_a_feed_is_down(stage: Stage, gateway: Gateway) -> None:
    # It asked whether the symbols were right, and where there were states of before, it said nothing.
    stage.send(quote("OLD", 1))
    with Live(gateway.url) as live:
        live.subscribe("quotes", "OLD")
        next(event for event in live if isinstance(event, Quote))
    stage.broker_program.kill()
    eventually(lambda: "down" in feed_states(gateway), "the gateway has lost its feed")
    program = python(str(HERE / "examples" / "vwap.py"), "--url", gateway.url, "--seconds", "600")
    told = f"no trades of * yet: the gateway's feed {TOPIC} is down, the gateway does not hear from Kafka"
    told_until(program, lambda line: line == told)
    code, said, errors = interrupted(program)
    assert (code, said, [line for line in errors if "symbols right" in line]) == (1, "", [])
    program = python(str(HERE / "examples" / "spread.py"), "--url", gateway.url, "--seconds", "600")
    told = f"nothing but states of before: the gateway's feed {TOPIC} is down, the gateway does not hear from Kafka"
    told_until(program, lambda line: line == told)
    assert interrupted(program)[0] == 0


def feed_states(gateway: Gateway) -> list[str]:
    """How its feeds are, as it says to clients."""
    with Live(gateway.url) as live:
        live.subscribe("trades", "A")
        eventually(lambda: live.stats().feed_state != "unknown", "it says so")
        return list(live.stats().feeds.values())


def test_capture_finds_what_cannot_work_before_it_begins(gateway: Gateway, tmp_path: Path) -> None:
    # It found it at the end, and what it had captured was lost.
    for path, says in ((tmp_path / "none" / "trades.parquet", "No such file or directory"), (tmp_path, "is a folder")):
        code, said, errors = example("capture", "--url", gateway.url, "--seconds", "600", "--out", str(path))
        assert (code, said, len(errors)) == (2, "", 1)
        assert says in errors[0]
        assert str(path.parent) in errors[0]
    without = "import sys; sys.modules['pyarrow'] = sys.modules['polars'] = None; sys.argv[0] = 'capture.py'; import runpy; "
    path = HERE / "examples" / "capture.py"
    run = f"{without}sys.path.insert(0, {str(path.parent)!r}); runpy.run_path({str(path)!r}, run_name='__main__')"
    program = python("-c", run, "--url", gateway.url, "--seconds", "600", cwd=tmp_path)
    said, told = program.communicate(timeout=100)
    assert (program.returncode, said, len(told.splitlines())) == (2, "", 1)
    # Either would do.
    assert "pyarrow is not installed: pip install pyarrow, or polars, which does as well" in told
    assert os.listdir(tmp_path) == []


def test_capture_leaves_a_file_alone_for_which_there_is_nothing(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "trades.parquet"
    path.write_text("of yesterday")
    code, _, errors = example("capture", "--url", gateway.url, "--seconds", "0.5", "--out", str(path))
    assert (code, len(errors)) == (1, 1)
    assert (path.read_text(), os.listdir(tmp_path)) == ("of yesterday", [path.name])


def test_resume_says_with_its_exit_code_that_something_is_missing(stage: Stage) -> None:
    server = Server()
    program = python(str(HERE / "examples" / "resume.py"), "--url", server.url, "--seconds", "600")
    server.greet()
    event = {"type": "trade", "symbol": "A", "price": "1", "size": "1", "event_ns": "1", "ingest_ns": "1"}
    server.send(json.dumps([{**event, "seq": "1:0:1"}, {**event, "seq": "1:0:5", "prev": "1:0:4"}]))
    assert program.stdout is not None
    while "Gap(" not in (line := program.stdout.readline()):
        assert line, "it ended"
    program.send_signal(signal.SIGINT)
    said, _ = program.communicate(timeout=100)
    server.close()
    assert program.returncode == 1
    assert "1 gap, of how many events is unknown; 1 of them untold" in said


def test_examples_show_the_busiest_symbols_or_every_one(stage: Stage, gateway: Gateway) -> None:
    symbols = [f"S{number:02}" for number in range(60)]
    for name in ("spread", "vwap"):
        for option in ((), ("--top", "2"), ("--all",)):
            for seconds in (1, 8, 32):
                command = (str(HERE / "examples" / f"{name}.py"), "--url", gateway.url, "--seconds", str(seconds), *option)
                program = python(*command)
                while program.poll() is None:
                    stage.send(*(record(symbol, 1) for symbol in [*symbols, "S07"] for record in (quote, trade)))
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        program.wait(0.05)
                said, errors = program.communicate(timeout=100)
                if program.returncode == 0:
                    break
            lines = [line.split() for line in said.splitlines()[1:]]
            assert program.returncode == 0, errors
            assert lines[0][0] == "S07"
            if option == ("--all",):
                assert sorted(line[0] for line in lines) == symbols
            else:
                shown = 2 if option else 10
                assert len(lines) == shown + 1
                assert " ".join(lines[-1]) == f"and {60 - shown} more: --all shows them"


def test_a_spread_is_a_part_of_the_mid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE / "examples"))
    spread = importlib.import_module("spread").Spread()
    quotes = [(99.0, 101.0, 0), (99.5, 100.5, 1), (100.0, 100.0, 4), (-1.0, 1.0, 5)]
    for bid, ask, ns in quotes:
        spread.add(Quote("A", bid, 1.0, ask, 1.0, "1:0:1", ns, ns))
    assert (spread.quotes, spread.crossed, spread.widest_bps) == (4, 1, pytest.approx(200.0))
    # 200 for one nanosecond, 100 for three, none for one.
    assert spread.mean_bps == pytest.approx((200 + 300) / 5)
    one = importlib.import_module("spread").Spread()
    one.add(Quote("A", 0.0, 1.0, 0.0, 1.0, "1:0:1", 1, 1))
    assert (one.mean_bps, one.widest_bps) == (None, None)


def test_what_is_missing_is_no_number_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE / "examples"))
    missing = importlib.import_module("arguments").missing
    said = [missing(*counts) for counts in ((0, 0), (1, 0), (2, 1), (3, 7))]
    assert said == ["0 gaps", "1 gap, of how many events is unknown", "2 gaps, 1 event where known", "3 gaps, 7 events where known"]
    missing_of = importlib.import_module("vwap").missing_of
    gaps = {"A": [1, 3], "AB": [1, 1], "A*": [1, 4], "*": [2, 0], "B*": [9, 9]}
    assert missing_of("A", gaps) == "  4 gaps, 7 events where known"
    assert missing_of("C", {"A*": [1, 4]}) == ""


TIMES = {"event_ns": "1", "ingest_ns": "1"}
GAP = {"type": "gap", "symbol": "*", "cause": "slow_consumer", "after": None, "upto": None, "count": 3}


def said_of(name: str, cwd: Path, *events: Mapping[str, object]) -> str:
    """What an example prints of these events, the last of which is its first of the market, and then Ctrl-C."""
    server = Server()
    program = python(str(HERE / "examples" / f"{name}.py"), "--url", server.url, "--seconds", "600", cwd=cwd)
    server.greet()
    server.send(json.dumps(events))
    assert program.stderr is not None
    while "Ctrl-C ends it early" not in (line := program.stderr.readline()):
        assert line, "it ended"
    program.send_signal(signal.SIGINT)
    said, _ = program.communicate(timeout=100)
    server.close()
    return said


@pytest.mark.parametrize("name", ["capture", "latency", "resume", "vwap"])
def test_an_example_says_what_is_missing_of_a_pattern(name: str, tmp_path: Path) -> None:
    # They told how many gaps there were, and not of how many events; and that of a pattern was in none of the lines of symbols.
    trade = {"type": "trade", "symbol": "A", "price": "1", "size": "1", "seq": "1:0:1", **TIMES}
    said = said_of(name, tmp_path, {**GAP, "channel": "trades"}, trade)
    assert re.search(r"[ ;,] 1 gap, 3 events where known(;|$)", said, re.MULTILINE), said


def test_a_spread_that_stood_while_something_of_its_pattern_was_missing_counts_for_nothing(tmp_path: Path) -> None:
    quote = {"type": "quote", "symbol": "A", "bid_size": "1", "ask_size": "1", "ingest_ns": "1"}
    wide = {**quote, "bid_price": "99", "ask_price": "101", "seq": "1:0:1", "event_ns": "0"}
    tight = {**quote, "bid_price": "99.5", "ask_price": "100.5", "seq": "1:0:5", "event_ns": "100"}
    last = {**tight, "seq": "1:0:6", "prev": "1:0:5", "event_ns": "101"}
    events = (wide, {**GAP, "channel": "quotes"}, tight, last)
    for seconds in (1, 4, 16, 64):
        server = Server()
        program = python(str(HERE / "examples" / "spread.py"), "--url", server.url, "--seconds", str(seconds))
        server.greet()
        server.send(json.dumps(events))
        said, _ = program.communicate(timeout=100)
        server.close()
        line = said.splitlines()[1].split() if said else []
        if line[:2] == ["A", "3"]:
            break
    assert line == ["A", "3", "100.000", "200.000", "0"]
