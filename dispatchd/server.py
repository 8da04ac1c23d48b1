"""The one place that composes all the rest: a broker with its store, its ports and its end."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import gevent
from gevent.event import Event

import dispatchd
from dispatchd.actors.authenticator import may_log_in
from dispatchd.actors.broker import BrokerActor
from dispatchd.actors.controls import resume_all
from dispatchd.actors.credentials import Credentials, built_in_user, first_user, users_of_file
from dispatchd.actors.definitions_export import Exporter
from dispatchd.actors.definitions_import import Importer
from dispatchd.actors.definitions_plan import Plan, read_definitions
from dispatchd.actors.directory import Directory
from dispatchd.actors.messages import ActorMessage, Flush, Shutdown
from dispatchd.actors.monitor import Watermarks
from dispatchd.actors.orders import carry_out
from dispatchd.actors.resources import keep_memory_together, raise_file_limit
from dispatchd.actors.runtime import Ref, System
from dispatchd.actors.session import Limits
from dispatchd.actors.user_orders import ReplaceUsersOfFile
from dispatchd.actors.vitals import look_at_vitals
from dispatchd.actors.watchdog import Watchdog
from dispatchd.amqp.errors import AmqpError
from dispatchd.config import Config, ConfigError, StartError
from dispatchd.garbage import GarbageCollection
from dispatchd.logs import log_failures_of_greenlets
from dispatchd.model.alarms import FAILING
from dispatchd.model.users import User, Users
from dispatchd.net.certificates import Certificates, TlsFiles
from dispatchd.net.listener import Admission, Listener
from dispatchd.service_manager import notify
from dispatchd.store.interface import Store, StoreError
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.memory_store import MemoryStore
from dispatchd.store.scratch_store import ScratchStore
from dispatchd.web.actor_actions import ActorActions
from dispatchd.web.actor_trace import ActorTrace
from dispatchd.web.actors import Actors
from dispatchd.web.app import Section, make_app, make_metrics_app
from dispatchd.web.debug import DebugServer
from dispatchd.web.declarations import Declarations
from dispatchd.web.definitions import Definitions
from dispatchd.web.details import Details
from dispatchd.web.events import Events
from dispatchd.web.flow import Flow
from dispatchd.web.gate import Gate
from dispatchd.web.guard import Guard
from dispatchd.web.health import Health
from dispatchd.web.limits import Limits as LimitsSection
from dispatchd.web.log import Log, LogRing
from dispatchd.web.meter import Meter
from dispatchd.web.metrics import Metrics
from dispatchd.web.operations import Operations
from dispatchd.web.permits import Permits
from dispatchd.web.policies import Policies
from dispatchd.web.server import AdminServer
from dispatchd.web.sessions import Sessions
from dispatchd.web.stacks import install_signal
from dispatchd.web.top import Top
from dispatchd.web.topology import Topology
from dispatchd.web.users import Users as UsersSection
from dispatchd.web.vhosts import Vhosts

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 4.0
FLUSH_SECONDS = 4.0
LOGIN_SECONDS = 10.0
SWITCH_INTERVAL = 0.001
"""Python's 5 ms is how long the loop keeps the interpreter from the thread that commits: with it a commit of 1,000
entries took 15 to 100 ms under load, with this 3 to 14 ms."""


class Server:
    """A broker that can be started and stopped; tests give it ports of 0 and a store of their own.

    Beside a store that is given, what only has to leave memory stays there.
    """

    def __init__(self, config: Config, store: Store | None = None) -> None:
        self._config = config
        self._store = store
        self._scratch: Store = MemoryStore()
        self._started_at = 0.0
        self._is_ready = False
        self._log = LogRing()
        self.system = System()

    def start(self) -> None:
        """Recover what is stored and open the ports. Raises StartError if that can't be done."""
        config = self._config
        self._started_at = time.time()
        self._users = Users(users_of_file(config.users))
        self._certificates = _certificates(config)
        plan = _definitions(config)
        on_disk = self._store is None
        if self._store is None:
            self._store, self._scratch = _open_stores(config)
        try:
            self._broker = BrokerActor(
                self.system,
                self._store,
                self._scratch,
                Credentials(
                    self._users, config.guest_from_anywhere, first=None if plan.names_users else _first_user(config)
                ),
                Limits(
                    config.channel_max,
                    config.frame_max,
                    config.heartbeat,
                    config.consumer_max_per_channel,
                    config.connection_max,
                ),
                config.coalesce_interval,
                watermarks=Watermarks.of(
                    config.memory_high_watermark, config.disk_free_limit, config.persist_dir if on_disk else None
                ),
                default_vhost=config.default_vhost,
            )
        except StoreError as error:
            self._close_stores()
            raise StartError(str(error)) from error
        except (AmqpError, AttributeError, LookupError, TypeError, ValueError) as error:
            self._close_stores()
            found = f"damaged: its definitions make no sense ({error!r})"
            raise StartError(
                f"{config.persist_dir}: {found}, expected what a broker wrote; it is left as it is"
            ) from error
        logging.getLogger().addHandler(self._log)
        self._broker_ref = self._broker.begin()
        importer = Importer(self._broker_ref, self._broker.authenticator, self._broker.vhosts)
        try:
            importer.carry_out(plan)
        except AmqpError as error:
            self._end_actors()
            raise StartError(f"{config.load_definitions}: {error.text.partition(' - ')[2]}") from error
        admission = Admission(config.handshake_timeout, config.max_message_size, config.proxy_protocol_from)
        self._listener = Listener(self._broker_ref, config.bind, config.amqp_port, admission)
        self._tls_listener: Listener | None = None
        if self._certificates is not None:
            secured = replace(admission, certificates=self._certificates, login_from=config.tls_login_from)
            self._tls_listener = Listener(self._broker_ref, config.bind, config.tls_port, secured)
        guard = Guard(are_actions_on=config.admin_actions)
        meter = Meter(self.system)
        self._events = Events(meter)
        directory = Directory(self._users)
        permits = Permits(self.system, self._users.access)
        metrics = Metrics(self.system, meter, self._overview, lambda: self._events.lag_ms, self._broker.sizes)
        actors = Actors(self.system, guard)
        sections: list[Section] = [
            metrics,
            actors,
            Top(actors),
            ActorActions(self.system, guard),
            ActorTrace(self.system, guard),
            Details(self.system, meter, self._events),
            Operations(self.system, permits),
            Declarations(self.system, permits),
            Health(self.system, permits, self._overview, self._can_work),
            Topology(self.system, meter),
            Flow(self.system, self._events, self._broker.alarms.rows),
            Log(self._log, self._events),
            Vhosts(self._broker_ref, self._broker.authenticator, self.system, meter),
            UsersSection(self._broker.authenticator, directory),
            LimitsSection(self._broker.authenticator, directory, self.system),
            Definitions(Exporter(directory, self._broker.vhosts), importer, directory),
            Policies(self.system),
            Policies(self.system, of_operator=True),
        ]
        sessions = Sessions(config.persist_dir / "sessions.json" if on_disk else None)
        gate = Gate(self._authenticate, self._users.find, sessions)
        app = make_app(self.system, gate, self._can_work, self._overview, meter, self._events, sections)
        self._admin = AdminServer(app, config.bind, config.admin_port)
        self._tls_admin: AdminServer | None = None
        if self._certificates is not None and config.admin_tls_port is not None:
            self._tls_admin = AdminServer(app, config.bind, config.admin_tls_port, self._certificates)
        self._more: dict[str, AdminServer] = {}
        if config.management_port is not None:
            self._more["management"] = AdminServer(app, config.bind, config.management_port)
        if config.metrics_port is not None:
            self._more["metrics"] = AdminServer(make_metrics_app(metrics), config.bind, config.metrics_port)
        self._debug = DebugServer(config.debug_port, self.system)
        self._watchdog = Watchdog(self.system)
        self._watchdog.start()
        try:
            self._listen()
        except StartError:
            self._end()
            raise
        self._events.start()
        self._is_ready = True

    def _listen(self) -> None:
        config = self._config
        servers: list[tuple[str, Any, int | None]] = [
            ("AMQP", self._listener, config.amqp_port),
            ("AMQP over TLS", self._tls_listener, config.tls_port),
            ("admin", self._admin, config.admin_port),
            ("admin over TLS", self._tls_admin, config.admin_tls_port),
            ("management", self._more.get("management"), config.management_port),
            ("metrics", self._more.get("metrics"), config.metrics_port),
            ("debug", self._debug, config.debug_port),
        ]
        for what, server, port in servers:
            if server is None:
                continue
            try:
                server.start()
            except OSError as error:
                raise StartError(f"can't listen on the {what} port {port}: {error.strerror or error}") from error

    @property
    def amqp_port(self) -> int:
        """The port that clients connect to."""
        return self._listener.port

    @property
    def tls_port(self) -> int | None:
        """Likewise, with TLS; None without a certificate."""
        return self._tls_listener.port if self._tls_listener is not None else None

    @property
    def admin_tls_port(self) -> int | None:
        """The port of the admin with TLS; None if there is none."""
        return self._tls_admin.port if self._tls_admin is not None else None

    def reload(self, config: Config) -> None:
        """Read the certificates again, and take over users and log level; what can't be used changes nothing."""
        if self._certificates is not None:
            try:
                self._certificates.reload()
            except (OSError, ValueError) as error:
                logger.error("the certificate can't be used, the one before stays: %s", error)
                return
            logger.info("the certificate was read again; new connections get it")
        if config.users != self._config.users:
            order = ReplaceUsersOfFile(users_of_file(config.users))
            try:
                gone = carry_out(self._broker.authenticator, order, LOGIN_SECONDS)
            except AmqpError as error:
                logger.error("the users of the configuration could not be replaced: %s", error.text)
                return
            logger.info("the configuration names these users now: %s", ", ".join(map(repr, config.users)) or "none")
            logger.info("no users any more: %s", ", ".join(map(repr, gone)) or "none")
        if config.log_level != self._config.log_level:
            logging.getLogger().setLevel(config.log_level.upper())
        self._config = before = replace(self._config, log_level=config.log_level, users=config.users)
        names = [each.name for each in fields(config) if getattr(config, each.name) != getattr(before, each.name)]
        logger.info("the configuration was read again")
        if names:
            keys = ", ".join(name.replace("_", "-") for name in names)
            logger.warning("a change of %s needs a restart to be in force", keys)

    @property
    def admin_port(self) -> int:
        """The port of the admin."""
        return self._admin.port

    @property
    def more_ports(self) -> dict[str, int]:
        """The ports of the admin for RabbitMQ's tools (`management`), and of the metrics, if they are wanted."""
        return {what: server.port for what, server in self._more.items()}

    @property
    def debug_port(self) -> int:
        """The port that shows the stacks."""
        return self._debug.port

    def stop(self) -> bool:
        """Accept no more, close connections with 320, commit what is pending; takes 10 seconds at most.

        Returns whether everything is on disk.
        """
        self._is_ready = False
        self._listener.stop()
        if self._tls_listener is not None:
            self._tls_listener.stop()
        resume_all(self.system)
        if not _done_within(CLOSE_SECONDS, self._broker_ref, Shutdown()):
            logger.warning("some connections did not close in time")
        is_flushed = _done_within(FLUSH_SECONDS, self._broker.persistence, Flush())
        if not is_flushed:
            logger.error("what was pending could not be committed")
        self._end()
        return is_flushed

    def _end(self) -> None:
        logging.getLogger().removeHandler(self._log)
        self._watchdog.stop()
        self._events.stop()
        admins = (self._admin, self._tls_admin, *self._more.values())
        for server in (self._listener, self._tls_listener, *admins, self._debug):
            if server is not None:
                server.stop()
        self._end_actors()

    def _end_actors(self) -> None:
        for actor in list(self.system.actors.values()):
            actor.end()
        self._close_stores()

    def _close_stores(self) -> None:
        for store in (self._store, self._scratch):
            if store is not None:
                store.close()

    def _authenticate(self, user: str, password: bytes, peer: str) -> User | None:
        is_right = may_log_in(self._broker.authenticator, user, password, peer, LOGIN_SECONDS)
        return self._users.find(user) if is_right else None

    def _can_work(self) -> bool:
        """Whether clients can connect, and what they publish can get to the disk."""
        return self._is_ready and FAILING not in self._broker.alarms

    def _overview(self) -> dict[str, Any]:
        return {
            "product": "dispatchd",
            "version": dispatchd.__version__,
            "compiled": dispatchd.is_compiled(),
            "python": sys.version.split()[0],
            "alarms": self._broker.alarms.rows(),
            "started_at": round(self._started_at * 1000),
            "uptime_ms": round((time.time() - self._started_at) * 1000),
            "listeners": [
                {"protocol": "amqp", "address": self._config.bind, "port": self.amqp_port},
                {"protocol": "http", "address": self._config.bind, "port": self.admin_port},
                {"protocol": "debug", "address": "127.0.0.1", "port": self.debug_port},
                *(
                    {"protocol": protocol, "address": self._config.bind, "port": port}
                    for protocol, port in (
                        ("amqp/ssl", self.tls_port),
                        ("https", self.admin_tls_port),
                        ("http", self.more_ports.get("management")),
                        ("http/prometheus", self.more_ports.get("metrics")),
                    )
                    if port is not None
                ),
            ],
        }


