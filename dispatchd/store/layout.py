"""How a store on disk is laid out: its sub-databases, the version of its format, and the rows of definitions.

Format 2 ends each value with a checksum (`model/checksums.py`); format 1 had none. Format 3 is format 2 with a redo log
beside it (`redo_log.py`), which a version that does not know it must not pass over. A store that was closed has none.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final

from dispatchd.model.checksums import (
    CHECKSUM_SIZE,
    CONTENTS,
    DEFINITIONS,
    ENTRIES,
    MARKS,
    check,
    with_checksum,
)
from dispatchd.store.interface import StoreTooNew

META_NAME: Final = b"meta"
DEFINITIONS_NAME: Final = b"definitions"
ENTRIES_NAME: Final = b"entries"
CONTENTS_NAME: Final = b"contents"
MARKS_NAME: Final = b"marks"
NAMES: Final = {DEFINITIONS: DEFINITIONS_NAME, CONTENTS: CONTENTS_NAME, ENTRIES: ENTRIES_NAME, MARKS: MARKS_NAME}
"""By the numbers that their checksums begin with."""
DATABASES: Final = (META_NAME, DEFINITIONS_NAME, ENTRIES_NAME, CONTENTS_NAME, MARKS_NAME)

FORMAT_KEY: Final = b"format"
"""In `meta`; its value has no checksum, so that every version can read it."""
FORMAT: Final = 2
FORMAT_WITH_LOG: Final = 3
LOG_KEY: Final = b"redo"
"""In `meta`, as long as there is a redo log: which one it is, and up to which record LMDB has what is in it."""

KEY_SIZES: Final = {DEFINITIONS: 16, CONTENTS: 8, ENTRIES: 16, MARKS: 8}

_DIGEST_SIZE: Final = 16
_LENGTH_SIZE: Final = 4


def expect_known(data: Path, found: int) -> None:
    """Raises StoreTooNew if the format of a file is one that this version does not know."""
    if found > FORMAT_WITH_LOG:
        wrong = f"{data}: written in format {found}, expected format {FORMAT_WITH_LOG} or an older one"
        raise StoreTooNew(f"{wrong}; use the version of dispatchd that wrote it")


def definition_key(key: bytes) -> bytes:
    """What a definition is stored under: LMDB's keys end at 511 bytes, and what identifies one may have more."""
    return blake2b(key, digest_size=_DIGEST_SIZE).digest()


def definition_row(key: bytes, record: bytes) -> tuple[bytes, bytes]:
    """A definition: under the digest of its key, the length of the key, the key, and the record."""
    digest = definition_key(key)
    return digest, with_checksum(DEFINITIONS, digest, len(key).to_bytes(_LENGTH_SIZE, "big") + key + record)


def read_definition(digest: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Key and record of a definition. Raises ValueError if it is not what was stored under this digest."""
    try:
        check(DEFINITIONS, digest, value)
    except ValueError as error:
        raise ValueError(f"definition {digest.hex()}: {error}") from None
    end = _LENGTH_SIZE + int.from_bytes(value[:_LENGTH_SIZE], "big")
    return value[_LENGTH_SIZE:end], value[end:-CHECKSUM_SIZE]
