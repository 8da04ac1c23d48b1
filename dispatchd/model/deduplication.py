"""Deduplication as in LavinMQ: a message is a duplicate if one of its headers has a value that came before."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from dispatchd.amqp.errors import AmqpSyntaxError
from dispatchd.amqp.properties import decode_properties
from dispatchd.model.arguments import CACHE_SIZE, CACHE_TTL, DEDUPLICATION_HEADER, MESSAGE_DEDUPLICATION
from dispatchd.model.entry import NEVER
from dispatchd.model.exchanges.headers import comparable

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message

DEFAULT_CACHE_SIZE: Final = 128


def make_deduplication(arguments: dict[str, Any]) -> Deduplication | None:
    """What a queue or an exchange with these arguments, already checked, compares with; None if it need not."""
    return Deduplication(arguments) if arguments.get(MESSAGE_DEDUPLICATION) else None


class Deduplication:
    """The values that came last, at most `x-cache-size`, each for its time to live: the oldest makes room for the next.

    Times are in milliseconds. `size` is how many values there may be; `dropped` counts the duplicates.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._header: str = arguments.get(DEDUPLICATION_HEADER, DEDUPLICATION_HEADER)
        self._trace: bytes = self._header.encode()  # what the header leaves in properties that are not decoded
        self.size: int = arguments.get(CACHE_SIZE, DEFAULT_CACHE_SIZE)
        self._ttl: int = arguments.get(CACHE_TTL, NEVER)
        self._seen: OrderedDict[object, int] = OrderedDict()  # from value to when it is forgotten, the oldest first
        self.dropped: i64 = 0

    def __len__(self) -> int:
        return len(self._seen)

    def new_ones(self, messages: list[Message], now: int) -> list[Message]:
        """Those that are no duplicates, of earlier ones or of one another; they are remembered."""
        taken: list[Message] = []
        for message in messages:
            headers = self._headers(message)
            if headers is None:
                taken.append(message)
            elif not self._drops(headers, now):
                self._remember(headers, now)
                taken.append(message)
        return taken

    def is_duplicate(self, message: Message, now: int) -> bool:
        """Whether to drop this message; if not, and if it is taken, it has to be remembered."""
        headers = self._headers(message)
        return headers is not None and self._drops(headers, now)

    def remember(self, message: Message, now: int) -> None:
        """Take note of a message that is no duplicate."""
        headers = self._headers(message)
        if headers is not None:
            self._remember(headers, now)

    def recall(self, messages: list[Message], now: int) -> None:
        """Take note of what was taken before a restart, in that order; it may have been duplicates by then."""
        for message in messages[max(len(messages) - self.size, 0) :]:
            self.remember(message, now)

    def forget(self, messages: list[Message]) -> None:
        """Let these come again, because they were not taken after all."""
        for message in messages:
            headers = self._headers(message)
            if headers is not None:
                self._seen.pop(comparable(headers[self._header]), None)

    def _headers(self, message: Message) -> dict[str, Any] | None:
        """The headers, if what is compared is among them. Malformed properties count as no headers."""
        if self._trace not in message.header:
            return None
        try:
            headers = decode_properties(message.header).headers
        except AmqpSyntaxError:
            return None
        return headers if headers is not None and headers.get(self._header) is not None else None

    def _drops(self, headers: dict[str, Any], now: int) -> bool:
        if self._seen.get(comparable(headers[self._header]), now) <= now:
            return False
        self.dropped += 1
        return True

    def _remember(self, headers: dict[str, Any], now: int) -> None:
        ttl = self._ttl
        own = headers.get(CACHE_TTL)
        if isinstance(own, int) and not isinstance(own, bool) and own >= 0:
            ttl = own
        value = comparable(headers[self._header])
        self._seen.pop(value, None)
        self._seen[value] = now + ttl
        if len(self._seen) > self.size:
            self._seen.popitem(last=False)