def _done_within(seconds: float, ref: Ref, request: ActorMessage) -> bool:
    """Ask for something whose answer is an event, and wait for that; both together take so many seconds at most."""
    try:
        with gevent.Timeout(seconds):
            event = ref.ask(request)
            return isinstance(event, Event) and event.wait()
    except gevent.Timeout:
        return False


def _first_user(config: Config) -> Callable[[list[str]], User]:
    if config.default_pass is None:
        return built_in_user
    return partial(first_user, config.default_user, config.default_pass)


def _certificates(config: Config) -> Certificates | None:
    if config.tls_cert is None:
        if config.admin_tls_port is not None or config.tls_client_cert != "no":
            raise StartError("TLS needs a certificate: expected --tls-cert")
        return None
    files = TlsFiles(config.tls_cert, config.tls_key or config.tls_cert, config.tls_ca, config.tls_client_cert)
    try:
        return Certificates(files)
    except (OSError, ValueError) as error:
        raise StartError(f"{config.tls_cert}: can't be used as the certificate: {error}") from error


def _definitions(config: Config) -> Plan:
    path = config.load_definitions
    if path is None:
        return Plan()
    try:
        return read_definitions(json.loads(path.read_bytes()), of_file=config.users)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: found no JSON ({error}), expected definitions") from error
    except AmqpError as error:
        raise ConfigError(f"{path}: {error.text.partition(' - ')[2]}") from error


