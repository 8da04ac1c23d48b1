from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.net.proxy_protocol import SIGNATURE_V2, is_trusted, read_header

V1 = b"PROXY TCP4 192.0.2.1 127.0.0.1 4000 5672\r\n"
ADDRESSES = struct.pack(">4s4sHH", b"\xc0\0\2\1", b"\x7f\0\0\1", 4000, 5672)
ADDRESSES_6 = struct.pack(">16s16sHH", b"\x20\1\x0d\xb8" + b"\0" * 11 + b"\1", b"\0" * 16, 4000, 5672)


def v2(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE_V2 + struct.pack(">BBH", command, family, len(addresses)) + addresses


HEADERS = [
    (V1, ("192.0.2.1", 4000)),
    (b"PROXY TCP6 2001:db8::1 ::1 4000 5672\r\n", ("2001:db8::1", 4000)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n", None),
    (v2(0x21, 0x11, ADDRESSES), ("192.0.2.1", 4000)),
    (v2(0x21, 0x11, ADDRESSES + b"\4\0\1x"), ("192.0.2.1", 4000)),
    (v2(0x21, 0x21, ADDRESSES_6), ("2001:db8::1", 4000)),
    (v2(0x20, 0x11, ADDRESSES), None),
    (v2(0x20, 0x00, b""), None),
    (v2(0x21, 0x31, b"x" * 216), None),
]


@pytest.mark.parametrize(("header", "peer"), HEADERS)
def test_a_header_is_read_whole_and_no_more(header: bytes, peer: tuple[str, int] | None) -> None:
    assert read_header(header) == (len(header), peer)
    assert read_header(header + b"AMQP\0\0\x09\x01") == (len(header), peer)
    for end in range(1, len(header)):
        assert read_header(header[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"AMQP\0\0\x09\x01",
        b"\x16\x03\x01\x02\0",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4000\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 4000 5672\r\n",
        b"PROXY TCP4 999.0.2.1 127.0.0.1 4000 5672\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 70000 5672\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4000 5672 more\r\n",
        b"PROXY UDP4 192.0.2.1 127.0.0.1 4000 5672\r\n",
        b"PROXY \xff\r\n",
        b"PROXY " + b"x" * 200,
        v2(0x31, 0x11, ADDRESSES),
        v2(0x22, 0x11, ADDRESSES),
        v2(0x21, 0x11, ADDRESSES[:-1]),
        v2(0x21, 0x11, b"x" * 1000),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_header(data)


@given(st.binary(max_size=120) | st.binary(max_size=60).map(lambda rest: SIGNATURE_V2 + rest))
def test_any_octets_are_a_header_or_none_or_a_part_of_one(data: bytes) -> None:
    try:
        found = read_header(data)
    except ValueError:
        return
    assert found is None or 0 < found[0] <= len(data)


def test_who_is_trusted() -> None:
    networks = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::5"):
        assert is_trusted(address, networks)
    for address in ("11.0.0.1", "fe80::1%eth0"):
        assert not is_trusted(address, networks)
    assert not is_trusted("10.1.2.3", [])
