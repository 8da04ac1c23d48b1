import base64
import json
import re
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from dispatchd.config import OPTIONS, Config, ConfigError, read_file, read_flags

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4))


def entry(hashed: bytes) -> dict[str, str]:
    return {"password_bcrypt_base64": base64.b64encode(hashed).decode()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dispatchd.json"


def written(file: Path, document: Any) -> Path:
    file.write_text(json.dumps(document))
    return file


def test_each_key_of_the_file_sets_its_field(file: Path) -> None:
    values = read_file(
        written(
            file,
            {
                "amqp-port": 1,
                "admin-port": 2,
                "debug-port": 0,
                "bind": "::1",
                "persist-dir": "/somewhere",
                "coalesce-interval": "1.5s",
                "memory-high-watermark": 0.4,
                "disk-free-limit": "1GiB",
                "store-size-limit": 1_000_000,
                "max-message-size": "128MiB",
                "log-level": "debug",
                "guest-from-anywhere": True,
                "admin-actions": "off",
                "users": {"alice": entry(HASH)},
            },
        )
    )
    assert Config(**values) == Config(
        amqp_port=1,
        admin_port=2,
        debug_port=0,
        bind="::1",
        persist_dir=Path("/somewhere"),
        coalesce_interval=1.5,
        memory_high_watermark=0.4,
        disk_free_limit=1 << 30,
        store_size_limit=1_000_000,
        max_message_size=128 << 20,
        log_level="debug",
        guest_from_anywhere=True,
        admin_actions=False,
        users={"alice": HASH},
    )


def test_the_same_from_the_command_line() -> None:
    assert read_flags({"amqp-port": "65535", "coalesce-interval": "20ms", "guest-from-anywhere": True}) == {
        "amqp_port": 65535,
        "coalesce_interval": pytest.approx(0.02),
        "guest_from_anywhere": True,
    }


def test_only_what_is_given_is_read(file: Path) -> None:
    assert read_file(written(file, {"bind": "127.0.0.1"})) == {"bind": "127.0.0.1"}
    assert read_flags({}) == {}


def test_each_option_documents_the_default_that_the_configuration_has() -> None:
    documented = {option: re.search(r"\(default: ([^,)]+)", option.help) for option in OPTIONS}
    for option, default in documented.items():
        if default is None:
            assert getattr(Config(), option.field) is False
        elif default[1] == "none":
            assert not getattr(Config(), option.field)
        else:
            assert read_flags({option.key: default[1]}) == {option.field: getattr(Config(), option.field)}


@pytest.mark.parametrize(
    ("text", "seconds"), [("200ms", 0.2), ("0.2s", 0.2), ("500us", 0.0005), ("0s", 0.0), ("60s", 60.0)]
)
def test_a_duration_has_a_unit(text: str, seconds: float) -> None:
    assert read_flags({"coalesce-interval": text}) == {"coalesce_interval": pytest.approx(seconds)}


@pytest.mark.parametrize(
    ("text", "octets"), [("1", 1), ("1.5GB", 1_500_000_000), ("2kB", 2000), ("512MiB", 512 << 20), ("1TiB", 1 << 40)]
)
def test_a_size_may_have_a_unit(text: str, octets: int) -> None:
    assert read_flags({"disk-free-limit": text, "memory-high-watermark": text}) == {
        "disk_free_limit": octets,
        "memory_high_watermark": octets,
    }


@pytest.mark.parametrize(("text", "fraction"), [("0.6", 0.6), (".25", 0.25), ("1.0", 1.0)])
def test_a_watermark_may_be_a_fraction(text: str, fraction: float) -> None:
    assert read_flags({"memory-high-watermark": text}) == {"memory_high_watermark": fraction}


@pytest.mark.parametrize(
    ("document", "found", "expected"),
    [
        ({"amqp-port": "5672"}, 'key "amqp-port": found "5672"', "a whole number from 0 to 65535"),
        ({"amqp-port": 65536}, "found 65536", "a whole number"),
        ({"amqp-port": -1}, "found -1", "a whole number"),
        ({"amqp-port": True}, "found true", "a whole number"),
        ({"admin-port": 1.0}, "found 1.0", "a whole number"),
        ({"bind": ""}, 'found ""', "an address"),
        ({"persist-dir": None}, 'key "persist-dir": found null', "the path of a folder"),
        ({"persist-dir": "\ud800"}, "found", "the path of a folder"),
        ({"persist-dir": "a\0b"}, r'found "a\u0000b"', "the path of a folder"),
        ({"coalesce-interval": 200}, "found 200", "such as 200ms"),
        ({"coalesce-interval": "200"}, 'found "200"', "such as 200ms"),
        ({"coalesce-interval": "61s"}, 'found "61s"', "at most 60s"),
        ({"memory-high-watermark": 1.5}, "found 1.5", "a fraction such as 0.6, or a number of bytes"),
        ({"memory-high-watermark": 0}, "found 0", "a fraction such as 0.6"),
        ({"disk-free-limit": "50 MB"}, 'found "50 MB"', "such as 512MiB"),
        ({"disk-free-limit": "0.1B"}, 'found "0.1B"', "such as 512MiB"),
        ({"max-message-size": -1}, "found -1", "a number of bytes"),
        ({"store-size-limit": True}, "found true", "a number of bytes"),
        ({"log-level": "loud"}, 'found "loud"', "one of debug, info, warning, error"),
        ({"log-level": ["info"]}, 'found ["info"]', "one of debug"),
        ({"guest-from-anywhere": "yes"}, 'found "yes"', "true or false"),
        ({"admin-actions": "yes"}, 'found "yes"', "on or off"),
        ({"strict-mode": False}, 'key "strict-mode": not known', "one of amqp-port, "),
        ({"config-file": "x"}, 'key "config-file": not known', "users"),
        ({"users": []}, 'key "users": found an array', "an object"),
        ({"users": {"": entry(HASH)}}, 'key "users."', "a user's name"),
        ({"users": {"alice": "secret"}}, 'key "users.alice": found a string', "an object"),
        ({"users": {"alice": {}}}, 'key "users.alice.password_bcrypt_base64": found nothing', "hash-password"),
        ({"users": {"alice": {"password": "secret"}}}, 'key "users.alice.password": not known', "password_"),
        ({"users": {"alice": {"password_bcrypt_base64": None}}}, 'base64": found null', "hash-password"),
        ({"users": {"alice": {"password_bcrypt_base64": "sécret"}}}, "not base64", "hash-password"),
        ({"users": {"alice": {"password_bcrypt_base64": "secret!"}}}, "not base64", "hash-password"),
        ({"users": {"alice": entry(b"secret")}}, "base64 of 6 bytes that are no bcrypt hash", "hash-password"),
        ({"users": {"alice": entry(HASH[:-1])}}, "base64 of 59 bytes", "hash-password"),
        ([], "found []", "a JSON object"),
    ],
)
def test_a_mistake_names_the_key_what_was_found_and_what_was_expected(
    file: Path, document: Any, found: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_file(written(file, document))
    text = str(refused.value)
    assert text.startswith(f"{file}: ")
    assert found in text
    assert expected in text.partition("expected ")[2]
    assert "secret" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000, b'{"amqp-port": ' + b"9" * 5000 + b"}", b'{"bind": "a", "bind": "b"}'],
)
def test_a_file_that_is_malformed_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(file))}: .*found .*expected"):
        read_file(file)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.json: can't be read: No such file"):
        read_file(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        read_file(tmp_path, may_be_missing=True)


def test_a_file_that_may_be_missing_counts_as_empty(tmp_path: Path) -> None:
    assert read_file(tmp_path / "missing.json", may_be_missing=True) == {}


@pytest.mark.parametrize(("key", "text"), [("amqp-port", "x"), ("debug-port", "70000"), ("bind", "")])
def test_a_mistake_on_the_command_line_names_the_option(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf'^option --{key}: found "{text}", expected '):
        read_flags({key: text})


def test_hashes_are_not_shown_with_the_configuration() -> None:
    assert "$2b$" not in repr(Config(users={"alice": HASH}))
