"""Delivery tags of one channel, and what is out under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from dispatchd.amqp.encoder import Frames, Piece, encode_get_ok, write_deliver
from dispatchd.amqp.frame_parser import HIGHEST_TAG
from dispatchd.model.flow import DELIVERY_OVERHEAD

if TYPE_CHECKING:
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.flow import ChannelWindow

ALL_KNOWN: Final = -1


def acknowledgement(tag: int, multiple: bool) -> int:
    """A settlement as `FrameParser` and `DeliveryLedger` have it: one number, whatever tag a client makes up."""
    return min(tag, HIGHEST_TAG) * 2 + multiple


class DeliveryLedger:
    """The only owner of what one channel was given and has not settled, ordered by delivery tag.

    `aside` is what a transaction has named, and waits for its end: nothing else can name it, and its room stays taken.
    The window counts what consumers were given; a basic.get is free. `redelivered` counts what was out before.
    """

    def __init__(self, channel: i64, frame_max: i64, window: ChannelWindow) -> None:
        self.channel: i64 = channel
        self.frame_max: i64 = frame_max
        self.window: ChannelWindow = window
        self.last_tag: i64 = 0
        self.redelivered: i64 = 0
        self.unacked: dict[i64, QueueEntry] = {}
        self.aside: dict[i64, QueueEntry] = {}

    def encode_deliveries(self, consumer: Consumer, entries: list[QueueEntry]) -> list[Piece]:
        """Give each entry its tag and return the frames of all of them; if that fails, none was given one."""
        frames = Frames()
        channel = self.channel
        frame_max = self.frame_max
        prefix = consumer.deliver_prefix
        tag = self.last_tag
        size: i64 = 0
        again: i64 = 0
        for entry in entries:
            tag += 1
            message = entry.message
            if entry.redelivered:
                again += 1
                if entry.shown is not None:
                    message = entry.shown
            size += message.size + DELIVERY_OVERHEAD
            write_deliver(frames, channel, prefix, tag, entry.redelivered, message, frame_max)
        if not consumer.no_ack:
            unacked = self.unacked
            tag = self.last_tag
            for entry in entries:
                tag += 1
                unacked[tag] = entry
        self.last_tag = tag
        self.redelivered += again
        self.window.reserved -= size
        return frames.all()

    def encode_get_ok(self, entry: QueueEntry, message_count: i64, no_ack: bool) -> list[Piece]:
        """The answer to a basic.get; the entry is noted unless no acknowledgement is expected."""
        tag = self.last_tag + 1
        message = entry.shown or entry.message
        answer = encode_get_ok(self.channel, tag, entry.redelivered, message, message_count, self.frame_max)
        self.last_tag = tag
        if entry.redelivered:
            self.redelivered += 1
        if not no_ack:
            self.unacked[tag] = entry
        return answer

    def settle(self, acks: list[i64]) -> tuple[list[tuple[Any, list[QueueEntry]]], int]:
        """Take out what `acks` (tag * 2 + multiple) name: the entries of each queue, and the first unknown tag.

        ALL_KNOWN stands for "none": what follows an unknown tag isn't settled (RabbitMQ: 406 closes the channel).
        """
        unacked = self.unacked
        by_queue: dict[Any, list[QueueEntry]] = {}
        current: Any = None
        batch: list[QueueEntry] = []
        unknown: i64 = ALL_KNOWN
        for ack in acks:
            tag: i64 = ack >> 1
            if ack & 1:
                if tag != 0 and tag not in unacked:
                    unknown = tag
                    break
                taken = self.take_multiple(tag)
            else:
                entry = unacked.pop(tag, None)
                if entry is None:
                    unknown = tag
                    break
                if entry.consumer is not None:
                    self.window.unacked -= 1
                if current is entry.queue:
                    batch.append(entry)
                    continue
                taken = [entry]
            for entry in taken:
                if current is not entry.queue:
                    current = entry.queue
                    found = by_queue.get(current)
                    if found is None:
                        found = by_queue[current] = []
                    batch = found
                batch.append(entry)
        return list(by_queue.items()), unknown

    def take_multiple(self, tag: i64) -> list[QueueEntry]:
        """Take out everything up to `tag`; 0 means everything (AMQP 0-9-1, basic.ack, rule "multiple")."""
        taken: list[QueueEntry] = []
        for known in self._tags_up_to(tag):
            entry = self.unacked.pop(known)
            if entry.consumer is not None:
                self.window.unacked -= 1
            taken.append(entry)
        return taken

    def _tags_up_to(self, tag: i64) -> list[i64]:
        tags: list[i64] = []
        for known in self.unacked:
            if known > tag and tag != 0:
                break
            tags.append(known)
        return tags

    def set_aside(self, ack: i64) -> list[i64]:
        """Keep what `ack` (tag * 2 + multiple) names for the end of a transaction; returns its acks, one for each tag.

        Raises KeyError for an unknown tag.
        """
        tag: i64 = ack >> 1
        if tag not in self.unacked and ack != 1:
            raise KeyError(tag)
        tags = self._tags_up_to(tag) if ack & 1 else [tag]
        for known in tags:
            self.aside[known] = self.unacked.pop(known)
        return [known * 2 for known in tags]

    def restore(self) -> None:
        """Put back what was set aside."""
        if self.aside:
            self.unacked = dict(sorted({**self.unacked, **self.aside}.items()))
            self.aside = {}

    def take_all(self) -> list[tuple[Any, list[QueueEntry]]]:
        """Take out everything, grouped by queue: basic.recover, or the end of the channel."""
        groups, _ = self.settle([1])
        return groups
