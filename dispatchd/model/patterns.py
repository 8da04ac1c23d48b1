r"""Regular expressions that users write, matched in a time that no name can make long.

The engine is RE2, whose time is bounded by the size of an expression times the length of a name. It knows no
look-around and no references back, which RabbitMQ's engine does. Look-ahead where an expression begins
(`^(?!amq\.).*`), which is what permissions use it for, is looked for apart. Expressions and names are taken as octets,
as RabbitMQ takes them.
"""

from __future__ import annotations

from typing import Any, Final

import re2

LONGEST_PATTERN: Final = 1_000
"""Octets."""
LARGEST_PROGRAM: Final = 2_000
"""Instructions of what RE2 makes of an expression; `.*` has 10. No name of 255 octets costs more than milliseconds."""
_MEMORY: Final = 1 << 20


class PatternError(ValueError):
    """A text that is no regular expression, or one that would take too long. Says what is wrong with it."""


class Pattern:
    """A regular expression that is looked for anywhere in a name."""

    def __init__(self, text: str) -> None:
        """Raises PatternError."""
        size = len(text.encode())
        if size > LONGEST_PATTERN:
            raise PatternError(f"it has {size} octets, expected at most {LONGEST_PATTERN}")
        ahead, rest = _split(text)
        self.text = text
        self._ahead: list[tuple[bool, Any]] = [(wanted, _compiled(f"^(?:{each})")) for wanted, each in ahead]
        self._rest: Any = _compiled(rest)

    def matches(self, name: str) -> bool:
        """Whether it is found in this name."""
        return self.found_in(name.encode())

    def found_in(self, octets: bytes) -> bool:
        """Likewise, in the octets of a name."""
        for wanted, each in self._ahead:
            if (each.search(octets) is not None) != wanted:
                return False
        return self._rest.search(octets) is not None


def _compiled(text: str) -> Any:
    options: Any = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = _MEMORY
    options.never_capture = True
    try:
        compiled = re2.compile(text.encode(), options)
    except re2.error as error:
        raise PatternError(_said_by(error)) from None
    if compiled.programsize > LARGEST_PROGRAM:
        raise PatternError("it repeats too much")
    return compiled


def _said_by(error: Exception) -> str:
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _split(text: str) -> tuple[list[tuple[bool, str]], str]:
    """The look-aheads with which an expression begins, behind its `^`: (whether it has to match, it); and the rest.

    There are none if the rest offers a choice: then they would be part of the first alone.
    """
    ahead: list[tuple[bool, str]] = []
    at = 1
    while text.startswith("^") and text.startswith(("(?=", "(?!"), at) and "\\Q" not in text:
        end, _ = _scan(text, at + 3)
        if end == len(text):
            return [], text
        ahead.append((text[at + 2] == "=", text[at + 3 : end]))
        at = end + 1
    end, has_choice = _scan(text, at)
    is_repeated = text[at : at + 1] in ("*", "+", "?", "{")
    if not ahead or has_choice or is_repeated or end < len(text):
        return [], text
    return ahead, f"^{text[at:]}"


def _scan(text: str, at: int) -> tuple[int, bool]:
    """Where the group ends that begins before `at`, or the text does; and whether there is a choice in it."""
    depth = 0
    has_choice = False
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif character == "[":
            at = _end_of_class(text, at)
        elif character == "(":
            depth += 1
        elif character == ")":
            if not depth:
                return at, has_choice
            depth -= 1
        elif character == "|" and not depth:
            has_choice = True
        at += 1
    return len(text), has_choice


def _end_of_class(text: str, at: int) -> int:
    """Where a class of characters ends that begins at `at`; a `]` that comes first in it is one of them."""
    at += 1
    if text.startswith("^", at):
        at += 1
    if text.startswith("]", at):
        at += 1
    while at < len(text) and text[at] != "]":
        at += 2 if text[at] == "\\" else 1
    return at


def quoted(text: str) -> str:
    """An expression that stands for this text itself."""
    return str(re2.escape(text))
