"""Where the configuration comes from: defaults, the environment, the command line, a file, the last of them first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from dispatchd.config import OPTIONS, USERS, Config, ConfigError, Option, read_file, read_flags, read_text

PREFIX: Final = "DISPATCHD_"
OTHERS: Final = frozenset({f"{PREFIX}{name}" for name in ("URL", "USER", "PASSWORD", "PURE")})
"""Variables that are not about the broker's configuration."""
CONFIG_FILE: Final = f"{PREFIX}CONFIG_FILE"
CONFIG_FILE_IF_EXISTS: Final = f"{PREFIX}CONFIG_FILE_IF_EXISTS"
SERVICE: Final = ("tcp://", "udp://", "sctp://")
"""How values begin that Kubernetes gives to DISPATCHD_ADMIN_PORT, if there is a service dispatchd-admin."""
HIDDEN: Final = "(hidden)"


@dataclass(frozen=True)
class Sources:
    """The configuration, and where each field of it that is not as by default comes from, as people would name it.

    `remarks` are about what was given in vain: each a line for the log.
    """

    config: Config
    origins: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def gather(given: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Sources:
    """Put everything together; `given` is what the command line says, by the names of fields.

    Raises ConfigError for what can't be used, and names where it is.
    """
    of_environment, names = read_environment(environment)
    flags = read_flags({option.key: given[option.field] for option in OPTIONS if option.field in given})
    path, may_be_missing = _place_of_file(given, environment)
    written = {} if path is None else read_file(path, may_be_missing)
    config = Config(**of_environment | flags | written)
    if config.default_user != Config.default_user and config.default_pass is None:
        raise ConfigError("default-user: found no default-pass beside it, expected the password of that user")
    origins = {
        **{field: f"environment {names[field]}" for field in of_environment},
        **{field: f"command line --{_key(field)}" for field in flags},
        **dict.fromkeys(written, f"file {path}"),
    }
    before = of_environment | flags
    overridden = [
        f"--{_key(field)}" if field in flags else names[field]
        for field, value in before.items()
        if field in written and written[field] != value
    ]
    remarks = list(_near_misses(environment))
    if overridden:
        remarks.append(f"{path} says otherwise and overrides {', '.join(overridden)}")
    return Sources(config, origins, tuple(remarks))


def read_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values of `Config` that variables give, and the variables' names, both by field. Empty ones count as not set.

    Of an option with a name of RabbitMQ's, that is a variable too, and NAME_FILE may say in which file the value is.
    Raises ConfigError.
    """
    values, names = {}, {}
    for option in OPTIONS:
        for name in filter(None, (_variable(option), option.alias)):
            text = _text_of(name, option, environment)
            if text is not None:
                values[option.field] = read_text(option, text, f"environment {name}")
                names[option.field] = name
                break  # our own name is before RabbitMQ's
    return values, names


def login_of(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """User and password of whoever asks a broker and does not say more: the broker's own first user, else guest.

    Raises ConfigError for a file that can't be read.
    """
    ours = {name: text for name, text in environment.items() if "_DEFAULT_USER" in name or "_DEFAULT_PASS" in name}
    values, _ = read_environment(ours)
    user = environment.get(f"{PREFIX}USER") or values.get("default_user", Config.default_user)
    return user, environment.get(f"{PREFIX}PASSWORD") or values.get("default_pass", Config.default_user)


def _text_of(name: str, option: Option, environment: Mapping[str, str]) -> str | None:
    text = environment.get(name) or None
    if text is not None and name.endswith("_PORT") and text.startswith(SERVICE):
        return None
    file = environment.get(f"{name}_FILE") if option.alias else None
    if not file:
        return text
    if text is not None:
        raise ConfigError(f"environment {name}: found {name}_FILE as well, expected one of them")
    try:
        return Path(file).read_text().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"environment {name}_FILE: {file}: can't be read: {reason}") from None


def _place_of_file(given: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Path | None, bool]:
    """The configuration file, and whether it may be missing. The command line's is before the environment's."""
    for path, may_be_missing in (
        (given.get("config_file"), False),
        (given.get("config_file_if_exists"), True),
        (environment.get(CONFIG_FILE), False),
        (environment.get(CONFIG_FILE_IF_EXISTS), True),
    ):
        if path:
            return Path(path), may_be_missing
    return None, False


def _near_misses(environment: Mapping[str, str]) -> Iterable[str]:
    """Of variables that look as if meant for an option. Others may begin like ours: Kubernetes makes such ones."""
    known = {_variable(option) for option in OPTIONS} | OTHERS | {CONFIG_FILE, CONFIG_FILE_IF_EXISTS}
    known |= {f"{_variable(option)}_FILE" for option in OPTIONS if option.alias}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        from difflib import get_close_matches

        for name in unknown:
            for meant in get_close_matches(name, known, 1, 0.9):
                yield f"environment {name} is not known; {meant} is"


def _variable(option: Option) -> str:
    return PREFIX + option.field.upper()


def _key(field: str) -> str:
    return field.replace("_", "-")


def rows(sources: Sources) -> list[dict[str, Any]]:
    """What `config show` shows: `key`, `value` (seconds, bytes) and `from` of everything that can be chosen."""
    secrets = {option.field for option in OPTIONS if option.is_secret}
    shown = {option.field for option in OPTIONS} | {USERS}
    return [
        {
            "key": _key(each.name),
            "value": _shown(getattr(sources.config, each.name), is_secret=each.name in secrets),
            "from": sources.origins.get(each.name, "default"),
        }
        for each in fields(Config)
        if each.name in shown
    ]


def _shown(value: Any, *, is_secret: bool) -> Any:
    if is_secret and value is not None:
        return HIDDEN
    if isinstance(value, Mapping):
        return dict.fromkeys(value, HIDDEN)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, Path) else value
