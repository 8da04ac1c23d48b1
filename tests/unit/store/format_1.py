"""A store as dispatchd wrote it before there were checksums."""

import struct
from hashlib import blake2b
from pathlib import Path

import lmdb

from dispatchd.amqp.message import Message
from dispatchd.model.entry import NEVER

Tables = dict[bytes, dict[bytes, bytes]]


def content(message: Message) -> bytes:
    """Sizes of address and header, both, and the body."""
    sizes = struct.pack(">HI", len(message.address), len(message.header))
    return sizes + message.address + message.header + message.body


def entry(of: Message | int, expires_at: int = NEVER) -> bytes:
    """An entry with its message, or with the id of its content."""
    value = of.to_bytes(8, "big") if isinstance(of, int) else content(of)
    kind = 1 if isinstance(of, int) else 0
    return bytes([kind]) + value if expires_at == NEVER else bytes([kind | 2]) + expires_at.to_bytes(8, "big") + value


def definition(key: bytes, record: bytes) -> tuple[bytes, bytes]:
    """Digest and value."""
    return blake2b(key, digest_size=16).digest(), len(key).to_bytes(4, "big") + key + record


def write(directory: Path, tables: Tables) -> None:
    """Make the data file of a broker that has ended."""
    directory.mkdir(exist_ok=True)
    with (
        lmdb.open(str(directory), map_size=1 << 32, max_dbs=5) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"format", b"1", db=environment.open_db(b"meta", transaction))
        for name in (b"definitions", b"entries", b"contents", b"marks"):
            table = environment.open_db(name, transaction)
            for key, value in tables.get(name, {}).items():
                transaction.put(key, value, db=table)
