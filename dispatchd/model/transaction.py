"""What a transactional channel has been asked for and not been told to do yet (AMQP 0-9-1, class tx)."""

from __future__ import annotations

from mypy_extensions import i64

from dispatchd.amqp.message import Message


class Transaction:
    """Publishes and acknowledgements since the last commit or rollback.

    `acks` and `rejects` hold delivery tag * 2 + multiple; a reject comes with whether it requeues.
    """

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.acks: list[i64] = []
        self.rejects: list[tuple[i64, bool]] = []
