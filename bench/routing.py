"""Measure what routing costs: the compiled tables of `dispatchd.model.exchanges` alone, in CPU time, no broker.

    .venv/bin/python bench/routing.py
    .venv/bin/python bench/routing.py --turns 9 --bindings 10 10000 topic

A turn routes batches of BATCH messages, as the exchange of a broker does; the median of the turns is printed. Each
message matches a handful of bindings at most, however many there are.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from itertools import count, product

import dispatchd
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.exchanges.types import make_routing_table
from dispatchd.model.router import Router

BATCH = 100
MESSAGES = 5_000
QUEUES = 1_000
BINDINGS = (10, 1_000, 10_000, 100_000)
HEADERS_BINDINGS = (10, 100, 1_000)
SAME, REPEATING, FRESH = "the same key", "1,000 keys that repeat", "keys that never repeat"
TRAFFIC = (SAME, REPEATING, FRESH)
LETTERS = "abcdefghijklmnopqrstuvwxyz"

ANOTHER = Destination("queue", "another")

never_before = count()

Text = Callable[[int], str]
Key = Callable[[int, int], str]


def mixed_pattern(number: int) -> str:
    """What users bind: an event of any order, errors of one service wherever, all of one region, and plain keys."""
    return (
        f"orders.*.created{number}",
        f"#.service{number}.error",
        f"eu{number}.#",
        f"orders.{number}.shipped",
    )[number % 4]


def mixed_key(number: int, distinct: int) -> str:
    """A key for the pattern of this number, one of as many as `distinct` can be."""
    return (
        f"orders.{distinct}.created{number}",
        f"eu{distinct}.rack.service{number}.error",
        f"eu{number}.shop.order.{distinct}",
        f"orders.{number}.shipped" if distinct < QUEUES else f"orders.{number}.x{distinct}",
    )[number % 4]


PATTERNS: dict[str, tuple[Text, Key]] = {
    "exact": (lambda n: f"orders.{n}.created", lambda n, d: f"orders.{n if d < QUEUES else f'x{d}'}.created"),
    "with `*`": (lambda n: f"orders.*.created{n}", lambda n, d: f"orders.{d}.created{n}"),
    "with `#`": (
        lambda n: f"#.service{n}.error" if n % 2 else f"eu{n}.#",
        lambda n, d: f"eu{d}.rack.service{n}.error" if n % 2 else f"eu{n}.shop.order.{d}",
    ),
    "mixed": (mixed_pattern, mixed_key),
}


def a_table(type_name: str, bindings: int, key_of: Text) -> Router:
    """An exchange with so many bindings to QUEUES queues."""
    table = make_routing_table(type_name)
    queues = [Destination("queue", str(number)) for number in range(QUEUES)]
    for number in range(bindings):
        table.bind(Binding("x", queues[number % QUEUES], key_of(number), {}))
    return Router(table)


def batches(traffic: str, bindings: int, key_of: Key) -> list[list[Message]]:
    """One turn's messages; `key_of` makes a key from a binding's number and a second number, which may be new."""

    def key(position: int) -> str:
        if traffic == SAME:
            return key_of(1, 1)
        number = position * 7 % min(1_000, bindings)
        return key_of(number, position % 1_000 if traffic == REPEATING else QUEUES + next(never_before))

    positions = (position % 1_000 if traffic == REPEATING else position for position in range(MESSAGES))
    some = [Message("x", key(position), b"") for position in positions]
    return [some[start : start + BATCH] for start in range(0, MESSAGES, BATCH)]


def cost(router: Router, turns: int, messages: Callable[..., list[list[Message]]], *arguments: object) -> float:
    """The median CPU time of a message, in µs. The first turn fills what is cached and does not count."""
    figures = []
    for _ in range(turns + 1):
        some = messages(*arguments)
        began = time.process_time()
        for batch in some:
            router.route(batch)
        figures.append((time.process_time() - began) / sum(map(len, some)))
    return statistics.median(figures[1:]) * 1e6


def row(*cells: object) -> None:
    """Print one row of a table."""
    print("|", " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells), "|", flush=True)


def heading(title: str, *cells: object) -> None:
    """Print a table's title and head."""
    print(f"\n{title}\n")
    row(*cells)
    row(*("---" for _ in cells))