def _open_stores(config: Config) -> tuple[Store, Store]:
    try:
        store = LmdbStore(config.persist_dir, config.store_size_limit, config.salvage)
        return store, ScratchStore(config.persist_dir / "scratch")
    except StoreError as error:
        raise StartError(str(error)) from error


def serve(config: Config, read_again: Callable[[], Config]) -> int:
    """Run a broker until SIGTERM or SIGINT; returns the exit code. Raises StartError if it can't start.

    On SIGHUP it has the configuration `read_again`, which may raise ConfigError.
    """
    keep_memory_together()
    most_files = raise_file_limit()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gevent.get_hub().NOT_ERROR += (StoreError,)  # whoever asked the store logs it, without a traceback
    log_failures_of_greenlets()
    install_signal()
    stop_asked = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # A handler of Python's own runs when the loop wakes: as it falls asleep, a signal would wait for the next one.
        gevent.signal_handler(number, _ask_to_stop, stop_asked, number)
    server = Server(config)
    server.start()
    gevent.signal_handler(signal.SIGHUP, _reload, server, read_again)
    GarbageCollection(lambda: server.system.ended).start()
    look_at_vitals(server.system)
    kind = "compiled" if dispatchd.is_compiled() else "pure"
    logger.info("%d files and connections may be open at a time", most_files)
    logger.info(
        "dispatchd %s (%s) is ready: AMQP on port %d, admin on %d, debug on %d, data in %s",
        dispatchd.__version__,
        kind,
        server.amqp_port,
        server.admin_port,
        server.debug_port,
        config.persist_dir,
    )
    for what, port in (("AMQP", server.tls_port), ("admin", server.admin_tls_port)):
        if port is not None:
            logger.info("%s over TLS is on port %d", what, port)
    for name, more_port in server.more_ports.items():
        logger.info("%s is on port %d", name, more_port)
    logger.info("Server startup complete")  # RabbitMQ's line, which tools that start brokers wait for
    notify("READY=1")
    stop_asked.wait()
    logger.info("stopping")
    notify("STOPPING=1")
    return 0 if server.stop() else 1


def _ask_to_stop(stop_asked: Event, number: int) -> None:
    """Stop in an orderly way; who asks again while that lasts has the process ended at once, as by a power cut."""
    if stop_asked.is_set():
        logger.warning("asked to stop again: ending at once")
        logging.shutdown()
        os._exit(128 + number)
    stop_asked.set()


def _reload(server: Server, read_again: Callable[[], Config]) -> None:
    notify("RELOADING=1")
    try:
        server.reload(read_again())
    except ConfigError as error:
        logger.error("the configuration can't be used, the one before stays: %s", error)
    finally:
        notify("READY=1")
