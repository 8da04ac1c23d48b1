from __future__ import annotations

import json
from pathlib import Path

import pytest

from dispatchd import cli
from dispatchd.config import Config, ConfigError, read_file
from dispatchd.config_sources import Sources, gather, login_of, rows
from dispatchd.healthcheck import default_url


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("s3cret\n")
    return str(tmp_path / "secret")


def test_the_environment_is_before_the_command_line_and_the_file_behind_both(tmp_path: Path) -> None:
    file = tmp_path / "dispatchd.json"
    file.write_text(json.dumps({"admin-port": 3, "debug-port": 4}))
    environment = {
        "DISPATCHD_AMQP_PORT": "1",
        "DISPATCHD_TLS_PORT": "1",
        "DISPATCHD_ADMIN_PORT": "1",
        "DISPATCHD_GUEST_FROM_ANYWHERE": "true",
        "DISPATCHD_CONFIG_FILE": str(file),
        "DISPATCHD_BIND": "",
    }
    sources = gather({"tls_port": "2", "debug_port": "2"}, environment)
    assert sources.config == Config(amqp_port=1, tls_port=2, admin_port=3, debug_port=4, guest_from_anywhere=True)
    assert sources.origins == {
        "amqp_port": "environment DISPATCHD_AMQP_PORT",
        "guest_from_anywhere": "environment DISPATCHD_GUEST_FROM_ANYWHERE",
        "tls_port": "command line --tls-port",
        "admin_port": f"file {file}",
        "debug_port": f"file {file}",
    }
    assert sources.remarks == (f"{file} says otherwise and overrides DISPATCHD_ADMIN_PORT, --debug-port",)


def test_rabbitmqs_variables_are_known_and_our_own_are_before_them(secret: str) -> None:
    environment = {"RABBITMQ_DEFAULT_USER": "alice", "RABBITMQ_DEFAULT_PASS": "pw", "RABBITMQ_DEFAULT_VHOST": "shop"}
    assert gather({}, environment).config == Config(default_user="alice", default_pass="pw", default_vhost="shop")
    environment |= {"DISPATCHD_DEFAULT_PASS_FILE": secret}
    assert gather({}, environment).config.default_pass == "s3cret"
    assert login_of(environment) == ("alice", "s3cret")
    assert login_of(environment | {"DISPATCHD_USER": "bob", "DISPATCHD_PASSWORD": "x"}) == ("bob", "x")
    assert login_of({}) == ("guest", "guest")


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"DISPATCHD_AMQP_PORT": "x"}, 'environment DISPATCHD_AMQP_PORT: found "x", expected a whole number'),
        ({"DISPATCHD_SALVAGE": "perhaps"}, 'environment DISPATCHD_SALVAGE: found "perhaps", expected true or false'),
        ({"DISPATCHD_DEFAULT_USER": "alice"}, "default-user: found no default-pass"),
        ({"DISPATCHD_DEFAULT_PASS": "x" * 73}, "environment DISPATCHD_DEFAULT_PASS: found a string that is not shown"),
        ({"RABBITMQ_DEFAULT_PASS_FILE": "/nowhere"}, "environment RABBITMQ_DEFAULT_PASS_FILE: /nowhere: can't be read"),
        (
            {"RABBITMQ_DEFAULT_PASS_FILE": "/x", "RABBITMQ_DEFAULT_PASS": "y"},
            "environment RABBITMQ_DEFAULT_PASS: found RABBITMQ_DEFAULT_PASS_FILE as well",
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(environment: dict[str, str], error: str) -> None:
    with pytest.raises(ConfigError) as refused:
        gather({}, environment)
    assert str(refused.value).startswith(error)


def test_a_name_that_is_almost_right_is_remarked_on_and_others_are_nobodys_business() -> None:
    environment = {"DISPATCHD_AMQPPORT": "1", "DISPATCHD_SERVICE_HOST": "10.0.0.1", "DISPATCHD_PORT": "tcp://10.0.0.1"}
    assert gather({}, environment).remarks == ("environment DISPATCHD_AMQPPORT is not known; DISPATCHD_AMQP_PORT is",)


def test_what_kubernetes_says_of_a_service_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPATCHD_URL", raising=False)
    monkeypatch.setenv("DISPATCHD_ADMIN_PORT", "tcp://10.0.0.1:80")
    assert gather({}).config.admin_port == Config.admin_port
    assert default_url() == "http://127.0.0.1:8080"
    monkeypatch.setenv("DISPATCHD_ADMIN_PORT", "81")
    assert gather({}).config.admin_port == 81
    assert default_url() == "http://127.0.0.1:81"


def test_a_file_may_be_toml(tmp_path: Path) -> None:
    file = tmp_path / "dispatchd.toml"
    file.write_text('amqp-port = 1\ndisk-free-limit = "1GiB"\nproxy-protocol-from = ["10.0.0.0/8"]\n[users]\n')
    assert read_file(file)["disk_free_limit"] == 1 << 30
    for text, error in (
        ("amqp-port = ", "found no TOML (Invalid value (at end of document)), expected TOML"),
        ("amqp-port = 1\namqp-port = 2", "found no TOML"),
        ("amqp-port = 1979-05-27", 'key "amqp-port": found "1979-05-27", expected a whole number'),
        ("amqpport = 1", 'key "amqpport": not known'),
        ("default-pass = 12345", 'key "default-pass": found a number that is not shown, expected a password'),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as refused:
            read_file(file)
        assert str(refused.value).startswith(f"{file}: {error}")


def test_what_is_shown_says_where_it_comes_from_and_hides_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHD_DEFAULT_PASS", "s3cret")
    monkeypatch.setenv("DISPATCHD_PERSIST_DIR", str(tmp_path))
    assert cli.main(["config", "show", "--amqp-port", "1", "--json"]) == 0
    out = capsys.readouterr().out
    assert "s3cret" not in out
    found = {row["key"]: (row["value"], row["from"]) for row in json.loads(out)}
    assert found["amqp-port"] == (1, "command line --amqp-port")
    assert found["persist-dir"] == (str(tmp_path), "environment DISPATCHD_PERSIST_DIR")
    assert found["default-pass"] == ("(hidden)", "environment DISPATCHD_DEFAULT_PASS")
    assert found["bind"] == ("0.0.0.0", "default")
    assert cli.main(["config", "show"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["key", "value", "from"]


def test_hashes_of_users_are_hidden() -> None:
    config = Config(users={"alice": b"$2b$"})
    [users] = [row for row in rows(Sources(config, {})) if row["key"] == "users"]
    assert users["value"] == {"alice": "(hidden)"}
