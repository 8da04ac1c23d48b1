import pytest

from dispatchd.amqp.frame_parser import ChannelInput, FrameParser
from dispatchd.amqp.methods import BasicPublish
from dispatchd.amqp.properties import decode_properties
from dispatchd.perf.messages import BATCH_MESSAGES, BATCH_OCTETS, Messages


def parsed(data: bytes) -> list[ChannelInput]:
    parser = FrameParser()
    parser.open_channel(1)
    return parser.feed(data)


@pytest.mark.parametrize("size", [12, 13, 100, 4088, 4089, 20_000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_batch_is_messages_that_tell_when_they_were_sent(size: int, count: int) -> None:
    messages = Messages(BasicPublish("direct", "key", mandatory=True), size, persistent=True, frame_max=4096)
    [found] = parsed(bytes(messages.batch(count, 123_456_789)))
    assert len(found.published) == count
    for each in found.published:
        assert (each.exchange, each.routing_key, each.mandatory, each.persistent) == ("direct", "key", True, True)
        assert each.body == bytes(4) + (123_456_789).to_bytes(8, "big") + bytes(size - 12)


def test_transient_messages_say_so() -> None:
    messages = Messages(BasicPublish("", "q"), 12, persistent=False, frame_max=4096)
    [found] = parsed(bytes(messages.batch(1, 0)))
    assert decode_properties(found.published[0].header).delivery_mode == 1


def test_each_batch_has_its_time() -> None:
    for size in (12, 20_000):
        messages = Messages(BasicPublish("", "q"), size, persistent=False, frame_max=4096)
        for count, now in ((3, 1), (2, 2)):
            [found] = parsed(bytes(messages.batch(count, now)))
            assert [each.body[4:12] for each in found.published] == [now.to_bytes(8, "big")] * count


@pytest.mark.parametrize(("size", "most"), [(12, BATCH_MESSAGES), (1 << 20, 1)])
def test_small_messages_leave_together(size: int, most: int) -> None:
    assert Messages(BasicPublish("", "q"), size, persistent=False, frame_max=0x20000).most == most


def test_a_batch_has_a_limit_in_octets() -> None:
    messages = Messages(BasicPublish("", "q"), 4000, persistent=False, frame_max=0x20000)
    assert BATCH_OCTETS // 2 < len(messages.batch(messages.most, 0)) <= BATCH_OCTETS
