"""The broker's configuration: what can be chosen, and how texts, JSON and TOML are read for it."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final

from dispatchd.actors.hashing import is_bcrypt_hash

Network = IPv4Network | IPv6Network


class ConfigError(Exception):
    """A configuration that can't be used: names the key, what was found and what was expected."""


class StartError(Exception):
    """The broker can't start: a port is in use, or the folder of its data can't be used."""


@dataclass(frozen=True)
class Config:
    """Everything that an operator, or a test, can choose. Times are in seconds, sizes in bytes.

    `users` maps names to bcrypt hashes; without any there is guest with the password guest. Port 0 is any free one.
    """

    amqp_port: int = 5672
    admin_port: int = 8080
    debug_port: int = 6060
    bind: str = "0.0.0.0"  # as the seed and RabbitMQ; guest still comes from loopback only
    persist_dir: Path = Path("/data/dispatchd/")
    coalesce_interval: float = 0.2  # the seed's
    log_level: str = "info"
    log_format: str = "text"
    guest_from_anywhere: bool = False
    admin_actions: bool = True
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    # RabbitMQ's names: what is made where there are no users, or no vhosts, yet.
    default_user: str = "guest"
    default_pass: str | None = field(default=None, repr=False)  # None: guest's is guest
    default_vhost: str = "/"

    # RabbitMQ's defaults of the same names, offered in connection.tune.
    frame_max: int = 131072
    channel_max: int = 2047
    heartbeat: int = 60
    handshake_timeout: float = 10.0  # RabbitMQ's
    max_message_size: int = 16 << 20  # RabbitMQ 4's
    consumer_max_per_channel: int = 0  # RabbitMQ's name and default
    connection_max: int | None = None  # likewise, of RabbitMQ 4; 0 lets nobody in, as there

    tls_port: int = 5671  # without a certificate nobody listens there
    admin_tls_port: int | None = None
    management_port: int | None = None
    metrics_port: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    tls_client_cert: str = "no"
    tls_login_from: str = "distinguished_name"  # RabbitMQ's
    proxy_protocol_from: tuple[Network, ...] = ()

    memory_high_watermark: float = 0.6  # RabbitMQ 4's; up to 1 it is a fraction of what the process can have
    disk_free_limit: int = 50_000_000  # RabbitMQ's
    store_size_limit: int = 1 << 40
    salvage: bool = False
    load_definitions: Path | None = None


@dataclass(frozen=True)
class Option:
    """A key of the file that is also an option of the command line.

    `read` turns a value of the file into that of the configuration; raises ValueError if it is not what is `expected`.
    `from_text` turns the command line's text into a value as the file would have it; None for an option without one.
    `alias` is RabbitMQ's variable of the environment that means the same. A secret is no option of the command line,
    which others can read, and is never shown.
    """

    key: str
    read: Callable[[object], Any]
    expected: str
    help: str
    from_text: Callable[[str], object] | None = str
    alias: str | None = None
    is_secret: bool = False

    @property
    def field(self) -> str:
        """The name in `Config`."""
        return self.key.replace("-", "_")