def topic(bindings: list[int], turns: int) -> None:
    """Patterns times keys times number of bindings, then what a bind costs and what no pattern may cost."""
    heading("Topic, µs a message", "patterns", "keys", *(f"{number:,} bindings" for number in bindings))
    for name, (pattern_of, key_of) in PATTERNS.items():
        routers = {number: a_table("topic", number, pattern_of) for number in bindings}
        for traffic in TRAFFIC:
            row(name, traffic, *(cost(routers[n], turns, batches, traffic, n, key_of) for n in bindings))
    heading("Topic, binds and unbinds, µs", "", *(f"{number:,} bindings" for number in bindings))
    pattern_of, key_of = PATTERNS["mixed"]
    routers = {number: a_table("topic", number, pattern_of) for number in bindings}
    row(
        "a bind, a message, an unbind, a message",
        *(bind_cost(routers[n], n, pattern_of, key_of, turns) for n in bindings),
    )
    row(f"a message of {REPEATING}, a bind or unbind each 100", *(churn_cost(routers[n], n, turns) for n in bindings))
    worst(turns)


def bind_cost(router: Router, bindings: int, pattern_of: Text, key_of: Key, turns: int) -> float:
    """CPU time of a bind, a message, an unbind and a message, in µs, where 1,000 keys were routed before."""
    figures = []
    some = batches(REPEATING, bindings, key_of)
    for number in range(turns * 4):
        for batch in some:
            router.route(batch)
        binding = Binding("x", ANOTHER, pattern_of(bindings + number), {})
        began = time.process_time()
        router.table.bind(binding)
        router.route(some[0][:1])
        router.table.unbind(binding)
        router.route(some[0][:1])
        figures.append(time.process_time() - began)
    return statistics.median(figures) * 1e6


