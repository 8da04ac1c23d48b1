from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingConnection

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
SHOTS = "DISPATCHD_SCREENSHOTS"
"""With a folder in this variable, tests leave pictures of what they saw there."""
WAIT_MS = 15_000

Open = Callable[..., "Page"]
Shoot = Callable[["Page", str], None]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium, which is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """A page of the admin on this port, logged in unless told otherwise. Nothing in it may complain."""
    contexts = []
    complaints: list[str] = []

    def open_page(port: int, address: str = "", *, login: bool = True, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1380, "height": 900}, **options})
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if _is_complaint(said) else None)
        if login:
            # As the form does it; `test_login_and_logout` is about the form.
            answer = context.request.post(
                f"http://127.0.0.1:{port}/api/login", data={"username": "guest", "password": "guest"}
            )
            assert answer.ok
        page.goto(f"http://127.0.0.1:{port}/{address}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _is_complaint(said: Any) -> bool:
    """Browsers note what was answered with an error, or could not be reached; the page says so itself."""
    is_expected = said.text.startswith("Failed to load resource") or "ERR_INCOMPLETE_CHUNKED_ENCODING" in said.text
    return said.type in ("error", "warning") and not is_expected


@pytest.fixture
def shoot() -> Shoot:
    def shoot(page: Page, name: str) -> None:
        if folder := os.environ.get(SHOTS):
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return shoot


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("browsed-broker"))
    process.start()
    yield process
    if process.is_running:
        process.kill()


@pytest.fixture
def connect(broker: BrokerProcess) -> Iterator[Callable[..., BlockingConnection]]:
    opened: list[BlockingConnection] = []

    def connect(name: str = "shop") -> BlockingConnection:
        parameters = pika.ConnectionParameters(
            broker.host, broker.port, heartbeat=0, client_properties={"connection_name": name}
        )
        opened.append(BlockingConnection(parameters))
        return opened[-1]

    yield connect
    for connection in opened:
        if connection.is_open:
            connection.close()
