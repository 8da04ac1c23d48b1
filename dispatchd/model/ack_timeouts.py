"""How long a queue waits for the acknowledgement of a delivery (`x-consumer-timeout`, RabbitMQ 3.12)."""

from typing import Any, Final

from mypy_extensions import i64

from dispatchd.model.ledger import DeliveryLedger

CONSUMER_TIMEOUT: Final = "x-consumer-timeout"
LOOKS_IN_A_TIMEOUT: Final = 5
LONGEST_PAUSE: Final = 60_000


class AckTimeouts:
    """Finds what one channel has had for too long, without a time noted with each delivery.

    Every look notes how far the delivery tags had come by then. So a delivery is found two pauses late at most. Times
    are in milliseconds, of a clock that never goes back.
    """

    def __init__(self) -> None:
        self._timeouts: dict[Any, i64] = {}
        self._looks: list[tuple[i64, i64]] = []  # (time, last tag), for each time that the tag was another one

    def watch(self, queue: Any, timeout: i64) -> None:
        """Wait this long for acknowledgements of what this queue has delivered."""
        self._timeouts[queue] = timeout

    @property
    def pause(self) -> int:
        """How long to wait between two looks; 0 if there is nothing to look for."""
        if not self._timeouts:
            return 0
        return max(min(min(self._timeouts.values()) // LOOKS_IN_A_TIMEOUT, LONGEST_PAUSE), 1)

    def look(self, now: i64, ledger: DeliveryLedger) -> int:
        """The timeout that a delivery has exceeded; 0 if none has."""
        if not self._looks or self._looks[-1][1] != ledger.last_tag:
            self._looks.append((now, ledger.last_tag))
        latest_due: dict[Any, i64] = {
            queue: self._last_tag_at(now - timeout) for queue, timeout in self._timeouts.items()
        }
        latest = max(latest_due.values(), default=0)
        for tag, entry in ledger.unacked.items():
            if tag > latest:
                break
            if tag <= latest_due.get(entry.queue, 0):
                return self._timeouts[entry.queue]
        self._forget_looks_before(now - max(self._timeouts.values(), default=0))
        return 0

    def _last_tag_at(self, time: i64) -> i64:
        tag: i64 = 0
        for looked_at, last_tag in self._looks:
            if looked_at > time:
                break
            tag = last_tag
        return tag

    def _forget_looks_before(self, time: i64) -> None:
        """The last one before that still says which tags there were then."""
        while len(self._looks) > 1 and self._looks[1][0] <= time:
            del self._looks[0]
