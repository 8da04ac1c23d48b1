"""The recent history exchange (RabbitMQ's plugin): a fanout whose last messages go to whoever is bound to it later.

They are kept in memory only, as there.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from dispatchd.amqp.errors import AmqpSyntaxError, PreconditionFailed
from dispatchd.amqp.field_table import Timestamp
from dispatchd.amqp.message import Message, bare_copy
from dispatchd.amqp.properties import decode_properties
from dispatchd.model.erlang import shown_binary

RECENT_HISTORY: Final = "x-recent-history"
HISTORY_LENGTH: Final = "x-recent-history-length"
NO_STORE: Final = "x-recent-history-no-store"
DEFAULT_LENGTH: Final = 20

_TRACE: Final = NO_STORE.encode()  # what the header leaves in properties that are not decoded


def check_history_arguments(arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for a length that is no positive integer, with the plugin's text."""
    length = arguments.get(HISTORY_LENGTH, DEFAULT_LENGTH)
    if isinstance(length, int) and not isinstance(length, (bool, Timestamp)) and length > 0:
        return
    shown = shown_binary(length) if isinstance(length, str) else str(length).lower()  # 1.5, true
    raise PreconditionFailed(f"Invalid argument {shown}, '{HISTORY_LENGTH}' must be a positive integer")


def make_history(type_name: str, arguments: dict[str, Any]) -> History | None:
    """What an exchange of this type, with arguments already checked, remembers; None if it need not."""
    return History(arguments.get(HISTORY_LENGTH, DEFAULT_LENGTH)) if type_name == RECENT_HISTORY else None


class History:
    """The last `length` messages that came, but for those whose header says that they are not to be kept."""

    def __init__(self, length: int) -> None:
        self._messages: deque[Message] = deque(maxlen=length)

    def __len__(self) -> int:
        return len(self._messages)

    def note(self, messages: list[Message]) -> None:
        """Keep these."""
        for message in messages:
            if _TRACE not in message.header or not _forbids(message):
                self._messages.append(message)

    def copies(self) -> list[Message]:
        """What is kept, the oldest first, to be sent as if it had been published now."""
        return [_copy(message) for message in self._messages]


def _forbids(message: Message) -> bool:
    try:
        headers = decode_properties(message.header).headers or {}
    except AmqpSyntaxError:
        return False
    return headers.get(NO_STORE) is True


def _copy(message: Message) -> Message:
    copy = bare_copy(message)
    copy.copy_to(message.copy_keys or [])
    return copy
