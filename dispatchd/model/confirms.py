"""Publisher confirms of one channel: every number is settled once, in as few frames as may be.

`multiple` covers only a run that begins right after all that is settled and holds nothing open or refused, because
strict clients drop a connection whose cumulative ack spans a number that was nacked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from dispatchd.amqp.encoder import encode_ack, encode_nack

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message


class ConfirmLedger:
    """Numbers publishes from 1 and turns settled ones into basic.ack and basic.nack frames."""

    def __init__(self, channel: i64) -> None:
        self.channel: i64 = channel
        self.last: i64 = 0
        self._settled_up_to: i64 = 0
        self._settled_beyond: set[i64] = set()

    def number(self, messages: list[Message]) -> None:
        """Give each message the next number."""
        last = self.last
        for message in messages:
            last += 1
            message.sequence = last
        self.last = last

    def outstanding(self) -> int:
        """How many numbers are not settled yet."""
        return self.last - self._settled_up_to - len(self._settled_beyond)

    def settle(self, messages: list[Message], refused: list[Message]) -> bytes:
        """Settle all of `messages`, those also in `refused` negatively; returns the frames to send."""
        refused_numbers: set[i64] = {message.sequence for message in refused}
        frames: list[bytes] = []
        first: i64 = 0
        last: i64 = 0
        at_floor = False
        for message in messages:
            number = message.sequence
            if number in refused_numbers:
                self._end_run(frames, first, last, at_floor)
                first = 0
                frames.append(encode_nack(self.channel, number, False, False))
            elif first and at_floor and number == last + 1:
                last = number
            else:
                self._end_run(frames, first, last, at_floor)
                first = last = number
                at_floor = number == self._settled_up_to + 1
            self._advance(number)
        self._end_run(frames, first, last, at_floor)
        return b"".join(frames)

    def _end_run(self, frames: list[bytes], first: i64, last: i64, at_floor: bool) -> None:
        if first:
            frames.append(encode_ack(self.channel, last, at_floor and last > first))

    def _advance(self, number: i64) -> None:
        if number != self._settled_up_to + 1:
            self._settled_beyond.add(number)
            return
        self._settled_up_to = number
        while self._settled_beyond and self._settled_up_to + 1 in self._settled_beyond:
            self._settled_up_to += 1
            self._settled_beyond.discard(self._settled_up_to)