MOST_COALESCE_INTERVAL: Final = 60.0
MOST_OCTETS_OF_NAME: Final = 255
MOST_OCTETS_OF_PASSWORD: Final = 72  # bcrypt's
CLIENT_CERTIFICATES: Final = ("no", "optional", "required")
LOGINS_FROM: Final = ("distinguished_name", "common_name")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("text", "json")

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(|[kMGT]B|[KMGT]iB)")
_OCTETS: Final = {"": 1} | {f"{prefix}B": 1000**n for n, prefix in enumerate("kMGT", start=1)}
_OCTETS.update({f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGT", start=1)})


def _whole_number(text: str) -> object:
    return int(text) if re.fullmatch("[0-9]{1,15}", text) else text


def _port(value: object) -> int:
    if type(value) is int and 0 <= value <= 65535:
        return value
    raise ValueError


def _count(value: object) -> int:
    if type(value) is int and value >= 0:
        return value
    raise ValueError


def _text(value: object) -> str:
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise ValueError


def _name(value: object) -> str:
    text = _text(value)
    if text.isprintable() and len(text.encode()) <= MOST_OCTETS_OF_NAME:
        return text
    raise ValueError


def _password(value: object) -> str:
    text = _text(value)
    if len(text.encode()) <= MOST_OCTETS_OF_PASSWORD:
        return text
    raise ValueError


def _folder(value: object) -> Path:
    text = _text(value)
    os.fsencode(text)  # JSON has strings that no file name can be: a UnicodeEncodeError is a ValueError
    return Path(text)


def _duration(value: object) -> float:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or (seconds := float(match[1]) * _SECONDS[match[2]]) > MOST_COALESCE_INTERVAL:
        raise ValueError
    return seconds


def _size(value: object) -> int:
    """Octets: a number, or text of one with a unit as RabbitMQ writes it."""
    if type(value) is int and value > 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not (size := int(float(match[1]) * _OCTETS[match[2] or ""])):
        raise ValueError
    return size


def _watermark(value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"0?\.[0-9]+|1\.0+", value):
        value = float(value)
    if isinstance(value, float):
        if 0 < value <= 1:
            return value
        raise ValueError
    return _size(value)


def _log_level(value: object) -> str:
    if value in LOG_LEVELS:
        return str(value)
    raise ValueError


def _one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value in words:
            return str(value)
        raise ValueError

    return read


def _networks(value: object) -> tuple[Network, ...]:
    """Networks, as one text with commas or a list of texts."""
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError
    return tuple(ip_network(text.strip()) for text in texts)


def _truth(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("on", "off"):
        return value == "on"
    raise ValueError


_PEM: Final = "the path of a file in the format PEM"
_SOME_SIZE: Final = "a number of bytes, or one with a unit such as 512MiB or 1.5GB"
_PORT: Final = "a whole number from 0 to 65535, where 0 is any free port"

OPTIONS: Final = (
    Option("amqp-port", _port, _PORT, "port for AMQP clients (default: 5672)", _whole_number),
    Option("admin-port", _port, _PORT, "port for the admin page and its JSON API (default: 8080)", _whole_number),
    Option(
        "debug-port",
        _port,
        _PORT,
        "port for stacks, a profile, memory and the log level, on loopback only (default: 6060)",
        _whole_number,
    ),
    Option(
        "bind",
        _text,
        "an address or a host name",
        "address of the AMQP and the admin port (default: 0.0.0.0, which is all)",
    ),
    Option("persist-dir", _folder, "the path of a folder", "folder of the durable data (default: /data/dispatchd/)"),
    Option(
        "coalesce-interval",
        _duration,
        f"a number with the unit us, ms or s, at most {MOST_COALESCE_INTERVAL:.0f}s, such as 200ms or 0.2s",
        "how long durable changes that nobody waits for are gathered before they are written (default: 200ms)",
    ),
    Option(
        "memory-high-watermark",
        _watermark,
        f"a fraction such as 0.6, or {_SOME_SIZE}",
        "memory above which publishers have to wait: a fraction of what the container or the machine has, or bytes"
        " (default: 0.6)",
        _whole_number,
    ),
    Option(
        "disk-free-limit",
        _size,
        _SOME_SIZE,
        "free disk below which publishers have to wait (default: 50MB)",
        _whole_number,
    ),
    Option(
        "store-size-limit",
        _size,
        _SOME_SIZE,
        "what the durable data may come to; with more, publishers have to wait (default: 1TiB)",
        _whole_number,
    ),
    Option(
        "max-message-size",
        _size,
        _SOME_SIZE,
        "the largest body of a message; a larger one closes its channel (default: 16MiB)",
        _whole_number,
    ),
    Option(
        "connection-max",
        _count,
        "a whole number",
        "limit of AMQP connections that are open at a time; 0 lets nobody in (default: none)",
        _whole_number,
    ),
    Option(
        "consumer-max-per-channel",
        _count,
        "a whole number",
        "how many consumers a channel may have (default: 0, which is no limit)",
        _whole_number,
    ),
    Option(
        "tls-port",
        _port,
        _PORT,
        "port for AMQP clients with TLS, with --tls-cert (default: 5671)",
        _whole_number,
    ),
    Option("admin-tls-port", _port, _PORT, "port for the admin with TLS, likewise (default: none)", _whole_number),
    Option(
        "management-port",
        _port,
        _PORT,
        "one more port for the admin, such as 15672, where RabbitMQ's tools look for it (default: none)",
        _whole_number,
    ),
    Option(
        "metrics-port",
        _port,
        _PORT,
        "port for Prometheus without a login, such as RabbitMQ's 15692 (default: none)",
        _whole_number,
    ),
    Option("tls-cert", _folder, _PEM, "certificate of the server, with those between it and its CA (default: none)"),
    Option("tls-key", _folder, _PEM, "private key of that, if it is in another file (default: none)"),
    Option("tls-ca", _folder, _PEM, "certificates of those who sign clients' certificates (default: none)"),
    Option(
        "tls-client-cert",
        _one_of(CLIENT_CERTIFICATES),
        f"one of {', '.join(CLIENT_CERTIFICATES)}",
        "whether clients show a certificate (default: no)",
    ),
    Option(
        "tls-login-from",
        _one_of(LOGINS_FROM),
        f"one of {', '.join(LOGINS_FROM)}",
        "what of a client's certificate is the user's name for EXTERNAL (default: distinguished_name)",
    ),
    Option(
        "proxy-protocol-from",
        _networks,
        "addresses or networks with commas, such as 10.0.0.0/8,192.0.2.1",
        "proxies that begin AMQP connections with a PROXY header, and are believed (default: none)",
    ),
    Option(
        "load-definitions",
        _folder,
        "the path of a file",
        "definitions in RabbitMQ's format, added before clients are let in (default: none)",
    ),
    Option(
        "default-user",
        _name,
        f"a user's name of at most {MOST_OCTETS_OF_NAME} bytes",
        "the user that is made where there are none yet; not guest needs a default-pass (default: guest)",
        alias="RABBITMQ_DEFAULT_USER",
    ),
    Option(
        "default-pass",
        _password,
        f"a password of at most {MOST_OCTETS_OF_PASSWORD} bytes",
        "the password of that user, in the environment or the file (default: none, with which guest's is guest)",
        alias="RABBITMQ_DEFAULT_PASS",
        is_secret=True,
    ),
    Option(
        "default-vhost",
        _name,
        f"a vhost's name of at most {MOST_OCTETS_OF_NAME} bytes",
        "the vhost that is made where there are none yet (default: /)",
        alias="RABBITMQ_DEFAULT_VHOST",
    ),
    Option(
        "salvage",
        _truth,
        "true or false",
        "when the durable data are damaged, keep them aside and start with what is intact",
        None,
    ),
    Option("log-level", _log_level, f"one of {', '.join(LOG_LEVELS)}", "how much is logged (default: info)"),
    Option(
        "log-format",
        _one_of(LOG_FORMATS),
        f"one of {', '.join(LOG_FORMATS)}",
        "whether the lines of the log are for people or for programs (default: text)",
    ),
    Option(
        "guest-from-anywhere",
        _truth,
        "true or false",
        "let guest log in from other machines too, as long as the file names no users",
        None,
    ),
    Option(
        "admin-actions",
        _switch,
        "on or off",
        "whether the admin may pause, step, restart and otherwise touch actors, or only look (default: on)",
    ),
)
USERS: Final = "users"
PASSWORD: Final = "password_bcrypt_base64"

_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}
_BY_KEY: Final = {option.key: option for option in OPTIONS}


def read_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    """Read options of the command line: their keys with text, or True for those that take none.

    Returns:
        Values of `Config` by the names of its fields, of the given options only.

    Raises:
        ConfigError: a value is not what the option expects.
    """
    values = {}
    for key, given in flags.items():
        option = _BY_KEY[key]
        values[option.field] = True if given is True else read_text(option, str(given), f"option --{key}")
    return values


def read_text(option: Option, text: str, where: str) -> Any:
    """Turn text into the option's value. Raises ConfigError, whose message begins with `where` the text was found."""
    value = option.from_text(text) if option.from_text is not None else _TRUTHS.get(text, text)
    try:
        return option.read(value)
    except ValueError:
        raise ConfigError(f"{where}: found {_found(option, text)}, expected {option.expected}") from None


def read_file(path: Path, may_be_missing: bool = False) -> dict[str, Any]:
    """Read a configuration file, a .toml or JSON; one that `may_be_missing`, and is, counts as empty.

    Returns:
        Values of `Config` by the names of its fields, of the keys in the file only.

    Raises:
        ConfigError: it can't be read, or not as what it is, has a key that is not known, or a value of the wrong type.
    """
    is_toml = path.suffix == ".toml"
    try:
        octets = path.read_bytes()
        if is_toml:
            return _read_document(tomllib.loads(octets.decode()))
        return _read_document(json.loads(octets, object_pairs_hook=_without_repetition))
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            return {}
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        expected = "TOML" if is_toml else "a JSON object"
        raise ConfigError(f"{path}: found no {'TOML' if is_toml else 'JSON'} ({error}), expected {expected}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"key {_shown(repeated)}: found twice, expected once")
    return values


def _read_document(document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ConfigError(f"found {_shown(document)}, expected a JSON object")
    values: dict[str, Any] = {}
    for key, value in document.items():
        option = _BY_KEY.get(key)
        if key == USERS:
            values[USERS] = _read_users(value)
        elif option is None:
            raise ConfigError(f"key {_shown(key)}: not known, expected one of {', '.join([*_BY_KEY, USERS])}")
        else:
            try:
                values[option.field] = option.read(value)
            except ValueError:
                raise ConfigError(f'key "{key}": found {_found(option, value)}, expected {option.expected}') from None
    return values


def _read_users(users: object) -> dict[str, bytes]:
    if not isinstance(users, dict):
        raise ConfigError(f'key "{USERS}": found {_kind(users)}, expected an object with an entry for each user')
    return {name: _read_user(name, entry) for name, entry in users.items()}


def _read_user(name: str, entry: object) -> bytes:
    """The bcrypt hash of a user. What is found is not shown: by mistake it may be the password itself."""
    where = f"{USERS}.{name}"
    if not name or not name.isprintable():
        raise ConfigError(f"key {_shown(where)}: found an empty name or control characters, expected a user's name")
    if not isinstance(entry, dict):
        raise ConfigError(f'key "{where}": found {_kind(entry)}, expected an object with the key {PASSWORD}')
    for key in entry:
        if key != PASSWORD:
            raise ConfigError(f"key {_shown(f'{where}.{key}')}: not known, expected {PASSWORD}")
    where = f"{where}.{PASSWORD}"
    if PASSWORD not in entry:
        raise ConfigError(f'key "{where}": found nothing, expected the output of `dispatchd hash-password`')
    encoded = entry[PASSWORD]
    found = _kind(encoded)
    if isinstance(encoded, str):
        try:
            decoded = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            found = "text that is not base64"
        else:
            if is_bcrypt_hash(decoded):
                return decoded
            found = f"base64 of {len(decoded)} bytes that are no bcrypt hash"
    raise ConfigError(f'key "{where}": found {found}, expected the output of `dispatchd hash-password`')


def _found(option: Option, value: object) -> str:
    return f"{_kind(value)} that is not shown" if option.is_secret else _shown(value)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "an array"}
    return kinds.get(type(value), "null" if value is None else "an object")
