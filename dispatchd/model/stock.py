"""What a queue has of messages in one state, beside how many they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message


class Stock:
    """Octets of bodies; how many messages are persistent, and octets of their bodies."""

    __slots__ = ("octets", "persistent", "persistent_octets")

    def __init__(self, octets: i64 = 0, persistent: i64 = 0, persistent_octets: i64 = 0) -> None:
        self.octets: i64 = octets
        self.persistent: i64 = persistent
        self.persistent_octets: i64 = persistent_octets

    def add(self, message: Message) -> None:
        """One more is there."""
        size: i64 = message.size
        self.octets += size
        if message.persistent:
            self.persistent += 1
            self.persistent_octets += size

    def remove(self, message: Message) -> None:
        """One less."""
        size: i64 = message.size
        self.octets -= size
        if message.persistent:
            self.persistent -= 1
            self.persistent_octets -= size

    def add_all(self, other: Stock) -> None:
        """What is somewhere else comes here."""
        self.octets += other.octets
        self.persistent += other.persistent
        self.persistent_octets += other.persistent_octets

    def remove_all(self, other: Stock) -> None:
        """What is somewhere else is here no more."""
        self.octets -= other.octets
        self.persistent -= other.persistent
        self.persistent_octets -= other.persistent_octets
