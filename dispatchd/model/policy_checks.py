"""What makes a policy: its fields and the settings of its definition, with RabbitMQ 3.10's texts for what is wrong.

The checks and their order are those of rabbit_policy, rabbit_policies, rabbit_mirror_queue_misc and
rabbit_queue_location_validator. Settings of clusters, mirrored and quorum queues and streams are checked all the same.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any, Final

from dispatchd.amqp.constants import SHORTSTR_MAX
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.erlang import shown_string, shown_term
from dispatchd.model.patterns import LONGEST_PATTERN, Pattern, PatternError
from dispatchd.model.policies import APPLY_TO, Policy, Record


def make_policy(name: str, is_operator: bool, pattern: Any, apply_to: Any, priority: Any, definition: Any) -> Policy:
    """A policy, or an operator policy, of what came as JSON. Raises PreconditionFailed (406) with all mistakes."""
    problems = [
        _definition(definition, _OPERATOR_SETTINGS if is_operator else None),
        _apply_to(apply_to),
        _pattern(pattern),
        _priority(priority),
    ]
    found = "\n".join(problem for problem in problems if problem)
    if found:
        raise PreconditionFailed(f"Validation failed\n\n{found}\n")
    return Policy(name, pattern, apply_to, priority, definition)


def policy_from_record(record: Record, is_operator: bool) -> Policy:
    """The reverse of `Policy.to_record`; KeyError or AmqpError for a damaged one."""
    return make_policy(
        record["name"], is_operator, record["pattern"], record["apply-to"], record["priority"], record["definition"]
    )


# The fields of a policy: each of these functions returns what is wrong, as RabbitMQ says it, or ""


def _priority(value: Any) -> str:
    is_number = type(value) in (int, float) and -math.inf < value < math.inf
    return "" if is_number else f"priority should be a number, actually was {shown_term(value)}"


def _apply_to(value: Any) -> str:
    if isinstance(value, str) and value in APPLY_TO:
        return ""
    shown = value if isinstance(value, str) else shown_term(value)
    return f"apply-to '{shown}' unrecognised; should be 'queues', 'exchanges' or 'all'"


def _pattern(value: Any) -> str:
    if not isinstance(value, str):
        return f"pattern should be a binary but was {shown_term(value)}"
    try:
        Pattern(value)
    except PatternError as error:
        message, position = _as_pcre_says(value) or (str(error), 0)
        return f"pattern should be regular expression but is invalid: {{{shown_string(message)},{position}}}"
    return ""


def _as_pcre_says(text: str) -> tuple[str, int] | None:
    """What RabbitMQ says of a text that is no regular expression, and of which octet; None if it may be one."""
    octets = text.encode()
    if len(octets) > LONGEST_PATTERN:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(octets)
    except re.error as error:
        message, is_at_end = _TEXTS.get(error.msg, (error.msg, False))
        return message, len(octets) if is_at_end else error.pos or 0
    except (OverflowError, RecursionError):
        pass
    return None


_TEXTS: Final = {
    "unterminated character set": ("missing terminating ] for character class", True),
    "missing ), unterminated subpattern": ("missing )", True),
    "multiple repeat": ("nothing to repeat", False),
    "unbalanced parenthesis": ("unmatched parentheses", False),
    "bad escape (end of pattern)": ("\\ at end of pattern", True),
}
"""Of Python's texts to PCRE's, and whether that points to the end of the pattern."""


def _definition(value: Any, allowed: frozenset[str] | None) -> str:
    """What is wrong with a definition whose settings are `allowed`; None is all that there are."""
    if not isinstance(value, dict):
        return f"definition must be a dictionary: {shown_term(value)}"
    if not value:
        return "no policy provided"
    known = {key: value[key] for key in sorted(value) if allowed is None or key in allowed}
    problem = _locator(known) or _settings(known) or _mirroring(known)
    if problem:
        return problem
    unknown = [key for key in sorted(value) if key not in known or not _is_setting(key)]
    shown = ",".join(f"{{{shown_term(key)},{shown_term(value[key])}}}" for key in unknown)
    return f"[{shown}] are not recognised policy settings" if unknown else ""


def _is_setting(key: str) -> bool:
    return key in _SETTINGS or key in _MIRRORING or key == _LOCATOR


# Settings


def _settings(definition: dict[str, Any]) -> str:
    for key, value in definition.items():
        if key in _SETTINGS:
            is_valid, what = _SETTINGS[key]
            if not is_valid(value):
                return f"{shown_term(value)} is not a valid {what}"
    return ""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_positive(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_routing_key(value: Any) -> bool:
    """Of a length that can be published with; RabbitMQ finds out when it delivers the message."""
    return isinstance(value, str) and len(value.encode()) <= SHORTSTR_MAX


def _is_mode(value: Any) -> bool:
    return value in ("default", "lazy")


def _is_version(value: Any) -> bool:
    return type(value) is int and value in (1, 2)


def _is_overflow(value: Any) -> bool:
    return value in ("drop-head", "reject-publish", "reject-publish-dlx")


def _is_strategy(value: Any) -> bool:
    return value in ("at-most-once", "at-least-once")


def _is_leader_locator(value: Any) -> bool:
    return value in ("client-local", "balanced", "random", "least-leaders")


def _is_age(value: Any) -> bool:
    return isinstance(value, str) and _AGE.fullmatch(value) is not None


def _is_segment_size(value: Any) -> bool:
    return _is_count(value) and bool(value <= _LARGEST_SEGMENT)


_AGE: Final = re.compile(r"0*[1-9][0-9]*[YMDhms]")
_LARGEST_SEGMENT: Final = 3_000_000_000

_SETTINGS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "alternate-exchange": (_is_text, "alternate exchange name"),
    "consumer-timeout": (_is_count, "consumer timeout"),  # of RabbitMQ 3.12
    "dead-letter-exchange": (_is_text, "dead letter exchange name"),
    "dead-letter-routing-key": (_is_routing_key, "dead letter routing key"),
    "dead-letter-strategy": (_is_strategy, "dead letter strategy"),
    "delivery-limit": (_is_count, "delivery limit"),
    "expires": (_is_positive, "queue expiry"),
    "initial-cluster-size": (_is_count, "cluster size"),
    "max-age": (_is_age, "max age"),
    "max-in-memory-bytes": (_is_count, "maximum memory in bytes"),
    "max-in-memory-length": (_is_count, "maximum memory in bytes"),
    "max-length": (_is_count, "maximum length"),
    "max-length-bytes": (_is_count, "maximum length in bytes"),
    "message-ttl": (_is_count, "message TTL"),
    "overflow": (_is_overflow, "overflow value"),
    "queue-leader-locator": (_is_leader_locator, "queue leader locator value"),
    "queue-mode": (_is_mode, "queue-mode value"),
    "queue-version": (_is_version, "queue-version value"),
    "stream-max-segment-size-bytes": (_is_segment_size, "segment size"),
}

_OPERATOR_SETTINGS: Final = frozenset(
    {
        "delivery-limit",
        "expires",
        "max-in-memory-bytes",
        "max-in-memory-length",
        "max-length",
        "max-length-bytes",
        "message-ttl",
    }
)

_LOCATOR: Final = "queue-master-locator"


def _locator(definition: dict[str, Any]) -> str:
    value = definition.get(_LOCATOR, "random")
    return "" if value in ("min-masters", "client-local", "random") else f"{shown_term(value)} invalid {_LOCATOR} value"


# Mirroring

_MIRRORING: Final = (
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-sync-batch-size",
    "ha-promote-on-shutdown",
    "ha-promote-on-failure",
)


def _mirroring(definition: dict[str, Any]) -> str:
    if not any(key in definition for key in _MIRRORING):
        return ""
    if "ha-mode" not in definition:
        return "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown"
    batch = definition.get("ha-sync-batch-size", 1)
    problem = _mirrors(definition) or _one_of(definition, "ha-sync-mode", "manual", "automatic")
    if not problem and not _is_positive(batch):
        problem = f"ha-sync-batch-size takes an integer greater than 0, {shown_term(batch)} given"
    return (
        problem
        or _one_of(definition, "ha-promote-on-shutdown", "always", "when-synced")
        or _one_of(definition, "ha-promote-on-failure", "always", "when-synced")
    )


def _mirrors(definition: dict[str, Any]) -> str:
    mode, is_given, params = definition["ha-mode"], "ha-params" in definition, definition.get("ha-params")
    shown = shown_term(params) if is_given else "none"
    if mode == "all":
        return 'ha-mode="all" does not take parameters' if is_given else ""
    if mode == "exactly":
        return "" if _is_positive(params) else f'ha-mode="exactly" takes an integer, {shown} given'
    if mode != "nodes":
        return f"{shown_term(mode)} is not a valid ha-mode value"
    if not isinstance(params, list):
        return f'ha-mode="nodes" takes a list, {shown} given'
    if not params:
        return 'ha-mode="nodes" list must be non-empty'
    odd = [each for each in params if not isinstance(each, str)]
    return f'ha-mode="nodes" takes a list of strings, {shown_term(odd)} was not a string' if odd else ""


def _one_of(definition: dict[str, Any], key: str, one: str, other: str) -> str:
    value = definition.get(key, one)
    return "" if value in (one, other) else f'{key} must be "{one}" or "{other}", got {shown_term(value)}'
