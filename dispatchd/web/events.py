"""Live figures as server-sent events: one sampler for all who look, and nothing is made that nobody looks at."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import bottle
import gevent
from gevent.event import Event
from gevent.pool import Pool

from dispatchd.web.encoding import plain
from dispatchd.web.meter import Meter
from dispatchd.web.roles import MANAGEMENT, MONITORING, Forbidden, Who, current, has_role, sees_vhost
from dispatchd.web.server import LIFT_DEADLINE

logger = logging.getLogger(__name__)

SAMPLE_SECONDS: Final = 1.0
LEAST_SHARE: Final = 100
"""While nobody looks, one part in so many of the time is used to keep the history."""
LOOKED_AT_SHARE: Final = 20
PAUSES: Final = 4
"""From one look to the next it takes so many times what the look took, with all that others did meanwhile."""
HEARTBEAT_SECONDS: Final = 15.0
"""A client that is gone is noticed when something is sent to it."""
MOST_STREAMS: Final = 32
MOST_TOPICS: Final = 16
BUILDERS: Final = 8

Build = Callable[..., Any]
"""Makes what a topic tells now, of the names in the topic; None if there is no such thing any more."""


class Topic(NamedTuple):
    """What somebody wants to hear of, such as `queue:%2F:orders`: the kind, and names, each of them quoted."""

    kind: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Topic:
        """The topic that is written so."""
        kind, *names = text.split(":")
        return cls(kind, tuple(map(unquote, names)))

    @property
    def key(self) -> tuple[str, int]:
        """What tells who makes it."""
        return self.kind, len(self.names)


class Stream:
    """One client: what it has yet to be sent. Of each topic that is what was told last; what it missed is old news."""

    def __init__(self, who: Who, topics: dict[str, Topic]) -> None:
        self.who = who
        self.topics = topics
        self.has_ended = False
        self._pending: dict[str, str] = {}
        self._awake = Event()

    def offer(self, topic: str, text: str) -> None:
        """Send this next, instead of what is not sent yet of the topic."""
        self._pending[topic] = text
        self._awake.set()

    def end(self) -> None:
        """Send nothing more."""
        self.has_ended = True
        self._awake.set()

    def take(self) -> str | None:
        """What to send now, after a wait for that: a comment if nothing comes, None at the end."""
        self._awake.wait(HEARTBEAT_SECONDS)
        if self.has_ended:
            return None
        self._awake.clear()
        pending, self._pending = self._pending, {}
        return "".join(f"data: {text}\n\n" for text in pending.values()) or ": still here\n\n"


class Events:
    """The sampler and its clients. Sections of the API say with `offer` which kinds of topics there are."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._kinds: dict[tuple[str, int], Build] = {}
        self._roles: dict[tuple[str, int], str] = {}
        self._differ: set[tuple[str, int]] = set()
        self._streams: set[Stream] = set()
        self._newcomer = Event()
        self._pool = Pool(BUILDERS)
        self._sampler: gevent.Greenlet[..., None] | None = None
        self.lag_ms = 0.0
        """How much later than it wanted the sampler had its last turn: what everybody waits for the loop."""

    def route(self, app: bottle.Bottle) -> None:
        """Say at which address the handler is."""
        app.get("/api/events", callback=self.listen)

    def offer(self, kind: str, build: Build, names: int = 0, role: str = MANAGEMENT) -> None:
        """Let clients with this role listen to topics of this kind, which have so many names.

        With two, the first is a vhost, which the client must be able to see.
        """
        self._kinds[kind, names] = build
        self._roles[kind, names] = role

    def offer_to_each(self, kind: str, build: Build) -> None:
        """Let everybody listen to a topic that tells something else to users without the tag `monitoring`.

        `build` is called with who listens.
        """
        self.offer(kind, build)
        self._differ.add((kind, 0))

    def start(self) -> None:
        """Look at the broker from now on."""
        self._sampler = gevent.spawn(self._sample_forever)

    def stop(self) -> None:
        """Look no more, and end all streams."""
        if self._sampler is not None:
            self._sampler.kill(block=False)
        for stream in self._streams:
            stream.end()

    def listen(self) -> Iterator[str]:
        """A stream of events for the topics in the query, divided by commas. Raises 400 and 503.

        Each event is `{"topic": …, "told": …}`.
        """
        named = [text for text in bottle.request.query.getunicode("topics", "").split(",") if text]
        topics = {text: Topic.of(text) for text in named}
        unknown = [text for text, topic in topics.items() if topic.key not in self._kinds]
        if unknown or not topics or len(topics) > MOST_TOPICS:
            wrong = f"no topic {unknown[0]!r}" if unknown else f"{len(topics)} topics, expected 1 to {MOST_TOPICS}"
            raise bottle.HTTPError(400, wrong)
        refused = [text for text, topic in topics.items() if not self._may_listen(current(), topic)]
        if refused:
            raise Forbidden(401, f"User not authorised to listen to {refused[0]}")
        if len(self._streams) >= MOST_STREAMS:
            raise bottle.HTTPError(503, f"{MOST_STREAMS} others are listening already")
        bottle.response.content_type = "text/event-stream; charset=UTF-8"
        bottle.response.set_header("Cache-Control", "no-store")
        bottle.response.set_header("X-Accel-Buffering", "no")
        bottle.request.environ.get(LIFT_DEADLINE, lambda: None)()
        stream = Stream(current(), topics)
        self._streams.add(stream)
        self._newcomer.set()
        return self._send(stream)

    def _may_listen(self, who: Who, topic: Topic) -> bool:
        is_of_vhost = len(topic.names) == 2
        return has_role(who, self._roles[topic.key]) and (not is_of_vhost or sees_vhost(who, topic.names[0]))

    def _send(self, stream: Stream) -> Iterator[str]:
        try:
            yield "retry: 1000\n\n"
            while (text := stream.take()) is not None:
                yield text
        finally:
            self._streams.discard(stream)

    # The sampler

    def _sample_forever(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._newcomer.clear()
                self._meter.look()
                self._tell()
            except Exception:
                logger.exception("the figures of the admin could not be gathered")
            share = LOOKED_AT_SHARE if self._streams else LEAST_SHARE
            took = time.monotonic() - began
            self._wait(began + max(SAMPLE_SECONDS, share * self._meter.cost, PAUSES * took))

    def _wait(self, until: float) -> None:
        """A newcomer is told at once what others know."""
        while (left := until - time.monotonic()) > 0:
            if self._newcomer.wait(left):
                self._newcomer.clear()
                self._tell()
        self.lag_ms = max(0.0, (time.monotonic() - until) * 1000)

    def _tell(self) -> None:
        """Have made what somebody listens to, each topic once."""
        wanted: dict[tuple[str, str], list[Stream]] = {}
        for stream in self._streams:
            for text, topic in stream.topics.items():
                differs = topic.key in self._differ and not has_role(stream.who, MONITORING)
                wanted.setdefault((text, stream.who.name if differs else ""), []).append(stream)
        for (text, _), streams in wanted.items():
            self._pool.spawn(self._make, text, streams)
        self._pool.join()

    def _make(self, text: str, streams: list[Stream]) -> None:
        """Tell these streams what a topic tells now: the same to all of them."""
        topic, who = streams[0].topics[text], streams[0].who
        try:
            found = self._kinds[topic.key](*([who] if topic.key in self._differ else topic.names))
        except bottle.HTTPError as error:
            found = {"error": str(error.body)}
        except Exception:
            logger.exception("the topic %s could not be made", text)
            found = {"error": "it can't be shown: see the log of the broker"}
        told = json.dumps({"topic": text, "told": plain(found)}, allow_nan=False)
        for stream in streams:
            stream.offer(text, told)
