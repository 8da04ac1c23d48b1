"""The actor that knows who may log in, and changes what users may do.

bcrypt runs on native threads of its own, never on that of the loop.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import gevent
from gevent.event import AsyncResult
from gevent.pool import Group
from gevent.threadpool import ThreadPool

from dispatchd.actors.credentials import Credentials
from dispatchd.actors.failed_logins import FailedLogins
from dispatchd.actors.messages import ActorMessage, Authenticate, Authenticated, Define
from dispatchd.actors.orders import ForgetVhost, Fulfilled, Order, UserGone
from dispatchd.actors.runtime import Actor, Ref, System, Told, receives, tell_all
from dispatchd.actors.user_orders import (
    ClearPermission,
    ClearTopicPermission,
    DeleteUser,
    LimitUser,
    PutUser,
    ReplaceUsersOfFile,
    SetPermission,
    SetTopicPermission,
    UserOrder,
    carry_out_on,
)
from dispatchd.amqp.errors import AmqpError
from dispatchd.model.users import Row

logger = logging.getLogger(__name__)

THREADS: Final = 2
MOST_WAITING: Final = 1000
MOST_WAITING_OF_PEER: Final = 200

Answer = Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class CheckPassword(ActorMessage):
    """Admin to authenticator: `accepted` becomes whether this user may log in with this password from this address."""

    user: str
    password: bytes = field(repr=False)
    peer: str
    accepted: AsyncResult[bool] = field(default_factory=AsyncResult, repr=False)
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        """Let nobody in."""
        self.accepted.set(False)


def may_log_in(authenticator: Ref, user: str, password: bytes, peer: str, timeout: float) -> bool:
    """Ask whether this user may log in from the address `peer`; False also if there is no answer in `timeout` seconds.

    Only the greenlet that asks waits.
    """
    question = CheckPassword(user, password, peer)
    authenticator.tell(question)
    return question.accepted.wait(timeout) is True


@dataclass(eq=False, slots=True)
class Check:
    """One user and password on the way through bcrypt, for all who want to know of it."""

    user: str
    password: bytes = field(repr=False)
    answers: list[tuple[str, Answer]] = field(repr=False)
    """With the peer that each is for."""


class AuthenticatorActor(Actor):
    """Answers what is known at once, and has the rest checked by threads while it goes on.

    All clients of one user that reconnect at the same time share one check. At most MOST_WAITING checks wait, and
    MOST_WAITING_OF_PEER of one peer; more are refused, for bcrypt does only some ten of them in a second.
    """

    kind: ClassVar[str] = "authenticator"

    def __init__(
        self, system: System, parent: Ref, credentials: Credentials, persistence: Ref, vhosts: Collection[str]
    ) -> None:
        super().__init__(system, "authenticator", parent)
        self._broker = parent
        self._credentials = credentials
        self._persistence = persistence
        self._vhosts = vhosts
        self._carried_out: list[tuple[Order | None, list[Row], Any]] = []
        self._pool = ThreadPool(THREADS)
        self._greenlets = Group()
        self._waiting: dict[tuple[str, bytes], Check] = {}
        self._queues: dict[str, deque[Check]] = {}
        self._running = 0
        self._failed = FailedLogins()
        self._refused = 0
        self._attempts: dict[str, list[int]] = {"amqp091": [0, 0], "http": [0, 0]}
        self._is_ending = False

    @receives(Authenticate)
    def on_authenticate(self, message: Authenticate) -> None:
        """Answer a connection with `Authenticated`."""

        def answer(accepted: bool) -> None:
            self._attempts["amqp091"][not accepted] += 1
            message.reply_to.tell(Authenticated(message.user, accepted))

        self._decide(message.user, message.password, message.peer, answer)

    @receives(CheckPassword)
    def on_check_password(self, message: CheckPassword) -> AsyncResult[bool]:
        """Answer the admin; whoever asks instead of telling gets the result to wait for."""

        def answer(accepted: bool) -> None:
            self._attempts["http"][not accepted] += 1
            message.accepted.set(accepted)

        self._decide(message.user, message.password, message.peer, answer)
        return message.accepted

    def _decide(self, user: str, password: bytes | None, peer: str, answer: Answer) -> None:
        if not self._credentials.permits_peer(user, peer):
            logger.warning("user %r is refused from %s: it may come from loopback addresses only", user, peer)
            self._turn_away(peer, answer)
        elif password is None:
            if self._credentials.users.find(user) is not None:
                answer(True)
            else:
                logger.warning("there is no user %r, whose certificate came from %s", user, peer)
                self._turn_away(peer, answer)
        elif self._credentials.is_cached(user, password):
            self._failed.forget(peer)
            answer(True)
        elif (waiting := self._waiting.get((user, password))) is not None:
            waiting.answers.append((peer, answer))
        elif len(self._waiting) >= MOST_WAITING or len(self._queues.get(peer, ())) >= MOST_WAITING_OF_PEER:
            waiting_now = len(self._waiting)
            logger.warning("user %r is refused from %s: %d passwords wait to be checked", user, peer, waiting_now)
            self._refused += 1
            answer(False)
        else:
            check = Check(user, password, [(peer, answer)])
            queue = self._queues.get(peer) or deque()
            self._waiting[user, password] = check
            self._queues[peer] = queue
            queue += [check]
            self._check_next()

    def _check_next(self) -> None:
        """Begin what the threads have room for; peers take turns, so that none of them holds up the others."""
        while self._queues and self._running < THREADS:
            peer, queue = next(iter(self._queues.items()))
            check = queue[0]
            self._greenlets.spawn(self._run, check).name = f"check of user {check.user!r}"
            self._running += 1
            del queue[0], self._queues[peer]
            if queue:
                self._queues[peer] = queue

    def _run(self, check: Check) -> None:
        """Wait for one check, in a greenlet of its own, and answer whatever happens to it."""
        accepted = False
        try:
            accepted = self._pool.apply(self._credentials.check, (check.user, check.password))
        except Exception:
            logger.exception("the password of user %r could not be checked", check.user)
        finally:
            self._running -= 1
            self._settle(check, accepted)
            self._check_next()

    def _settle(self, check: Check, accepted: bool) -> None:
        self._waiting.pop((check.user, check.password), None)
        for peer, answer in check.answers:
            if accepted:
                self._failed.forget(peer)
                answer(True)
            else:
                logger.info(
                    "a login of user %r from %s was refused: no such user, or the wrong password", check.user, peer
                )
                self._turn_away(peer, answer)
        check.answers.clear()

    def _turn_away(self, peer: str, answer: Answer) -> None:
        """Let whoever tries passwords wait for it."""
        self._refused += 1
        seconds = 0.0 if self._is_ending else self._failed.seconds(peer, time.monotonic())
        if seconds:
            gevent.spawn_later(seconds, answer, False)
        else:
            answer(False)

    # Users

    @receives(PutUser)
    @receives(DeleteUser)
    @receives(SetPermission)
    @receives(ClearPermission)
    @receives(SetTopicPermission)
    @receives(ClearTopicPermission)
    @receives(LimitUser)
    def on_order(self, order: UserOrder) -> None:
        """Change the users for an operator; it is in force at once, and answered when it is on disk."""
        try:
            rows, answer = carry_out_on(self._credentials.users, order, self._vhosts)
        except AmqpError as error:
            order.deny(error)
            return
        self._carried_out += [(order, rows, answer)]
        self.answered()
        self._go_on()

    @receives(ReplaceUsersOfFile)
    def on_replace_users_of_file(self, order: ReplaceUsersOfFile) -> None:
        """Other users are in the configuration file: in force at once, for those who are there too."""
        rows, gone = self._credentials.replace_users_of_file(order.users, list(self._vhosts))
        self._carried_out += [(order, rows, gone)]
        self.answered()
        self._go_on()

    def _go_on(self) -> None:
        """Have what was changed stored, and tell who is concerned."""
        while self._carried_out:
            order, rows, answer = self._carried_out[0]
            then = None if order is None else (self.ref, Fulfilled(order, answer))
            told: Told = [(self._persistence, Define([*rows], then=then))]
            if isinstance(order, DeleteUser):
                told.append((self._broker, UserGone(order.name)))
            elif isinstance(order, ReplaceUsersOfFile):
                told += [(self._broker, UserGone(name)) for name in answer]
            del self._carried_out[0]
            tell_all(told)

    def restarted(self) -> None:
        """Go on with what was changed, and what waited, before the failure."""
        self._go_on()
        self._check_next()

    @receives(Fulfilled)
    def on_fulfilled(self, message: Fulfilled) -> None:
        """What an order changed is on disk."""
        message.order.fulfil(message.answer)

    @receives(ForgetVhost)
    def on_forget_vhost(self, message: ForgetVhost) -> None:
        """A vhost is deleted."""
        self._carried_out += [(None, self._credentials.users.forget_vhost(message.name), None)]
        self.answered()
        self._go_on()

    def on_stop(self) -> None:
        """Refuse those who wait; the threads end on their own when they are done with what they are doing."""
        self._is_ending = True
        self._queues.clear()
        self._greenlets.kill()
        for never_begun in list(self._waiting.values()):
            self._settle(never_begun, accepted=False)
        gevent.spawn(self._pool.kill)

    def snapshot(self) -> dict[str, Any]:
        """Facts for the admin: how many users there are, how many passwords wait, and how many logins were refused.

        `attempts` are logins that succeeded and that failed, by protocol.
        """
        return {
            "name": self.name,
            "users": len(self._credentials.users),
            "waiting": len(self._waiting),
            "delayed_peers": len(self._failed),
            "refused": self._refused,
            "attempts": self._attempts,
        }
