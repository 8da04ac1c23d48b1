from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from unit.model.consuming import message, sealed

from dispatchd import is_compiled
from dispatchd.amqp.message import Message
from dispatchd.model.entry import NOT_STORED, STAGED, STORED, QueueEntry
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.records import (
    SHARED,
    WHOLE,
    decode_content,
    entry_key,
    id_key,
    mark_row,
    marked_position,
    read_id,
    split_entry_key,
)
from dispatchd.model.transaction import Transaction


def entry(body: bytes = b"", position: int = 1, queues: int = 1) -> QueueEntry:
    made = message(body)
    made.queues = queues
    return QueueEntry(made, "queue", position)


class Disk:
    """What the batches of a journal leave behind, by the words of `Changes` and in the plainest way."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], bytes] = {}
        self.contents: dict[int, bytes] = {}
        self.marks: dict[int, int] = {}
        self.definitions: dict[bytes, bytes] = {}

    def apply(self, changes: Changes) -> None:
        for queue in map(read_id, changes.dropped_queues):
            self.entries = {key: value for key, value in self.entries.items() if key[0] != queue}
            self.marks.pop(queue, None)
        for key in changes.deleted_entries:
            self.entries.pop(split_entry_key(key), None)
        for key in changes.deleted_contents:
            self.contents.pop(read_id(key), None)  # a batch that failed may have been the one to write it
        for key, record in changes.definitions.items():
            if record is None:
                self.definitions.pop(key, None)
            else:
                self.definitions[key] = record
        for key, value in changes.contents:
            assert self.contents.setdefault(read_id(key), value) == value
        for key, value in changes.entries:
            assert split_entry_key(key) not in self.entries
            self.entries[split_entry_key(key)] = value
        for key, value in changes.marks:
            self.marks[read_id(key)] = marked_position(value)

    def bodies(self) -> dict[tuple[int, int], bytes]:
        return {key: self._message(value).body for key, value in self.entries.items()}

    def _message(self, value: bytes) -> Message:
        if value[0] == WHOLE:
            return decode_content(value, 1)
        assert value[0] == SHARED
        return decode_content(self.contents[read_id(value, 1)])


def test_an_add_and_a_delete_that_meet_cost_nothing() -> None:
    journal = Journal()
    one, other = entry(b"1", 1), entry(b"2", 2)
    journal.add(1, [one, other])
    journal.delete(1, [one])
    assert (journal.live_adds(), journal.added, journal.cancelled) == (1, 2, 1)
    journal.delete(1, [other])
    assert journal.is_empty()
    assert sealed(journal).is_empty()


def test_an_add_that_was_sealed_is_deleted_by_the_next_batch() -> None:
    journal = Journal()
    one = entry(b"1")
    journal.add(1, [one])
    assert len(sealed(journal).entries) == 1
    assert one.slot == STORED
    journal.delete(1, [one])
    assert one.slot == NOT_STORED
    assert not journal.is_empty()
    assert len(sealed(journal).deleted_entries) == 1


def test_deleting_what_was_never_stored_or_twice_changes_nothing() -> None:
    journal = Journal()
    one = entry()
    journal.delete(1, [one])
    assert journal.is_empty()
    journal.add(1, [one])
    journal.delete(1, [one, one])
    assert journal.is_empty()


def test_a_shared_content_is_written_once_and_goes_with_its_last_entry() -> None:
    journal, disk = Journal(next_message_id=40), Disk()
    shared = message(b"shared")
    shared.queues = 2
    first, second = QueueEntry(shared, "a", 1), QueueEntry(shared, "b", 1)
    journal.add(1, [first])
    disk.apply(sealed(journal))
    journal.add(2, [second])
    changes = sealed(journal)
    assert changes.contents == []
    disk.apply(changes)
    assert disk.bodies() == {(1, 1): b"shared", (2, 1): b"shared"}
    assert list(disk.contents) == [40]
    journal.delete(1, [first])
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"shared"}
    journal.delete(2, [second])
    disk.apply(sealed(journal))
    assert (disk.entries, disk.contents) == ({}, {})


def test_a_message_that_another_queue_takes_later_is_stored_twice_and_both_go() -> None:
    journal, disk = Journal(), Disk()
    shared = message(b"shared")
    shared.queues = 1
    first, second, third = (QueueEntry(shared, queue, 1) for queue in "abc")
    journal.add(1, [first])
    disk.apply(sealed(journal))
    shared.queues = 3
    journal.add(2, [second])
    journal.add(3, [third])
    disk.apply(sealed(journal))
    assert (len(disk.bodies()), len(disk.contents)) == (3, 1)
    journal.delete(1, [first])
    journal.delete(3, [third])
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"shared"}
    journal.delete(2, [second])
    disk.apply(sealed(journal))
    assert (disk.entries, disk.contents) == ({}, {})


def test_entries_that_nobody_has_in_memory_can_be_deleted() -> None:
    journal, disk = Journal(references={7: 2}), Disk()
    shared = message(b"shared")
    shared.queues = 2
    here, there = QueueEntry(shared, "a", 3), QueueEntry(shared, "b", 1)
    journal.add(1, [entry(b"whole", 2), here])
    journal.add(2, [there])
    disk.apply(sealed(journal))
    journal.delete_places(1, [2, 3], [shared.message_id])
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"shared"}
    journal.release([shared.message_id])
    assert sealed(journal).deleted_contents == [id_key(shared.message_id)]
    journal.release([7, 7])
    assert sealed(journal).deleted_contents == [id_key(7)]


def test_a_journal_that_shares_nothing_writes_every_entry_whole() -> None:
    journal, disk = Journal(shares=False), Disk()
    shared = message(b"shared")
    shared.queues, shared.message_id = 2, 7
    first, second = QueueEntry(shared, "a", 1), QueueEntry(shared, "b", 1)
    journal.add(1, [first])
    journal.add(2, [second])
    disk.apply(sealed(journal))
    assert (len(disk.bodies()), disk.contents) == (2, {})
    journal.delete(1, [first])
    journal.delete(2, [second])
    disk.apply(sealed(journal))
    assert disk.entries == {}


def test_a_content_whose_last_entry_went_is_written_again_for_a_late_one() -> None:
    journal, disk = Journal(), Disk()
    shared = message(b"shared")
    shared.queues = 2
    first, late = QueueEntry(shared, "a", 1), QueueEntry(shared, "b", 1)
    journal.add(1, [first])
    disk.apply(sealed(journal))
    journal.delete(1, [first])
    journal.add(2, [late])
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"shared"}


def test_entries_come_in_the_order_of_their_keys_in_each_queue() -> None:
    journal = Journal()
    for position in range(1, 6):
        journal.add(2, [entry(b"", position)])
        journal.add(1, [entry(b"", position)])
    keys = [split_entry_key(key) for key, _ in sealed(journal).entries]
    for queue in (1, 2):
        assert [key for key in keys if key[0] == queue] == [(queue, position) for position in range(1, 6)]


def test_only_the_last_mark_and_the_last_definition_count() -> None:
    journal = Journal()
    journal.mark(1, 3)
    journal.mark(1, 5)
    journal.define(b"a", b"old")
    journal.define(b"a", None)
    journal.define(b"a", b"new")
    changes = sealed(journal)
    assert changes.marks == [mark_row(1, 5)]
    assert changes.definitions == {b"a": b"new"}


def test_a_dropped_queue_leaves_nothing_and_the_others_everything() -> None:
    journal, disk = Journal(), Disk()
    stored, waiting, other = entry(b"stored", 1), entry(b"waiting", 2), entry(b"other", 1)
    journal.add(1, [stored])
    journal.mark(1, 1)
    disk.apply(sealed(journal))
    journal.add(1, [waiting])
    journal.add(2, [other])
    journal.mark(1, 2)
    journal.drop_queue(1)
    assert waiting.slot == NOT_STORED
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"other"}
    assert disk.marks == {}
    journal.delete(1, [stored, waiting])
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"other"}


@pytest.mark.parametrize(
    "change",
    [
        lambda journal: journal.add(1, [entry()]),
        lambda journal: journal.mark(1, 1),
        lambda journal: journal.drop_queue(1),
        lambda journal: journal.define(b"key", b"record"),
        lambda journal: journal.define(b"key", None),
    ],
)
def test_a_journal_knows_that_it_has_something_to_say(change: Callable[[Journal], None]) -> None:
    journal = Journal()
    assert journal.is_empty()
    change(journal)
    assert not journal.is_empty()
    assert not sealed(journal).is_empty()
    assert journal.is_empty()


# Transactions


def test_a_transaction_is_in_one_batch() -> None:
    journal, disk, transaction = Journal(), Disk(), Transaction("channel")
    old, one, other = entry(b"old"), entry(b"1"), entry(b"2")
    journal.add(3, [old])
    disk.apply(sealed(journal))
    journal.stage(transaction, 1, [one], [])
    journal.stage(transaction, 3, [], [old])
    journal.stage(transaction, 2, [other], [])
    assert (journal.is_empty(), journal.open_transactions()) == (True, 1)
    assert sealed(journal).is_empty()
    assert journal.merge(transaction)
    assert (journal.live_adds(), journal.open_transactions()) == (2, 0)
    disk.apply(sealed(journal))
    assert disk.bodies() == {(1, 1): b"1", (2, 1): b"2"}


def test_what_comes_behind_the_merge_is_a_change_like_others() -> None:
    journal, disk, transaction = Journal(), Disk(), Transaction("channel")
    old, late = entry(b"old"), entry(b"late")
    journal.add(1, [old])
    assert not journal.merge(transaction)
    journal.stage(transaction, 2, [late], [])
    journal.stage(transaction, 1, [], [old])
    assert journal.open_transactions() == 0
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"late"}


def test_a_transaction_of_what_is_not_stored_stages_nothing() -> None:
    journal, transaction = Journal(), Transaction("channel")
    journal.stage(transaction, 1, [], [entry()])
    assert journal.open_transactions() == 0
    assert not journal.merge(transaction)


def test_what_is_gone_before_the_merge_is_not_added() -> None:
    journal, disk, transaction = Journal(), Disk(), Transaction("channel")
    settled, kept = entry(b"settled", 1), entry(b"kept", 2)
    journal.stage(transaction, 1, [settled, kept], [])
    assert settled.slot == STAGED
    journal.delete(1, [settled])
    journal.merge(transaction)
    disk.apply(sealed(journal))
    assert disk.bodies() == {(1, 2): b"kept"}


@pytest.mark.parametrize("first", ["publisher", "consumer"])
def test_what_one_transaction_adds_and_another_deletes(first: str) -> None:
    journal, disk = Journal(), Disk()
    publisher, consumer = Transaction("publisher"), Transaction("consumer")
    passed_on, other = entry(b"passed on", 1), entry(b"other", 2)
    journal.stage(publisher, 1, [passed_on, other], [])
    journal.stage(consumer, 1, [], [passed_on])
    journal.merge(publisher if first == "publisher" else consumer)
    disk.apply(sealed(journal))
    assert disk.bodies() == ({(1, 1): b"passed on", (1, 2): b"other"} if first == "publisher" else {})
    journal.merge(consumer if first == "publisher" else publisher)
    disk.apply(sealed(journal))
    assert disk.bodies() == {(1, 2): b"other"}


def test_what_a_transaction_adds_to_a_queue_that_is_dropped() -> None:
    journal, disk, transaction = Journal(), Disk(), Transaction("channel")
    shared = message(b"shared")
    shared.queues = 2
    dropped, kept = QueueEntry(shared, "a", 1), QueueEntry(shared, "b", 1)
    journal.stage(transaction, 1, [dropped], [])
    journal.stage(transaction, 2, [kept], [])
    journal.drop_queue(1)
    journal.merge(transaction)
    disk.apply(sealed(journal))
    assert disk.bodies() == {(2, 1): b"shared"}
    journal.delete(2, [kept])
    disk.apply(sealed(journal))
    assert (disk.entries, disk.contents) == ({}, {})


def test_a_part_that_is_staged_twice_counts_once() -> None:
    journal, disk, transaction = Journal(), Disk(), Transaction("channel")
    old, new = entry(b"old", 1), entry(b"new", 2)
    journal.add(1, [old])
    disk.apply(sealed(journal))
    for _ in range(2):
        journal.stage(transaction, 1, [new], [old])
    journal.merge(transaction)
    journal.merge(transaction)
    assert journal.live_adds() == 1
    journal.stage(transaction, 1, [new], [old])
    disk.apply(sealed(journal))
    assert disk.bodies() == {(1, 2): b"new"}


def test_a_batch_that_failed_is_as_if_it_had_not_been_sealed() -> None:
    journal, disk = Journal(), Disk()
    shared = message(b"shared")
    shared.queues = 2
    first, gone, mine, other = entry(b"1", 1), entry(b"2", 2), QueueEntry(shared, "a", 3), QueueEntry(shared, "b", 1)
    journal.add(1, [first, gone, mine])
    journal.mark(1, 1)
    journal.define(b"old", b"1")
    failed = journal.seal()
    journal.add(2, [other])
    journal.delete(1, [gone])
    journal.mark(1, 2)
    journal.define(b"old", b"2")
    journal.reopen(failed)
    assert (journal.live_adds(), journal.live_bytes) == (3, 13)
    journal.delete(1, [mine])
    disk.apply(sealed(journal))
    assert disk.bodies() == {(1, 1): b"1", (2, 1): b"shared"}
    assert (disk.marks, disk.definitions) == ({1: 2}, {b"old": b"2"})
    journal.delete(2, [other])
    disk.apply(sealed(journal))
    assert disk.contents == {}


def test_what_makes_room_can_go_first_but_for_transactions() -> None:
    journal, disk, transaction = Journal(), Disk(), Transaction("channel")
    acked, bound, new, added = entry(b"acked", 1), entry(b"bound", 2), entry(b"new", 3), entry(b"added", 4)
    journal.add(1, [acked, bound])
    disk.apply(sealed(journal))
    journal.add(1, [new])
    journal.delete(1, [acked])
    journal.stage(transaction, 1, [added], [bound])
    journal.merge(transaction)
    for _ in range(2):
        assert journal.has_removals()
        disk.apply(journal.seal_removals(10))
        assert disk.bodies() == {(1, 2): b"bound"}
        failed = journal.seal()
        assert failed.deleted_entries == [entry_key(1, 2)]
        journal.reopen(failed)
        assert not journal.has_removals()
        journal.define(b"gone", None)
    disk.apply(sealed(journal))
    assert disk.bodies() == {(1, 3): b"new", (1, 4): b"added"}


def test_room_is_made_in_parts_and_shared_contents_go_last() -> None:
    journal, disk = Journal(), Disk()
    shared = [message(b"%d" % number) for number in range(3)]
    for each in shared:
        each.queues = 2
    queues = {queue: [QueueEntry(each, None, at) for at, each in enumerate(shared, 1)] for queue in (1, 2)}
    for queue, entries in queues.items():
        journal.add(queue, entries)
    journal.define(b"q", b"queue")
    disk.apply(sealed(journal))
    for queue, entries in queues.items():
        journal.delete(queue, entries)
    journal.define(b"q", None)
    left = []
    while journal.has_removals():
        disk.apply(journal.seal_removals(2))
        left.append((len(disk.entries), len(disk.contents), len(disk.definitions)))
    assert left == [(4, 3, 1), (2, 3, 1), (0, 3, 1), (0, 1, 1), (0, 0, 0)]


QUEUES = 3
PURE = not is_compiled()
Place = tuple[int, int]


class OpenTransaction:
    """What a transaction has to change on the disk, and when."""

    def __init__(self) -> None:
        self.transaction = Transaction("channel")
        self.added: dict[Place, bytes] = {}
        self.deleted: set[Place] = set()


@dataclass
class Sealed:
    """A batch that is still to be written, and what the disk has to hold then."""

    changes: Changes
    live: int
    expected: dict[Place, bytes]
    marks: dict[int, int]
    definitions: dict[bytes, bytes]
    has_dropped: bool


class AnyJournal(RuleBasedStateMachine):
    """A journal whose batches reach the disk at random moments, beside what the disk has to hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = Journal()
        self.disk = Disk()
        self.bodies = count(1)
        self.positions = [count(1) for _ in range(QUEUES)]
        self.ids = list(range(QUEUES))
        self.next_id = QUEUES
        self.held: list[tuple[int, QueueEntry]] = []
        self.expected: dict[Place, bytes] = {}
        self.open = [OpenTransaction() for _ in range(2)]
        self.marks: dict[int, int] = {}
        self.definitions: dict[bytes, bytes] = {}
        self.has_dropped = False
        self.sealed: Sealed | None = None

    @rule(
        queues=st.sets(st.integers(0, QUEUES - 1), min_size=1),
        copies=st.integers(1, 3),
        number=st.none() | st.integers(0, 1),
    )
    def publish(self, queues: set[int], copies: int, number: int | None) -> None:
        """Of itself, or in one of the transactions."""
        published = []
        opened = None if number is None else self.open[number]
        for _ in range(copies):
            one = message(f"{next(self.bodies)}".encode())
            one.queues = len(queues)
            published.append(one)
        for queue in queues:
            entries = [QueueEntry(one, queue, next(self.positions[queue])) for one in published]
            if opened is None:
                self.journal.add(self.ids[queue], entries)
            else:
                self.journal.stage(opened.transaction, self.ids[queue], entries, [])
            for made in entries:
                self.held.append((self.ids[queue], made))
                added = self.expected if opened is None else opened.added
                added[self.ids[queue], made.position] = made.message.body

    @rule(data=st.data(), number=st.none() | st.integers(0, 1))
    def settle(self, data: st.DataObject, number: int | None) -> None:
        """Likewise, whatever added it."""
        if not self.held:
            return
        queue_id, settled = data.draw(st.sampled_from(self.held))
        self.held.remove((queue_id, settled))
        if number is None:
            self.journal.delete(queue_id, [settled])
            self.forget({(queue_id, settled.position)})
        else:
            self.journal.stage(self.open[number].transaction, queue_id, [], [settled])
            self.open[number].deleted.add((queue_id, settled.position))

    @rule(data=st.data(), queue=st.integers(0, QUEUES - 1))
    def route_on(self, data: st.DataObject, queue: int) -> None:
        """To one more queue, a message that has been in others: another exchange was slower."""
        if not self.held:
            return
        _, known = data.draw(st.sampled_from(self.held))
        known.message.queues += 1
        made = QueueEntry(known.message, queue, next(self.positions[queue]))
        self.journal.add(self.ids[queue], [made])
        self.held.append((self.ids[queue], made))
        self.expected[self.ids[queue], made.position] = made.message.body

    def forget(self, places: set[Place]) -> None:
        for entries in (self.expected, *(opened.added for opened in self.open)):
            for place in places & entries.keys():
                del entries[place]

    @rule(number=st.integers(0, 1))
    def merge(self, number: int) -> None:
        merged = self.open[number]
        self.expected.update(merged.added)
        was_staged = self.journal.merge(merged.transaction)
        assert was_staged or not merged.added
        self.open[number] = OpenTransaction()
        self.forget(merged.deleted)

    @rule(queue=st.integers(0, QUEUES - 1), position=st.integers(1, 9))
    def mark(self, queue: int, position: int) -> None:
        self.journal.mark(self.ids[queue], position)
        self.marks[self.ids[queue]] = position

    @rule(queue=st.integers(0, QUEUES - 1))
    def drop(self, queue: int) -> None:
        dropped = self.ids[queue]
        self.journal.drop_queue(dropped)
        held_there = {*self.expected, *(place for opened in self.open for place in opened.added)}
        self.forget({place for place in held_there if place[0] == dropped})
        self.marks.pop(dropped, None)
        self.ids[queue] = self.next_id
        self.next_id += 1
        self.has_dropped = True

    @rule(key=st.sampled_from([b"a", b"b"]), record=st.none() | st.binary(max_size=3))
    def define(self, key: bytes, record: bytes | None) -> None:
        self.journal.define(key, record)
        if record is None:
            self.definitions.pop(key, None)
        else:
            self.definitions[key] = record

    @rule()
    def seal(self) -> None:
        """Close a batch: what happens before it is encoded and written changes nothing in it."""
        self.write()
        live = self.journal.live_adds()
        self.sealed = Sealed(
            self.journal.seal(),
            live,
            self.expected.copy(),
            self.marks.copy(),
            self.definitions.copy(),
            self.has_dropped,
        )

    @rule(encoded=st.integers(0, 3))
    def fail(self, encoded: int) -> None:
        """The store is full, or the disk fails: the batch goes back, however far it was encoded."""
        if self.sealed is None:
            return
        batch, self.sealed = self.sealed, None
        batch.changes.encode(encoded)
        self.journal.reopen(batch.changes)

    @rule(most=st.integers(1, 10))
    def make_room(self, most: int) -> None:
        """Nothing but removals, and so many at most; what a transaction removes goes with what it adds."""
        self.write()
        before = set(self.disk.entries)
        changes = self.journal.seal_removals(most)
        assert not changes.encode(9)
        assert (changes.entries, changes.contents, changes.marks) == ([], [], [])
        assert set(changes.definitions.values()) <= {None}
        assert (
            0 < len(changes.deleted_entries) + len(changes.deleted_contents) <= most or not self.journal.has_removals()
        )
        self.disk.apply(changes)
        assert set(self.disk.entries) <= before
        named = {read_id(value, 1) for value in self.disk.entries.values() if value[0] == SHARED}
        assert named <= set(self.disk.contents)

    @rule()
    def write(self) -> None:
        if self.sealed is None:
            return
        batch, self.sealed = self.sealed, None
        while batch.changes.encode(1):
            pass
        assert len(batch.changes.entries) == batch.live
        self.disk.apply(batch.changes)
        assert self.disk.bodies() == batch.expected
        assert self.disk.marks == batch.marks
        assert self.disk.definitions == batch.definitions
        named = {read_id(value, 1) for value in self.disk.entries.values() if value[0] == SHARED}
        assert named <= set(self.disk.contents)
        if not batch.has_dropped:  # what a dropped queue shared goes when its holders let go, or at the next start
            assert named == set(self.disk.contents)

    @invariant()
    def counts_what_is_waiting(self) -> None:
        waiting = sum(entry.message.size for entry in self.journal._adds if entry is not None) if PURE else None
        assert waiting in (None, self.journal.live_bytes)
        assert 0 <= self.journal.live_adds() <= len(self.expected)
        assert self.journal.cancelled <= self.journal.added

    def teardown(self) -> None:
        self.seal()
        self.merge(0)
        self.merge(1)
        assert self.journal.open_transactions() == 0
        self.seal()
        self.write()


TestAnyJournal = AnyJournal.TestCase
TestAnyJournal.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
