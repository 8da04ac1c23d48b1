import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.model.routing import bind, message, names, queue

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding
from dispatchd.model.exchanges.matched import CACHE_LIMIT
from dispatchd.model.exchanges.topic import TopicTable, split_words


def matches(pattern: list[str], words: list[str]) -> bool:
    """The definition of a topic match, as short as it gets."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(matches(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


@pytest.mark.parametrize(
    ("pattern", "key", "matched"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#", "", True),
        ("#", "a.b", True),
        ("*", "", False),
        ("", "", True),
        ("", "a", False),
        ("#.z", "z", True),
        ("#.#", "", True),
        ("#.*", "", False),
        ("#.*.#", "a", True),
        ("*.*.1.#", "x.y.1", True),
        ("a-b:c.d", "a-b:c.d", True),
        ("käse.*", "käse.celery@host", True),
        ("a..b", "a..b", True),
        ("a.*.b", "a..b", True),
        ("a.b", "A.b", False),
        ("a.b*", "a.bc", False),
        (".", ".", True),
        ("a.#.b", "a.b.b", True),
        ("a.#.b", "a" + ".c" * 120 + ".b", True),
        ("#.b.*", "a" + ".c" * 120 + ".b", False),
        ("#.b.*.#", "a.b" + ".c" * 120, True),
        ("#.b.*.b.#", "b.b" + ".c" * 120 + ".b.c.b", True),
        ("#.b.*.b.#.b.b", "b.b" + ".c" * 120 + ".b.c.b", False),
        (".".join("*" * 128), "." * 127, True),
    ],
)
def test_what_patterns_match(pattern: str, key: str, matched: bool) -> None:
    table = TopicTable()
    bind(table, queue("q"), pattern)
    assert names(table.match(message(key))) == (["q"] if matched else [])


words = st.lists(st.sampled_from(["a", "b", "", "*", "#"]), max_size=6).map(".".join)
keys = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=7).map(".".join)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), words), max_size=25),
    st.lists(keys, min_size=1, max_size=6),
)
def test_the_trie_matches_what_the_definition_matches(steps: list[tuple[bool, int, str]], sent: list[str]) -> None:
    table = TopicTable()
    queues = [queue(str(number)) for number in range(4)]
    bound: set[tuple[int, str]] = set()
    for add, number, pattern in steps:
        binding = Binding("x", queues[number], pattern, {})
        if add:
            table.bind(binding)
            bound.add((number, pattern))
        else:
            table.unbind(binding)
            bound.discard((number, pattern))
        for key in sent:  # between the changes, so that the cache has something to forget
            found = names(table.match(message(key)))
            wanted = {str(n) for n, p in bound if matches(split_words(p), split_words(key))}
            assert sorted(found) == sorted(wanted), key


def test_a_queue_with_many_matching_patterns_is_matched_once() -> None:
    table = TopicTable()
    q = queue("q")
    for pattern in ("#", "a.#", "#.b", "a.*", "a.b"):
        bind(table, q, pattern)
    assert table.match(message("a.b")) == [q]


def test_unbinding_everything_leaves_an_empty_trie() -> None:
    table = TopicTable()
    bindings = [bind(table, queue("q"), pattern) for pattern in ("a.b.c", "a.#.c", "*.b", "#", "", "a")]
    for binding in bindings:
        table.unbind(binding)
    assert table._root.is_empty


def test_many_hashes_against_a_long_key_take_no_time() -> None:
    table = TopicTable()
    for number in range(1, 40):
        bind(table, queue(str(number)), ".".join(["#.a"] * number) + ".#")
    bind(table, queue("never"), ".".join(["#.a"] * 60) + ".b")
    started = time.thread_time()
    assert len(table.match(message(".".join(["a"] * 127)))) == 39
    assert time.thread_time() - started < 1, "the naive search would need years"


def test_the_cache_of_results_is_bounded() -> None:
    table = TopicTable()
    q = queue("q")
    bind(table, q, "a.#")
    sent = Message("x", "", b"")
    for number in range(CACHE_LIMIT // 2 + 10):
        sent.routing_key = f"a.{number}"
        assert table.match(sent) == [q]
    assert 0 < len(table._matched._found) <= CACHE_LIMIT // 2
