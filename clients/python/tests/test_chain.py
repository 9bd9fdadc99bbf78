"""The client's rule: each of its cases, and a model of a gateway that loses, moves and repeats things."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickgate.chain import Chain, GapVerdict, Verdict
from tickgate.position import NotPosition, Position, is_at_or_before, parse, to_text

HERE, THERE = "1:0:", "1:4:"
SEEDS = 3_000


def at(offset: int, run: str = HERE) -> Position:
    return run, offset


def test_the_rule() -> None:
    chain = Chain()
    assert chain.event(at(5), at(3)) is Verdict.FIRST
    assert chain.event(at(8), at(5)) is Verdict.IN_ORDER
    assert chain.event(at(8), at(5), is_sibling=True) is Verdict.IN_ORDER
    assert chain.event(at(8), at(5)) is Verdict.DUPLICATE
    assert chain.event(at(6), at(5)) is Verdict.DUPLICATE
    assert chain.event(at(12), at(10)) is Verdict.UNANNOUNCED
    assert chain.event(at(13), None) is Verdict.UNVERIFIED
    assert chain.event(at(2, THERE), at(13)) is Verdict.IN_ORDER


def test_siblings_of_a_duplicate_are_duplicates() -> None:
    chain = Chain()
    chain.event(at(5), at(3))
    assert chain.event(at(5), at(3)) is Verdict.DUPLICATE
    assert chain.event(at(5), at(3), is_sibling=True) is Verdict.DUPLICATE
    assert chain.event(at(6), at(5)) is Verdict.IN_ORDER
    assert chain.event(at(6), at(5), is_sibling=True) is Verdict.IN_ORDER


def test_a_gap_closes_the_chain_and_a_snapshot_at_its_end_is_news() -> None:
    chain = Chain()
    chain.event(at(5), at(3))
    assert chain.gap(at(5), at(9)) is GapVerdict.TOLD
    assert chain.event(at(9), None, is_snapshot=True) is Verdict.SNAPSHOT
    assert chain.event(at(11), at(9)) is Verdict.IN_ORDER
    assert chain.gap(at(10), at(12)) is GapVerdict.MISFIT
    assert chain.event(at(12), None) is Verdict.DUPLICATE


def test_what_was_told_as_gone_without_an_end_may_be_followed_by_anything_once() -> None:
    chain = Chain()
    chain.event(at(52), at(50))
    chain.resumed()
    chain.aged_out()
    assert chain.event(at(52), at(50)) is Verdict.DUPLICATE
    assert chain.event(at(80), at(78)) is Verdict.UNVERIFIED
    assert chain.event(at(90), at(85)) is Verdict.UNANNOUNCED


@pytest.mark.parametrize(("upto", "verdict"), [(70, Verdict.UNANNOUNCED), (40, Verdict.UNVERIFIED), (None, Verdict.UNVERIFIED)])
def test_a_gap_with_an_end_is_where_what_was_told_as_gone_ends(upto: int | None, verdict: Verdict) -> None:
    chain = Chain()
    chain.event(at(52), at(50))
    chain.resumed()
    chain.aged_out()
    chain.gap(None, None if upto is None else at(upto))
    assert chain.event(at(80), at(78)) is verdict


def test_what_comes_first_to_who_came_back_may_reach_further_back() -> None:
    chain = Chain()
    chain.event(at(9), at(8))
    chain.resumed()
    assert chain.event(at(12), at(7)) is Verdict.IN_ORDER
    assert chain.event(at(15), at(9)) is Verdict.UNANNOUNCED
    chain.resumed()
    assert chain.gap(at(13), at(18)) is GapVerdict.TOLD
    assert chain.event(at(19), at(18)) is Verdict.IN_ORDER
    assert chain.gap(at(17), at(20)) is GapVerdict.MISFIT


def test_who_came_back_is_so_until_something_live_comes() -> None:
    chain = Chain()
    chain.event(at(9), at(8))
    chain.resumed()
    assert chain.event(at(12), at(7), is_replay=True) is Verdict.IN_ORDER
    assert chain.event(at(15), at(10), is_replay=True) is Verdict.IN_ORDER
    assert chain.event(at(18), at(13)) is Verdict.IN_ORDER, "the first live one"
    assert chain.event(at(21), at(17)) is Verdict.UNANNOUNCED


def test_what_comes_again_of_the_partition_before_is_known() -> None:
    chain = Chain()
    chain.event(at(8), at(7))
    chain.event(at(9), at(8))
    chain.gap(at(9), at(9))
    assert chain.event(at(2, THERE), at(9)) is Verdict.IN_ORDER
    assert chain.event(at(8), at(7)) is Verdict.DUPLICATE
    assert chain.event(at(9), at(8)) is Verdict.DUPLICATE
    assert chain.event(at(2, THERE), at(9)) is Verdict.DUPLICATE
    assert chain.event(at(3, THERE), at(2, THERE)) is Verdict.IN_ORDER
    # It went back, and what comes again comes partition by partition.
    assert chain.event(at(12), at(9)) is Verdict.IN_ORDER


def test_a_gap_that_ends_in_the_partition_before_takes_nothing_back() -> None:
    """It began with the last event and ended before what the client had in the other partition: the chain went back, and what came
    again looked new.
    """

    def come_back() -> Chain:
        chain = Chain()
        chain.event(at(8), at(7))
        chain.event(at(9), at(8))
        chain.event(at(2, THERE), at(9))
        chain.resumed()
        return chain

    chain = come_back()
    assert chain.gap(at(2, THERE), at(8)) is GapVerdict.TOLD
    assert chain.last == at(2, THERE)
    assert chain.event(at(9), at(8)) is Verdict.DUPLICATE
    assert chain.event(at(12), at(9)) is Verdict.IN_ORDER
    # The end of what it has there is where it goes on, as is what lies behind that.
    for upto, following in ((9, 10), (11, 12)):
        chain = come_back()
        assert chain.gap(at(2, THERE), at(upto)) is GapVerdict.TOLD
        assert chain.last == at(upto)
        assert chain.event(at(following), at(upto)) is Verdict.IN_ORDER


def test_a_gap_of_what_a_client_has_changes_nothing() -> None:
    chain = Chain()
    chain.event(at(9), at(8))
    chain.resumed()
    assert chain.gap(None, at(6)) is GapVerdict.KNOWN
    assert chain.event(at(8), at(6)) is Verdict.DUPLICATE
    assert chain.event(at(12), at(9)) is Verdict.IN_ORDER


class Model:
    """A log of one symbol over two partitions, a gateway that reads it, and a client whose chain is under test."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.log: list[Position] = []
        self.chain = Chain()
        self.accepted: list[int] = []
        self.told: set[int] = set()
        # Where the session stands in the log, and where the last cursor did.
        self.at = self.cursor = 0
        self.previous: int | None = None
        self.has_broken = False
        # Whether nothing live has come since the client came back.
        self.replays_upto = 0

    def write(self) -> None:
        run = self.log[-1][0] if self.log else HERE
        if self.random.random() < 0.05:
            run = THERE if run == HERE else HERE
        last = max((offset for other, offset in self.log if other == run), default=0)
        self.log.append((run, last + self.random.randint(1, 3)))

    def send(self) -> None:
        """The next event of the log, in a frame of its own."""
        if self.at == len(self.log):
            return
        prev = None if self.previous is None else self.log[self.previous]
        seq = self.log[self.at]
        verdict = self.chain.event(seq, prev, is_replay=self.at < self.replays_upto)
        if verdict is Verdict.DUPLICATE:
            assert self.at in self.accepted or self.at in self.told, f"seed {self.seed}: {seq} was new"
        else:
            assert verdict is not Verdict.UNANNOUNCED or self.has_broken, f"seed {self.seed}: {seq} was in order"
            self.accepted.append(self.at)
        self.has_broken = False
        self.previous = self.at
        self.at += 1

    def lose(self) -> None:
        """The gateway drops some of one partition, and says so."""
        upto = min(self.at + self.random.randint(1, 4), len(self.log)) - 1
        if upto < self.at or len({run for run, _ in self.log[max(self.at - 1, 0) : upto + 1]}) > 1:
            return
        after = None if self.previous is None else self.log[self.previous]
        if self.chain.gap(after, self.log[upto]) is not GapVerdict.KNOWN:
            self.told.update(range(self.at, upto + 1))
        self.previous, self.at = upto, upto + 1

    def come_back(self) -> None:
        """The client loses its session, and goes on from its last cursor."""
        self.chain.resumed()
        self.at = self.cursor
        self.replays_upto = len(self.log)
        self.previous = self.at - 1 if self.at > 0 else None

    def run(self) -> None:
        for _ in range(self.random.randint(20, 80)):
            chance = self.random.random()
            if chance < 0.35:
                self.write()
            elif chance < 0.8:
                self.send()
            elif chance < 0.87:
                self.lose()
            elif chance < 0.95:
                self.cursor = self.at
            else:
                self.come_back()
        while self.at < len(self.log):
            self.send()

    def judge(self) -> None:
        assert len(self.accepted) == len(set(self.accepted)), f"seed {self.seed}: something was taken twice"
        known = set(self.accepted) | self.told
        missing = [self.log[at] for at in range(len(self.log)) if at not in known]
        assert not missing, f"seed {self.seed}: {missing} were lost without a word"


