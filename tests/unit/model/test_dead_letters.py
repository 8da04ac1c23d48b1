from typing import Any

import pytest

from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties, decode_properties
from dispatchd.model.copies import address_copies
from dispatchd.model.dead_letters import EXPIRED, MAXLEN, REJECTED, dead_letter, is_cycle

NOW = 1_700_000_000


def message(**properties: Any) -> Message:
    return make_message("x", "key", Properties(**properties), b"body")


def headers_of(dead: Message) -> dict[str, Any]:
    return decode_properties(dead.header).headers or {}


def died(dead: Message, queue: str, reason: str) -> Message:
    return dead_letter(dead, reason, queue, "dlx", None, NOW)


def test_the_first_death_has_headers_of_its_own() -> None:
    dead = dead_letter(message(delivery_mode=2, headers={"mine": 1}), REJECTED, "q", "dlx", "dead", NOW)
    assert (dead.exchange, dead.routing_key, dead.body, dead.persistent) == ("dlx", "dead", b"body", True)
    assert headers_of(dead) == {
        "mine": 1,
        "x-first-death-reason": "rejected",
        "x-first-death-queue": "q",
        "x-first-death-exchange": "x",
        "x-death": [
            {"count": 1, "reason": "rejected", "queue": "q", "time": NOW, "exchange": "x", "routing-keys": ["key"]}
        ],
    }


def test_the_expiration_moves_into_the_history() -> None:
    dead = died(message(expiration="5"), "q", EXPIRED)
    assert decode_properties(dead.header).expiration is None
    assert headers_of(dead)["x-death"][0]["original-expiration"] == "5"


@pytest.mark.parametrize(("routing_key", "stays"), [(None, True), ("dead", False)])
def test_another_routing_key_takes_the_copies_away(routing_key: str | None, stays: bool) -> None:
    dead = dead_letter(message(headers={"CC": ["copy"]}), REJECTED, "q", "dlx", routing_key, NOW)
    assert ("CC" in headers_of(dead)) == stays
    assert headers_of(dead)["x-death"][0]["routing-keys"] == ["key", "copy"]


def test_copies_die_with_their_keys_unless_there_is_another() -> None:
    sent = message(headers={"CC": ["cc"], "BCC": ["bcc"]})
    address_copies(sent)
    dead = died(sent, "q", EXPIRED)
    assert (dead.copy_keys, dead.visited) == (["cc", "bcc"], set())
    assert headers_of(dead)["x-death"][0]["routing-keys"] == ["key", "cc"]
    assert dead_letter(sent, EXPIRED, "q", "dlx", "dead", NOW).copy_keys is None
    sent.copy_keys = None  # as it comes out of the store
    assert died(sent, "q", EXPIRED).copy_keys == ["cc"]


def test_the_same_death_again_counts_and_comes_first() -> None:
    dead = died(died(died(message(), "a", REJECTED), "b", EXPIRED), "a", REJECTED)
    assert [(death["queue"], death["count"]) for death in headers_of(dead)["x-death"]] == [("a", 2), ("b", 1)]
    assert headers_of(dead)["x-first-death-queue"] == "a"


def test_counts_have_64_bits_as_rabbitmq_sends_them() -> None:
    dead = died(died(message(), "a", REJECTED), "b", EXPIRED)
    for sent in dead, died(dead, "a", REJECTED):
        assert sent.header.count(b"\x05countl") == 2


def deaths(dead: Message) -> list[tuple[str, str, int | None]]:
    return [(death["queue"], death["reason"], death.get("count")) for death in headers_of(dead)["x-death"]]


def test_a_death_alone_without_a_count_stays_so_until_it_comes_again() -> None:
    uncounted = {"queue": "a", "reason": "rejected"}
    lone = message(headers={"x-death": ["strange", uncounted]})
    assert deaths(died(lone, "b", EXPIRED)) == [("b", "expired", 1), ("a", "rejected", None)]
    assert deaths(died(lone, "a", REJECTED)) == [("a", "rejected", 1)]


def test_deaths_without_counts_are_grouped_and_counted() -> None:
    history = [{"queue": queue, "reason": "expired"} for queue in "aabca"]
    dead = died(message(headers={"x-death": history}), "q", REJECTED)
    assert deaths(dead) == [("q", "rejected", 1), ("c", "expired", 1), ("b", "expired", 1), ("a", "expired", 3)]
    dead = died(message(headers={"x-death": history}), "a", EXPIRED)
    assert deaths(dead) == [("a", "expired", 4), ("c", "expired", 1), ("b", "expired", 1)]


def test_of_deaths_that_are_the_same_the_first_is_kept_with_its_count() -> None:
    history = [{"queue": "a", "reason": "expired", "count": 5}, {"queue": "a", "reason": "expired", "count": 3}]
    assert deaths(died(message(headers={"x-death": history}), "q", REJECTED)) == [
        ("q", "rejected", 1),
        ("a", "expired", 5),
    ]


def test_what_a_client_puts_into_a_history_does_no_harm() -> None:
    history: list[Any] = [{"queue": ["a"], "reason": {}}, {"count": "many"}, 5, {"queue": ["a"], "reason": {}}]
    kept = headers_of(died(message(headers={"x-death": history}), "q", REJECTED))["x-death"][1:]
    assert kept == [{"count": "many"}, {"queue": ["a"], "reason": {}, "count": 2}]


def test_the_order_of_older_deaths_changes_with_every_hop() -> None:
    dead = message()
    for queue in "abcd":
        dead = died(dead, queue, EXPIRED)
    assert [queue for queue, _, _ in deaths(dead)] == ["d", "b", "a", "c"]


def test_the_same_queue_for_another_reason_is_another_death() -> None:
    dead = died(died(message(), "a", MAXLEN), "a", EXPIRED)
    assert [(death["reason"], death["count"]) for death in headers_of(dead)["x-death"]] == [
        ("expired", 1),
        ("maxlen", 1),
    ]


@pytest.mark.parametrize("nonsense", ["text", 5, {"a": 1}])
def test_a_history_that_is_none_begins_anew(nonsense: Any) -> None:
    dead = died(message(headers={"x-death": nonsense}), "a", REJECTED)
    assert [death["queue"] for death in headers_of(dead)["x-death"]] == ["a"]


def test_what_comes_back_by_itself_is_a_cycle() -> None:
    once = died(message(), "a", EXPIRED)
    assert is_cycle(once, "a")
    assert not is_cycle(once, "b")
    assert is_cycle(died(once, "b", MAXLEN), "a")


def test_what_somebody_rejected_is_no_cycle() -> None:
    assert not is_cycle(died(message(), "a", REJECTED), "a")
    assert not is_cycle(died(died(message(), "a", EXPIRED), "b", REJECTED), "a")
    assert not is_cycle(message(), "a")
    assert not is_cycle(message(headers={"x-death": ["strange", {"queue": "a"}]}), "a")
