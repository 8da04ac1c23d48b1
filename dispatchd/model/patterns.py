"""Regular expressions that users write, matched in a time that no name can make long.

The engine is RE2, whose time is bounded by the size of an expression times the length of a name: it has no look-around
and no references back, which RabbitMQ's has. Expressions and names are taken as octets, as RabbitMQ takes them.
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
        octets = text.encode()
        if len(octets) > LONGEST_PATTERN:
            raise PatternError(f"it has {len(octets)} octets, expected at most {LONGEST_PATTERN}")
        options: Any = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        options.max_mem = _MEMORY
        options.never_capture = True
        try:
            self._compiled: Any = re2.compile(octets, options)
        except re2.error as error:
            raise PatternError(_said_by(error)) from None
        if self._compiled.programsize > LARGEST_PROGRAM:
            raise PatternError("it repeats too much")
        self.text = text

    def matches(self, name: str) -> bool:
        """Whether it is found in this name."""
        return self._compiled.search(name.encode()) is not None

    def found_in(self, octets: bytes) -> bool:
        """Likewise, in the octets of a name."""
        return self._compiled.search(octets) is not None


def _said_by(error: Exception) -> str:
    said = error.args[0] if error.args else error
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def quoted(text: str) -> str:
    """An expression that stands for this text itself."""
    return str(re2.escape(text))