def test_each_event_is_taken_once_or_told_as_lost() -> None:
    for seed in range(SEEDS):
        model = Model(seed)
        model.run()
        model.judge()


def test_a_loss_that_nobody_tells_is_found() -> None:
    for seed in range(SEEDS):
        model = Model(seed)
        for _ in range(10):
            model.write()
        for _ in range(4):
            model.send()
        # Two more are lost, and the next one says what came before it.
        model.previous, model.at = 5, 6
        verdict = model.chain.event(model.log[6], model.log[5])
        assert verdict is Verdict.UNANNOUNCED, f"seed {seed}"


@given(st.text(max_size=30))
def test_texts_are_positions_or_not(text: str) -> None:
    try:
        position = parse(text)
    except NotPosition:
        return
    assert parse(to_text(position)) == position


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**63))
def test_positions_are_read_as_they_are_written(epoch: int, partition: int, offset: int) -> None:
    position = parse(f"{epoch:x}:{partition}:{offset}")
    assert to_text(position) == f"{epoch:x}:{partition}:{offset}"
    assert is_at_or_before(position, position)
    assert not is_at_or_before((position[0], offset + 1), position)
    assert not is_at_or_before(position, None)


@pytest.mark.parametrize("text", ["", "1", "1:2", "1:2:", ":2:3", "1::3", "1:2:3:4", "g:2:3", "1:2:-3", "1:2:٣", "1:2:3 ", "1:2:1_0"])
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(NotPosition):
        parse(text)
