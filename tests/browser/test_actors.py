"""Seeing and touching actors in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from admin_fakes import EVIL, ME, Explode, FakeBroker, FakeQueue, begin, queue_facts, serving
from broker.process import BrokerProcess
from browser.conftest import Open, Shoot
from browser.seeing import expect_text, fact, press, row_of, toast

from dispatchd.actors.failures import QUARANTINE_FAILURES
from dispatchd.actors.runtime import System

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingConnection
    from playwright.sync_api import Locator, Page

Connect = Callable[..., "BlockingConnection"]


def card(page: Page, title: str) -> Locator:
    return page.locator("section.card").filter(has=page.get_by_role("heading", name=re.compile(f"^{title}")))


def test_pause_step_and_resume_a_queue(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    channel = connect().channel()
    channel.queue_declare("stepped")
    page = open_page(broker.admin_port, "#queues/%2F/stepped")
    press(page, "Pause…")
    page.get_by_label("For").select_option(label="ten minutes")
    press(page, "Pause")
    toast(page, "stepped is paused")
    expect_text(page.locator(".pill"), "^paused$")
    expect_text(page.locator("#banner"), "Paused: queue stepped")
    page.locator("#banner").get_by_role("link", name="queue stepped").click()
    expect_text(page.locator(".sentence"), "^Paused for 9 min")
    for number in range(1, 4):
        channel.basic_publish("", "stepped", b"x")
        expect_text(card(page, "Mailbox").locator("strong"), f"^{number}$")
    expect_text(card(page, "Waiting").locator("tbody tr").first, "Enqueue")
    shoot(page, "actor-paused")
    press(page, "Trace")
    press(page, "Step one message")
    expect_text(card(page, "Trace").locator("tbody tr"), "Enqueue.*handled")
    expect_text(card(page, "Mailbox").locator("strong"), "^2$")
    expect_text(page.locator(".sentence"), "^Paused")
    press(page, "Resume")
    expect_text(page.locator(".sentence"), "It has nothing to do|It is at work")
    page.locator("#banner p").wait_for(state="detached")
    page.locator(".facts").get_by_role("link", name="stepped").click()
    fact(page, "ready", "3")
    channel.queue_delete("stepped")


def test_who_waits_for_a_paused_queue(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    connection = connect("flood")
    channel = connection.channel()
    channel.queue_declare("dammed")
    page = open_page(broker.admin_port, "#queues/%2F/dammed")
    press(page, "Pause…")
    press(page, "Pause")
    expect_text(page.locator(".pill"), "^paused$")
    for _ in range(200):
        channel.basic_publish("", "dammed", bytes(10_000))
    page.goto(f"http://127.0.0.1:{broker.admin_port}/#flow")
    row = page.locator("tr").filter(has_text="flood")
    expect_text(row, "no publish credit left.*queue dammed.*paused")
    expect_text(page.locator(".sentence"), "1 connection waits")
    shoot(page, "flow")
    row.get_by_role("link", name="queue dammed").click()
    press(page, "Resume")
    page.get_by_role("link", name="Flow").click()
    page.get_by_text("Nobody has to wait.").wait_for()
    page.goto(f"http://127.0.0.1:{broker.admin_port}/#queues/%2F/dammed")
    fact(page, "ready", "200")
    channel.queue_delete("dammed")


def test_drop_a_poison_message(open_page: Open, shoot: Shoot) -> None:
    system = System()
    queue = begin(FakeQueue(system, "orders", told=queue_facts(9)))
    queue.actor_inbox.pause()
    queue.ref.tell(Explode("poison"))
    queue.ref.tell(Explode("more of it"))
    with serving(system, lambda *_: ME) as server:
        page = open_page(server.port, f"#actors/{queue.number}")
        expect_text(card(page, "Waiting").locator("tbody tr").first, "Explode")
        press(page, "Drop the oldest…")
        drop = page.get_by_role("button", name="Drop it")
        assert drop.is_disabled()
        page.get_by_label("Type the name").fill("orders")
        shoot(page, "drop")
        drop.click()
        toast(page, "It is dropped")
        expect_text(card(page, "Mailbox").locator("strong"), "^1$")
        expect_text(card(page, "Failures"), "dropped")
        assert queue.failures.total == 0 or queue.restarts == 0
        press(page, "Resume")
        expect_text(card(page, "Failures").locator("summary strong").first, "ValueError: more of it")
        page.goto(f"http://127.0.0.1:{server.port}/#actors?tab=failures")
        page.locator("summary").filter(has_text="ValueError: more of it").click()
        expect_text(page.locator("pre"), "raise ValueError")
        shoot(page, "failures")


def test_quarantine_and_release(open_page: Open, shoot: Shoot) -> None:
    system = System()
    broker = begin(FakeBroker(system, "broker"))
    queue = begin(FakeQueue(system, "bad", broker.ref, queue_facts()))
    evil = begin(FakeQueue(system, EVIL, broker.ref, queue_facts(arguments={EVIL: EVIL})))
    for _ in range(QUARANTINE_FAILURES + 1):
        queue.ref.tell(Explode(EVIL))
    evil.ref.tell(Explode(EVIL))
    with serving(system, lambda *_: ME) as server:
        page = open_page(server.port, "#actors")
        expect_text(page.locator(".rows tbody tr").first, "quarantined.*bad")
        expect_text(page.locator("#banner"), "In quarantine after failures: queue bad")
        row_of(page, "bad").get_by_role("link").click()
        expect_text(page.locator(".sentence"), "In quarantine: it failed too often")
        shoot(page, "quarantined")
        press(page, "Release")
        page.locator("#banner p").wait_for(state="detached")
        page.goto(f"http://127.0.0.1:{server.port}/#actors?tab=tree")
        page.get_by_role("link", name=EVIL, exact=True).click()
        expect_text(card(page, "Failures").locator("summary"), "ValueError")
        press(page, "Restart…")
        page.get_by_label("Type the name").fill(EVIL)
        press(page, "Restart")
        toast(page, "Restart: done")
        fact(page, "restarts", "2")
        assert "owned" not in page.title()
        assert page.locator("main img, main script").count() == 0


def test_actions_that_are_off(open_page: Open) -> None:
    system = System()
    queue = begin(FakeQueue(system, "orders"))
    with serving(system, lambda *_: ME, are_actions_on=False) as server:
        page = open_page(server.port, f"#actors/{queue.number}")
        page.get_by_text("Actions are off, or not for you.").wait_for()
        assert page.get_by_role("button", name="Pause…").count() == 0
