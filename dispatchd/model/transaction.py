"""What a transactional channel has been asked for and not been told to do yet (AMQP 0-9-1, class tx)."""

from __future__ import annotations

from typing import Any

from mypy_extensions import i64

from dispatchd.amqp.message import Message


class Transaction:
    """Publishes and settlements since the last commit or rollback, in their order.

    `settled` holds what `DeliveryLedger.set_aside` has returned for each method, with the outcome that it asks for:
    what the queues are to be told, which is for the actors to know.
    """

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.settled: list[tuple[list[i64], Any]] = []