def churn_cost(router: Router, bindings: int, turns: int) -> float:
    """A message's cost where a queue comes or goes before each batch, in µs; binds and unbinds are included."""
    pattern_of, key_of = PATTERNS["mixed"]
    figures = []
    for turn in range(turns):
        some = batches(REPEATING, bindings, key_of)
        began = time.process_time()
        for number, batch in enumerate(some):
            pattern = pattern_of(bindings + turn * MESSAGES + number // 2)
            change = router.table.unbind if number % 2 else router.table.bind
            change(Binding("x", ANOTHER, pattern, {}))
            router.route(batch)
        figures.append((time.process_time() - began) / MESSAGES)
    return statistics.median(figures) * 1e6


WORDS = [f"{letter}{digit}" for letter, digit in product(LETTERS, "0123")]
WORST: tuple[tuple[str, list[str], list[str]], ...] = (
    ("`#.a.#.b.#`", ["#.a.#.b.#"], ["a", "b"] * 61),
    ("`#.a.#.b.#`, each two of 26 letters", [f"#.{a}.#.{b}.#" for a, b in product(LETTERS, LETTERS)], [*LETTERS * 4]),
    ("39 of `#.a.#.a…#`", [".".join(["#.a"] * n) + ".#" for n in range(1, 40)], ["a"] * 122),
    ("`#.*.#.*…`, 60 times, and `b`", [".".join(["#.*"] * 60) + ".b"], ["a"] * 122),
    ("each `*` or `a`, up to 9 words", [".".join(p) for n in range(10) for p in product("a*", repeat=n)], ["a"] * 8),
    ("`#.a0.#.b3.#`, each two of 100", [f"#.{a}.#.{b}.#" for a, b in product(WORDS[:100], WORDS[:100])], WORDS[:81]),
)
"""Patterns and words that somebody has thought out; one word more makes each key a new one."""


def worst(turns: int) -> None:
    """What no key may cost."""
    heading("Topic, the worst, µs a message", "patterns", "bindings", "of which match", "words in the key", "µs")
    for name, patterns, words in WORST:
        table = make_routing_table("topic")
        for number, pattern in enumerate(patterns):
            table.bind(Binding("x", Destination("queue", str(number)), pattern, {}))
        matched = len(table.match(one_by_one(words)[0][0]))
        figure = cost(Router(table), turns, one_by_one, words)
        row(name, f"{len(patterns):,}", f"{matched:,}", len(words) + 1, figure)


def one_by_one(words: list[str]) -> list[list[Message]]:
    """A few messages with these words and a new one in their keys."""
    return [[Message("x", ".".join([*words, f"{next(never_before):011}"]), b"")] for _ in range(20)]


def direct(bindings: list[int], turns: int) -> None:
    """A queue for each key, and keys that nobody has bound."""
    heading("Direct, µs a message", "keys", *(f"{number:,} bindings" for number in bindings))
    routers = {number: a_table("direct", number, str) for number in bindings}
    for traffic in TRAFFIC:
        row(traffic, *(cost(routers[n], turns, batches, traffic, n, direct_key) for n in bindings))


def direct_key(number: int, distinct: int) -> str:
    """A key that is bound, or, if it has to be new, one that is not."""
    return str(number if distinct < QUEUES else -distinct)


def consistent_hash(bindings: list[int], turns: int) -> None:
    """Queues of weight 1. After an unbind the buckets are laid out anew."""
    heading("x-consistent-hash, µs a message", "keys", *(f"{number:,} bindings" for number in bindings))
    routers = {}
    for number in bindings:
        routers[number] = Router(make_routing_table("x-consistent-hash"))
        for each in range(number):
            routers[number].table.bind(Binding("x", Destination("queue", str(each)), "1", {}))
    for traffic in TRAFFIC:
        row(traffic, *(cost(routers[n], turns, batches, traffic, n, hash_key) for n in bindings))
    figures = (bind_cost(routers[n], n, lambda _: "1", hash_key, turns) for n in bindings)
    row("a bind, a message, an unbind, a message", *figures)


def hash_key(_number: int, distinct: int) -> str:
    """Any key has its queue."""
    return str(distinct)


def headers(_bindings: list[int], turns: int) -> None:
    """Every binding is looked at, as in RabbitMQ: a message fits one at most."""
    heading("Headers, µs a message", "x-match", *(f"{number:,} bindings" for number in HEADERS_BINDINGS))
    properties = [Properties(headers={"kind": f"k{n}", "region": "eu", "size": n}) for n in range(1_000)]
    for x_match in ("all", "any"):
        figures = []
        for number in HEADERS_BINDINGS:
            table = make_routing_table("headers")
            for each in range(number):
                arguments = {"x-match": x_match, "kind": f"k{each}", "size": each}
                table.bind(Binding("x", Destination("queue", str(each)), "", arguments))
            some = [[make_message("x", "", each, b"") for each in properties]]
            figures.append(cost(Router(table), turns, list, some))
        row(x_match, *figures)


TABLES = {"topic": topic, "direct": direct, "headers": headers, "x-consistent-hash": consistent_hash}


def main() -> None:
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "types", nargs="*", choices=[*TABLES, []], metavar="TYPE", help=f"of {', '.join(TABLES)}; default: all"
    )
    parser.add_argument("--turns", type=int, default=5, help="turns that count (default: %(default)s)")
    parser.add_argument("--bindings", type=int, nargs="+", default=list(BINDINGS), metavar="N")
    given = parser.parse_args()
    gc.disable()
    kind = "compiled" if dispatchd.is_compiled() else "interpreted"
    print(f"Python {sys.version.split()[0]}, {kind}, medians of {given.turns} turns of {MESSAGES:,} messages")
    for name in given.types or TABLES:
        TABLES[name](given.bindings, given.turns)


if __name__ == "__main__":
    main()
