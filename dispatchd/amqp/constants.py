"""Octets that frames are made of (AMQP 0-9-1, 4.2.3) and limits on them."""

from typing import Final

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"

FRAME_METHOD: Final = 1
FRAME_HEADER: Final = 2
FRAME_BODY: Final = 3
FRAME_HEARTBEAT: Final = 8
FRAME_END: Final = 0xCE

FRAME_OVERHEAD: Final = 8
"""Octets of a frame around its payload: type, channel and size before it, the end octet after it."""

FRAME_MIN_SIZE: Final = 4096
"""The largest frame that either peer may send before connection.tune-ok, and the least frame_max that can be agreed."""

HEARTBEAT_FRAME: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

SHORTSTR_MAX: Final = 255
"""Octets of the longest short string."""
