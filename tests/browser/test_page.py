"""The page in a real browser: what it shows of fake actors. Skipped where there is no Chromium."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from admin_fakes import (
    EVIL,
    Explode,
    FakeBroker,
    FakeChannel,
    FakeConnection,
    FakeExchange,
    FakePersistence,
    FakeQueue,
    begin,
    channel_facts,
    connection_facts,
    exchange_facts,
    queue_facts,
    serving,
)

from dispatchd.actors.failures import QUARANTINE_FAILURES
from dispatchd.actors.runtime import System

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--virtual-time-budget=4000",
]  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


class Seen(HTMLParser):
    """What is on the page: its elements' names, and the text of the rows of its main table."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[str] = []
        self.classes: list[str | None] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append("")
            self.classes.append(dict(attrs).get("class"))
        elif tag == "td":
            self.rows[-1] += "|"

    def handle_data(self, data: str) -> None:
        self.text += data + " "
        if self.rows:
            self.rows[-1] += data

    def row(self, start: str) -> tuple[str, str | None]:
        """The text and the class of the row that starts so."""
        [found] = [pair for pair in zip(self.rows, self.classes, strict=True) if pair[0].startswith(start)]
        return found


def look(system: System, address: str, profile: Path) -> Seen:
    """Open the page with a login, wait for some polls, and return what is there; no complaint is allowed."""
    with serving(system) as server:
        url = f"http://me:pass@127.0.0.1:{server.port}/{address}"
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    seen = Seen(done.stdout)
    assert re.search(r"<title>dispatchd</title>", done.stdout)
    assert "live" in seen.text.split()
    return seen


def test_overview(tmp_path: Path) -> None:
    system = System()
    begin(FakeQueue(system, "a", told=queue_facts(1200, 34, consumers=2)))
    begin(FakeQueue(system, "paused")).actor_inbox.pause()
    begin(FakePersistence(system, "persistence", told={"commits": 77}))
    text = " ".join(look(system, "", tmp_path).text.split())
    assert "2 Consumers" in text
    assert "Ready 1,200 Unacknowledged 34" in text
    assert "No answer from 1 queue" in text
    assert "commits 77" in text
    assert "up 1 h 2 min" in text


def test_queues_late_quarantined_and_evil(tmp_path: Path) -> None:
    system = System()
    evil = begin(FakeQueue(system, EVIL, told=queue_facts(5, arguments={EVIL: EVIL})))
    begin(FakeQueue(system, "late", told=queue_facts())).actor_inbox.pause()
    bad = begin(FakeQueue(system, "bad", told=queue_facts()))
    for _ in range(QUARANTINE_FAILURES + 1):
        bad.ref.tell(Explode(EVIL))
    seen = look(system, f"#queues?open={evil.number}", tmp_path)
    assert seen.row("|late|")[1] == "odd"
    assert "did not answer in 250 ms" in seen.row("|late|")[0]
    assert seen.row("|bad|")[1] == "bad"
    assert seen.row(f"|{EVIL}|")[0].split("|")[5] == "5"
    assert seen.text.count(EVIL) == 3
    assert seen.tags.count("script") == 1
    assert seen.tags.count("img") == 1


def test_actors_in_a_tree_with_details(tmp_path: Path) -> None:
    system = System()
    broker = begin(FakeBroker(system, "broker"))
    queue = begin(FakeQueue(system, "orders", broker.ref, queue_facts(9)))
    begin(FakeQueue(system, "other", broker.ref))
    queue.ref.tell(Explode(EVIL))
    seen = look(system, f"#actors?tree=1&text=orders&open={queue.number}", tmp_path)
    names = [row.split("|")[3] for row in seen.rows if row.count("|") > 5]
    assert names == ["broker", "orders"]
    assert "2 of 3 actors" in seen.text
    assert f"raise ValueError(message.text)\nValueError: {EVIL}" in seen.text
    assert seen.tags.count("script") == 1


def test_connections(tmp_path: Path) -> None:
    system = System()
    connection = begin(FakeConnection(system, "here -> there", told=connection_facts(blocked_by_credit=True)))
    seen = look(system, f"#connections?open={connection.number}", tmp_path)
    assert seen.row("|here -> there|")[0].startswith("|here -> there|guest|/|running, held back|pika 1.3|orders|1|")
    assert "basic.nack: yes" in seen.text


def test_channels(tmp_path: Path) -> None:
    system = System()
    begin(FakeChannel(system, "here -> there (1)", told=channel_facts(waiting_for="exchange x")))
    row, _ = look(system, "#channels", tmp_path).row("|here -> there (1)|")
    assert row.startswith("|here -> there (1)|guest|/|running|confirm|100|1|3|1|")
    assert "|exchange x|" in row


def test_exchanges(tmp_path: Path) -> None:
    system = System()
    exchange = begin(FakeExchange(system, "", told=exchange_facts()))
    seen = look(system, f"#exchanges?open={exchange.number}", tmp_path)
    assert seen.row("|(default)|")[0].startswith("|(default)|/|topic|durable|1|")
    assert seen.row("|orders|")[0].startswith("|orders|queue|new.*|")


def test_many_rows_are_capped_and_counted(tmp_path: Path) -> None:
    system = System()
    for number in range(1000):
        begin(FakeQueue(system, f"queue {number}", told=queue_facts(number)))
    seen = look(system, "#queues?sort=-messages_ready", tmp_path)
    assert "1,000 queues, the first 200 shown" in seen.text
    assert seen.rows[1].startswith("|queue 999|")
    assert len(seen.rows) == 201
