"""Octets of chance for the parser and for a whole broker, beside a client that must not notice.

A million frames in the long form. Whatever comes, the broker answers with the close that AMQP has for it, or drops the
connection: no actor fails, nothing is logged as an error, and no memory stays behind.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import gevent
import psutil
import pytest
from actors.harness import wait_until
from broker.admin import api
from broker.process import BrokerProcess
from fuzz.innocent import Innocent
from fuzz.mutants import FRAME_MAX, MAX_MESSAGE, OF_CHANNELS, OF_CONNECTIONS, Mutant, before_login, mutants
from fuzz.player import Closed, pieces, play, play_before_login
from soak import SOAK, cases, seeded

from dispatchd.amqp.errors import AmqpSyntaxError
from dispatchd.amqp.frame_parser import FrameParser
from dispatchd.amqp.properties import decode_properties

FRAMES = cases(20_000, 1_000_000)
PARSED = cases(100_000, 1_000_000)
WARM_UP_SHARE = 0.1
"""Of the frames, before memory counts."""
PLAYERS = 3
SESSIONS_OF_A_ROUND = 300
MEMORY_LIMIT = 10 << 20
LONGEST_WAIT = 5.0
"""Seconds, for one message of the innocent client, published, confirmed, delivered: on a machine with other work."""


# The parser alone


def parse(chance: random.Random, mutant: Mutant) -> int:
    """Returns how many octets were parsed until they made no sense."""
    parser = FrameParser(FRAME_MAX, MAX_MESSAGE)
    parsed = 0
    for piece in pieces(chance, mutant.data):
        for arrived in parser.feed(piece):
            for message in arrived.published:
                assert len(message.body) <= MAX_MESSAGE
                with suppress(AmqpSyntaxError):
                    decode_properties(message.header)
        if parser.failure is not None:
            assert parser.failure.code in mutant.codes, parser.failure
            assert parser.failure.code in OF_CONNECTIONS
            break
        parsed += len(piece)
    return parsed


@pytest.mark.timeout(3600 if SOAK else 60)
def test_the_parser() -> None:
    chance = seeded(20240621)
    frames, before = 0, 0
    for _, count, mutant in mutants(chance):
        parse(chance, mutant)
        frames += count
        if not before and frames > PARSED * WARM_UP_SHARE:
            before = psutil.Process().memory_info().rss
        if frames >= PARSED:
            break
    grown = psutil.Process().memory_info().rss - before
    print(f"{frames} frames, memory {grown >> 10} KiB more")
    assert grown < MEMORY_LIMIT


# A whole broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path / "data", "--max-message-size", f"{MAX_MESSAGE}")
    broker.start()
    yield broker
    broker.kill()


class Fuzz:
    """Players that take one mutant after the other, in rounds, and what came of them."""

    def __init__(self, broker: BrokerProcess, chance: random.Random) -> None:
        self._broker = broker
        self._chance = chance
        self._mutants = mutants(chance)
        self.frames = 0
        self.sessions = 0
        self.codes: Counter[int] = Counter()

    def round(self, sessions: int) -> None:
        """So many sessions; what they leave behind is removed after them."""
        share = [sessions // PLAYERS] * PLAYERS
        greenlets = [gevent.spawn(self._play_some, count) for count in share]
        gevent.joinall(greenlets, raise_error=True)
        wait_until(lambda: len(api(self._broker, "GET", "connections")[1]) == 1)
        for what, own in (("queues", ("innocent",)), ("exchanges", ("",))):
            for row in api(self._broker, "GET", what)[1]:
                name = row["name"]
                if name not in own and not name.startswith("amq."):
                    path = f"{what}/%2F/{quote(name, safe='')}"
                    assert api(self._broker, "DELETE", path)[0] in (204, 404), path

    def _play_some(self, count: int) -> None:
        for _ in range(count):
            if self._chance.random() < 0.05:
                data = before_login(self._chance)
                self._hear("before login", Mutant(data, OF_CONNECTIONS), play_before_login(self._broker, data))
                continue
            name, frames, mutant = next(self._mutants)
            self.frames += frames
            self.sessions += 1
            try:
                closed = play(self._broker, self._chance, mutant)
            except TimeoutError:
                raise AssertionError(f"{name}: no end comes after {mutant.data.hex()}") from None
            self._hear(name, mutant, closed)

    def _hear(self, name: str, mutant: Mutant, closed: list[Closed]) -> None:
        wrong = [
            each
            for each in closed
            if each.code not in mutant.codes or each.code not in (OF_CONNECTIONS if each.of_connection else OF_CHANNELS)
        ]
        assert not wrong, f"{name}: {closed} after {mutant.data.hex()}"
        if mutant.is_certain:
            assert len(closed) == (1 if mutant.codes else 0), f"{name}: {closed} after {mutant.data.hex()}"
        self.codes.update(each.code for each in closed)


@pytest.mark.timeout(4 * 3600 if SOAK else 60)
def test_the_whole_broker(broker: BrokerProcess) -> None:
    chance = seeded(20240622)
    innocent = Innocent(broker.host, broker.port, persistent=True)
    fuzz = Fuzz(broker, chance)
    process = psutil.Process(broker.pid)
    before = 0
    while fuzz.frames < FRAMES:
        fuzz.round(SESSIONS_OF_A_ROUND)
        innocent.expect_progress()
        if not before and fuzz.frames > FRAMES * WARM_UP_SHARE:
            before = process.memory_info().rss
    grown = process.memory_info().rss - before
    innocent.stop()
    codes = dict(sorted(fuzz.codes.items()))
    print(f"{fuzz.frames} frames in {fuzz.sessions} sessions, closed with {codes}")
    print(f"memory {before >> 10} KiB, then {grown >> 10} KiB more")
    print(f"{innocent.done} messages of the innocent client, the longest of which took {innocent.longest_wait:.2f} s")
    assert not broker.trouble_since(0)
    assert grown < MEMORY_LIMIT
    assert innocent.longest_wait < LONGEST_WAIT
    assert api(broker, "GET", "actors/failures")[1] == []
