"""The page in a real browser, with a real broker behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import pytest
from admin_fakes import (
    ME,
    Explode,
    FakeConnection,
    FakeExchange,
    FakeQueue,
    begin,
    connection_facts,
    queue_facts,
    serving,
)
from broker.admin import api
from broker.process import BrokerProcess
from browser.conftest import Open, Shoot
from browser.seeing import expect_text, fact, press, row_of, toast, wait_for_tile

from dispatchd.actors.runtime import System

if TYPE_CHECKING:
    from pika.adapters.blocking_connection import BlockingConnection

Connect = Callable[..., "BlockingConnection"]

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
SECTIONS = ["overview", "connections", "channels", "exchanges", "queues", "topology", "flow", "actors", "log", "admin"]


# --- The frame


def test_login_and_logout(broker: BrokerProcess, open_page: Open, shoot: Shoot) -> None:
    page = open_page(broker.admin_port, "#queues", login=False)
    page.get_by_label("User").fill("guest")
    page.get_by_label("Password").fill("wrong")
    shoot(page, "login")
    page.keyboard.press("Enter")
    expect_text(page.get_by_role("alert"), "not the name and password")
    page.get_by_label("Password").fill("guest")
    press(page, "Log in")
    page.get_by_role("heading", name="Queues").wait_for()
    expect_text(page.locator("#status"), "^live$")
    assert page.evaluate("document.cookie") == ""
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.reload()
    page.get_by_role("heading", name="Queues").wait_for()
    press(page, "Log out")
    page.get_by_label("Password").wait_for()
    page.reload()
    page.get_by_label("Password").wait_for()


def test_who_may_only_look(broker: BrokerProcess, open_page: Open, connect: Connect) -> None:
    connect().channel().queue_declare("looked-at")
    assert api(broker, "PUT", "users/viewer", {"password": "v", "tags": "management"})[0] == 201
    everything = {"configure": "", "write": "", "read": ".*"}
    assert api(broker, "PUT", "permissions/%2F/viewer", everything)[0] == 201
    page = open_page(broker.admin_port, "#queues", login=False)
    page.get_by_label("User").fill("viewer")
    page.get_by_label("Password").fill("v")
    page.keyboard.press("Enter")
    row_of(page, "looked-at").get_by_role("link").click()
    fact(page, "ready", "0")
    expect_text(page.locator("#status"), "^live$")
    assert not page.get_by_role("button", name="Delete…").is_visible()
    assert not page.get_by_role("link", name="Flow").is_visible()
    page.goto(f"http://127.0.0.1:{broker.admin_port}/#log")
    page.get_by_text("This is for users with the tag monitoring.").wait_for()
    page.goto(f"http://127.0.0.1:{broker.admin_port}/#overview")
    wait_for_tile(page, "Connections", "0")  # of its own
    expect_text(page.locator("#status"), "^live$")


def test_sections_by_keyboard(broker: BrokerProcess, open_page: Open) -> None:
    page = open_page(broker.admin_port)
    page.get_by_role("heading", name="Overview").wait_for()
    for title in ("Queues", "Exchanges", "Topology", "Flow", "Actors", "Log", "Overview"):
        page.keyboard.press("g")
        page.keyboard.press(title[0].lower())
        page.get_by_role("heading", name=title, exact=True).wait_for()
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.get_by_label("Filter queues").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("nothing like that")
    page.get_by_text("No queues match this filter.").wait_for()
    assert "name=nothing" in page.url


def test_dark_light_and_as_the_system_has_it(broker: BrokerProcess, open_page: Open, shoot: Shoot) -> None:
    page = open_page(broker.admin_port, color_scheme="dark")
    page.locator(".tile").first.wait_for()

    def brightness() -> int:
        return int(page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"))

    assert brightness() < 60
    shoot(page, "overview-dark")
    page.get_by_role("button", name="Auto").click()
    assert brightness() > 200
    page.reload()
    page.get_by_role("button", name="Light").click()
    assert brightness() < 60
    page.emulate_media(color_scheme="light")
    assert brightness() < 60
    page.get_by_role("button", name="Dark").click()
    assert brightness() > 200


def test_on_a_phone_nothing_is_wider_than_it(
    broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect
) -> None:
    connect().channel().queue_declare("for-the-phone", durable=True)
    page = open_page(broker.admin_port, viewport={"width": 390, "height": 844})
    page.get_by_role("heading", name="Overview").wait_for()
    for section in SECTIONS:
        page.goto(f"http://127.0.0.1:{broker.admin_port}/#{section}")
        page.locator(".tile, .rows tbody a, .picture rect, .sentence, .log div, .listing tbody tr").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, section
        shoot(page, f"phone-{section}")


def test_after_the_broker_was_away(broker: BrokerProcess, open_page: Open) -> None:
    page = open_page(broker.admin_port)
    expect_text(page.locator("#status"), "^live$")
    again = BrokerProcess(broker.persist_dir, "--admin-port", str(broker.admin_port))
    broker.stop()
    expect_text(page.locator("#status"), "not live")
    again.start()
    try:
        expect_text(page.locator("#status"), "^live$")
        wait_for_tile(page, "Connections", "0")
    finally:
        again.stop()
        broker.start()


# --- Figures


def test_overview_is_live(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    channel = connect().channel()
    channel.queue_declare("counted")
    page = open_page(broker.admin_port)
    wait_for_tile(page, "Connections", "1")
    before = int(page.locator(".tile").first.locator("strong").inner_text().replace(",", ""))
    for _ in range(1200):
        channel.basic_publish("", "counted", b"x" * 100)
    wait_for_tile(page, "Ready", f"{before + 1200:,}")
    assert page.locator(".plot canvas").count() == 3
    shoot(page, "overview")
    channel.queue_delete("counted")


def test_lists_link_to_what_they_list(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    channel = connect("worker").channel()
    channel.queue_declare("linked", durable=True)
    channel.queue_bind("linked", "amq.topic", "a.*")
    channel.basic_consume("linked", lambda *_: None, consumer_tag="eater")
    page = open_page(broker.admin_port, "#queues")
    page.get_by_role("link", name="linked", exact=True).click()
    page.get_by_role("cell", name="eater").wait_for()
    page.get_by_role("cell", name="a.*", exact=True).wait_for()
    page.locator(".listing").get_by_role("link", name="->").first.click()
    page.get_by_role("heading", name=re.compile("^Channel")).first.wait_for()
    page.locator(".facts").get_by_role("link", name="->").click()
    fact(page, "its own name", "worker")
    shoot(page, "connection")
    page.get_by_role("link", name="Connections").first.click()
    expect_text(page.locator(".rows"), "worker")


def test_topology(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    channel = connect("drawn client").channel()
    for name in ("drawn.in", "drawn.out"):
        channel.exchange_declare(name, "topic")
    channel.exchange_bind("drawn.out", "drawn.in", "a.#")
    for number in range(6):
        channel.queue_declare(f"drawn.{number}")
        channel.queue_bind(f"drawn.{number}", "drawn.out" if number % 2 else "drawn.in", f"key.{number}")
    channel.basic_consume("drawn.1", lambda *_: None)
    page = open_page(broker.admin_port, "#topology?name=drawn")
    picture = page.locator(".picture svg")
    picture.get_by_text("drawn client").wait_for()
    picture.locator("text").filter(has_text="a.#").wait_for()
    assert picture.locator("rect").count() == 9
    shoot(page, "topology")
    picture.get_by_role("link", name="drawn.1").click()
    expect_text(page.locator("h1"), "drawn.1")


def test_log(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    channel = connect().channel()
    channel.queue_declare("logged")
    page = open_page(broker.admin_port, "#log")
    expect_text(page.locator(".log div"), "is ready: AMQP on port")
    page.evaluate("""fetch("api/queues/%2F/logged", {method: "DELETE", headers: {"X-Requested-With": "x"}})""")
    expect_text(page.locator(".log div"), "'guest' from 127.0.0.1 deleted queue 'logged'")
    shoot(page, "log")
    page.get_by_label("Filter lines").fill("deleted queue")
    page.locator(".log div").filter(has_text="is ready").wait_for(state="hidden")
    page.get_by_label("Level").select_option("ERROR")
    page.locator(".log div").first.wait_for(state="detached")


# --- What is done


def test_publish_peek_get_move_and_purge(
    broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect
) -> None:
    channel = connect().channel()
    for name in ("from", "to"):
        channel.queue_declare(name, durable=True)
    page = open_page(broker.admin_port, "#queues/%2F/from")
    press(page, "Publish…")
    page.get_by_label("Body").fill(EVIL)
    page.get_by_label("Headers (JSON)").fill('{"try": 1')
    press(page, "Publish")
    expect_text(page.locator("dialog .wrong"), "not JSON")
    page.get_by_label("Headers (JSON)").fill('{"try": 1}')
    press(page, "Publish")
    toast(page, "Published")
    fact(page, "ready", "1")
    press(page, "Peek")
    page.locator("pre").filter(has_text=EVIL).wait_for()
    fact(page, "headers", "try: 1")
    fact(page, "delivered", "0")
    press(page, "Get…")
    press(page, "Get")
    toast(page, "1 message")
    fact(page, "delivered", "1")
    shoot(page, "queue")
    press(page, "Move…")
    page.get_by_label("To the queue").fill("nowhere")
    press(page, "Move")
    expect_text(page.locator("dialog .wrong"), "no queue 'nowhere'")
    page.get_by_label("To the queue").fill("to")
    shoot(page, "move")
    press(page, "Move")
    toast(page, "1 moved to to")
    page.goto(page.url.replace("from", "to"))
    fact(page, "ready", "1")
    press(page, "Purge…")
    purge = page.get_by_role("button", name="Purge", exact=True)
    assert purge.is_disabled()
    page.get_by_label("Type the name").fill("to")
    purge.click()
    toast(page, "to is empty")
    fact(page, "ready", "0")


def test_who_has_what_unacknowledged(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    channel = connect().channel()
    channel.queue_declare("held", durable=True)
    for number in range(5):
        channel.basic_publish("", "held", b"x", pika.BasicProperties(message_id=f"message {number}"))
    channel.basic_qos(prefetch_count=3)
    channel.basic_consume("held", lambda *_: None, consumer_tag="slow one")
    channel.connection.process_data_events(0)
    page = open_page(broker.admin_port, "#queues/%2F/held")
    rows = page.locator("section").filter(has_text="Unacknowledged: who has what").locator("tbody tr")
    rows.nth(2).wait_for()
    assert rows.count() == 3
    expect_text(rows.first, "slow one.*message 0")
    shoot(page, "unacknowledged")
    channel.connection.close()
    page.get_by_text("Nothing is out.").wait_for()
    fact(page, "ready", "5")


def test_delete_several_queues(broker: BrokerProcess, open_page: Open, connect: Connect) -> None:
    channel = connect().channel()
    for name in ("bulk 1", "bulk 2", "bulk 3"):
        channel.queue_declare(name)
    page = open_page(broker.admin_port, "#queues?name=bulk")
    for name in ("bulk 1", "bulk 2"):
        page.get_by_label(f"Choose {name}").check()
    page.get_by_text("2 chosen").wait_for()
    press(page, "Delete…")
    page.get_by_label("Type the name").fill("2 queues")
    press(page, "Delete")
    toast(page, "2 deleted")
    expect_text(page.get_by_role("status"), "^1 of ")
    row_of(page, "bulk 3").wait_for()


def test_close_a_connection_with_a_reason(broker: BrokerProcess, open_page: Open, connect: Connect) -> None:
    connection = connect("to be closed")
    page = open_page(broker.admin_port, "#connections")
    page.locator(".rows tr").filter(has_text="to be closed").get_by_role("link").click()
    press(page, "Close…")
    page.get_by_label("Reason").fill("go home")
    press(page, "Close the connection")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="go home"):
        connection.process_data_events(10)
    toast(page, "is closed")


def test_columns_are_chosen_and_rows_reached_by_keyboard(
    broker: BrokerProcess, open_page: Open, connect: Connect
) -> None:
    channel = connect().channel()
    for number in range(3):
        channel.queue_declare(f"row {number}")
    page = open_page(broker.admin_port, "#queues?name=row")
    row_of(page, "row 0").wait_for()
    page.get_by_text("Columns").click()
    page.get_by_label("Consumers").uncheck()
    page.reload()
    row_of(page, "row 0").get_by_role("link").focus()
    assert page.get_by_role("columnheader", name="Consumers").count() == 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect_text(page.locator("h1"), "row 1$")


def test_users_vhosts_and_policies(
    broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect, tmp_path: Path
) -> None:
    page = open_page(broker.admin_port, "#admin")
    press(page, "Add a vhost…")
    page.get_by_label("Name").fill("shop/1")
    press(page, "Add")
    toast(page, "shop/1 is added")
    press(page, "Add a user…")
    page.get_by_label("Name").fill("clerk")
    page.get_by_label("Password").fill("secret")
    page.get_by_label("monitoring").check()
    press(page, "Add")
    toast(page, "clerk is added")
    row = page.locator("tr").filter(has=page.get_by_role("cell", name="clerk", exact=True))
    row.get_by_role("button", name="Permissions…").click()
    page.get_by_label("Vhost").select_option("shop/1")
    page.get_by_label("Configure").fill("")
    page.get_by_label("Write").fill("^orders")
    press(page, "Set")
    expect_text(row, r"monitoring.*shop/1: nothing · \^orders · \.\*")
    assert api(broker, "GET", "whoami", None, "clerk", "secret") == (200, {"name": "clerk", "tags": ["monitoring"]})
    press(page, "Add a policy…")
    page.get_by_label("Name", exact=True).fill("short")
    page.get_by_label("Names that match").fill("^governed")
    page.get_by_label("Definition (JSON)").fill('{"max-length": 2, "nonsense": 1}')
    press(page, "Add")
    expect_text(page.locator("dialog .wrong"), "nonsense")
    page.get_by_label("Definition (JSON)").fill('{"max-length": 2}')
    press(page, "Add")
    toast(page, "short is in force")
    channel = connect().channel()
    channel.queue_declare("governed")
    for _ in range(5):
        channel.basic_publish("", "governed", b"x")
    assert channel.queue_declare("governed", passive=True).method.message_count == 2
    shoot(page, "admin")
    with page.expect_download() as download:
        page.get_by_text("Download all definitions").click()
    kept = tmp_path / "definitions.json"
    download.value.save_as(kept)
    row.get_by_role("button", name="Delete…").click()
    page.get_by_label("Type the name").fill("clerk")
    press(page, "Delete")
    toast(page, "clerk is deleted")
    row.wait_for(state="detached")
    page.locator("input[type=file]").set_input_files(kept)
    press(page, "Load")
    toast(page, "definitions.json is loaded")
    row.wait_for()


# --- Names


def test_hostile_names_are_text(broker: BrokerProcess, open_page: Open, shoot: Shoot, connect: Connect) -> None:
    connection = connect(f"{EVIL}\r\nX-Injected: 1")
    channel = connection.channel()
    names = [EVIL, "a/b%2Fc", "?x=1#y", "...", "'\" & <b>", "\u202eright to left", "日本語"]
    for name in names:
        channel.queue_declare(name)
        channel.queue_bind(name, "amq.topic", name)
        channel.basic_publish("", name, name.encode(), pika.BasicProperties(message_id=name, headers={name: name}))
        channel.basic_consume(name, lambda *_: None, consumer_tag=f"of {name}")
    connection.process_data_events(0)
    page = open_page(broker.admin_port, "#queues")
    for name in names:
        page.goto(f"http://127.0.0.1:{broker.admin_port}/#queues")
        page.locator(".rows").get_by_role("link", name=name, exact=True).click()
        page.locator("h1 .name").filter(has_text=name).wait_for()
        page.get_by_role("cell", name=f"of {name}", exact=True).first.wait_for()
        page.locator("section").filter(has_text="Unacknowledged: who has what").locator("tbody tr").first.wait_for()
    page.goto(f"http://127.0.0.1:{broker.admin_port}/#connections")
    page.locator(".rows").get_by_text("X-Injected: 1").wait_for()
    shoot(page, "hostile-connection")
    page.goto(f"http://127.0.0.1:{broker.admin_port}/#exchanges/%2F/amq.topic")
    page.get_by_role("cell", name=EVIL, exact=True).first.wait_for()
    shoot(page, "hostile-exchange")
    assert "owned" not in page.title()
    assert page.locator("main img, main script").count() == 0
    for name in names:
        channel.queue_delete(name)


# --- Many


def test_ten_thousand_queues_and_actors(open_page: Open, shoot: Shoot) -> None:
    system = System()
    for number in range(10_000):
        begin(FakeQueue(system, f"queue {number:05}", told=queue_facts(number)))
    begin(FakeConnection(system, "here -> there", told=connection_facts(blocked_by_credit=True)))
    busy = begin(FakeExchange(system, "the one"))
    busy.actor_inbox.pause()
    for _ in range(7):
        busy.ref.tell(Explode())
    with serving(system, lambda *_: ME) as server:
        page = open_page(server.port, "#queues")
        page.get_by_text("10,000 queues").wait_for()
        rows = page.locator(".rows tbody tr")
        assert rows.count() == 100
        page.get_by_role("columnheader", name="Ready").get_by_role("button").click()
        expect_text(rows.first, "queue 09999")
        page.get_by_label("Next page").click()
        expect_text(rows.first, "queue 09899")
        page.get_by_label("Last page").click()
        row_of(page, "queue 00000").wait_for()
        page.get_by_label("Filter queues").fill("queue 0123")
        page.get_by_text("10 of 10,000 queues").wait_for()
        assert rows.count() == 10
        page.get_by_label("regex").check()
        page.get_by_label("Filter queues").fill("0001[1-3]$")
        page.get_by_text("3 of 10,000 queues").wait_for()
        page.get_by_label("Filter queues").fill("(")
        expect_text(page.get_by_role("alert"), "no regular expression")
        page.get_by_label("Filter queues").fill("")
        page.get_by_text("10,000 queues", exact=True).wait_for()
        shoot(page, "ten-thousand")
        page.goto(f"http://127.0.0.1:{server.port}/#connections")
        expect_text(row_of(page, "here -> there"), "running, held back")
        page.goto(f"http://127.0.0.1:{server.port}/#actors")
        page.get_by_text("10,002 actors").wait_for()
        expect_text(rows.first, "the one")
        page.get_by_role("columnheader", name="Mailbox").get_by_role("button").click()
        expect_text(rows.first, "the one")
        page.get_by_label("Filter actors").fill("queue 0999")
        page.get_by_text("10 of 10,002 actors").wait_for()
        page.get_by_label("Filter actors").fill("")
        page.get_by_role("button", name="paused 1").click()
        page.get_by_text("1 of 10,002 actors").wait_for()
        shoot(page, "ten-thousand-actors")
