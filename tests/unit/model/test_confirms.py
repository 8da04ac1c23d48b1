"""Confirms as a strict client sees them: it drops a connection that settles a number twice, or too many at once."""

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame
from unit.model.consuming import message

from dispatchd.amqp.message import Message
from dispatchd.model.confirms import ConfirmLedger


class StrictClient:
    """Published numbers that it waits for, and those that it heard of."""

    def __init__(self, channel: int = 1) -> None:
        self.channel = channel
        self.open: list[int] = []
        self.acked: list[int] = []
        self.nacked: list[int] = []
        self.frames = 0

    def published(self, count: int) -> None:
        last = len(self.open) + len(self.acked) + len(self.nacked)
        self.open += range(last + 1, last + count + 1)

    def received(self, data: bytes) -> None:
        while data:
            size, channel, settlement = frame.unmarshal(data)
            data = data[size:]
            self.frames += 1
            assert channel == self.channel
            assert isinstance(settlement, commands.Basic.Ack | commands.Basic.Nack)
            tag = settlement.delivery_tag
            assert tag in self.open, f"{tag} was settled before, or never published"
            covered = [number for number in self.open if number <= tag] if settlement.multiple else [tag]
            self.open = [number for number in self.open if number not in covered]
            (self.acked if isinstance(settlement, commands.Basic.Ack) else self.nacked).extend(covered)


def publish(ledger: ConfirmLedger, client: StrictClient, count: int) -> list[Message]:
    published = [message() for _ in range(count)]
    ledger.number(published)
    client.published(count)
    return published


def test_one_frame_settles_a_run_from_the_first_open_number() -> None:
    ledger, client = ConfirmLedger(1), StrictClient()
    published = publish(ledger, client, 5)
    client.received(ledger.settle(published, []))
    assert (client.acked, client.frames, ledger.outstanding()) == ([1, 2, 3, 4, 5], 1, 0)


def test_a_gap_is_not_spanned() -> None:
    ledger, client = ConfirmLedger(1), StrictClient()
    first, second, third, fourth = publish(ledger, client, 4)
    client.received(ledger.settle([second, fourth], []))
    assert (client.acked, ledger.outstanding()) == ([2, 4], 2)
    client.received(ledger.settle([first, third], []))
    assert (client.acked, client.open, ledger.outstanding()) == ([2, 4, 1, 3], [], 0)


def test_a_run_that_does_not_begin_at_the_first_open_number_is_settled_one_by_one() -> None:
    ledger, client = ConfirmLedger(1), StrictClient()
    first, *others = publish(ledger, client, 4)
    client.received(ledger.settle(others, []))
    assert (client.open, client.frames) == ([1], 3)
    client.received(ledger.settle([first], []))
    assert client.open == []


def test_a_refusal_in_a_run_is_a_nack_of_its_own() -> None:
    ledger, client = ConfirmLedger(1), StrictClient()
    published = publish(ledger, client, 5)
    client.received(ledger.settle(published, [published[2]]))
    assert (client.acked, client.nacked, client.frames) == ([1, 2, 4, 5], [3], 3)


def test_numbers_go_on_from_batch_to_batch() -> None:
    ledger, client = ConfirmLedger(7), StrictClient(7)
    batches = [publish(ledger, client, 2) for _ in range(3)]
    assert [[one.sequence for one in batch] for batch in batches] == [[1, 2], [3, 4], [5, 6]]
    assert (ledger.last, ledger.outstanding()) == (6, 6)


@settings(max_examples=200)
@given(st.data())
def test_every_number_is_settled_once_whatever_the_order(data: st.DataObject) -> None:
    ledger, client = ConfirmLedger(1), StrictClient()
    waiting: list[list[Message]] = []
    refused_ever: set[int] = set()
    settled_ever: set[int] = set()
    for size in [*data.draw(st.lists(st.integers(0, 8), max_size=12)), 0]:
        published = publish(ledger, client, size)
        groups = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))  # the exchange of each message
        waiting += [
            group for name in range(3) if (group := [m for m, g in zip(published, groups, strict=True) if g == name])
        ]
        done = data.draw(st.integers(0, len(waiting)))
        for _ in range(len(waiting) if size == 0 else done):
            batch = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            refused = data.draw(st.lists(st.sampled_from(batch), max_size=3))
            settled_ever |= {one.sequence for one in batch}
            refused_ever |= {one.sequence for one in refused}
            client.received(ledger.settle(batch, refused))
            assert set(client.nacked) == refused_ever
            assert set(client.acked) == settled_ever - refused_ever
            assert ledger.outstanding() == len(client.open)
    assert client.open == []
