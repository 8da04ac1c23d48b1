import base64
import getpass
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bcrypt
import pytest

import dispatchd
from dispatchd import cli
from dispatchd.config import Config, StartError


class Server(ModuleType):
    """Stands in for `dispatchd.server`: notes what it is to serve."""

    def __init__(self) -> None:
        super().__init__("dispatchd.server")
        self.config: Config | None = None
        self.error: Exception | None = None

    def serve(self, config: Config, _read_again: Callable[[], Config]) -> int:
        self.config = config
        if self.error is not None:
            raise self.error
        return 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    monkeypatch.setitem(sys.modules, "dispatchd.server", server)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield server
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "argv",
    [
        ["-amqp-port", "1", "-persist-dir", "/x"],
        ["--amqp-port", "1", "--persist-dir", "/x"],
        ["-amqp-port=1", "-persist-dir=/x"],
        ["--amqp-port=1", "--persist-dir=/x"],
    ],
)
def test_options_have_one_dash_or_two(server: Server, argv: list[str]) -> None:
    assert cli.main(argv) == 0
    assert server.config == Config(amqp_port=1, persist_dir=Path("/x"))


@pytest.mark.parametrize("dash", ["-", "--"])
def test_guest_from_anywhere_and_salvage_take_no_value(server: Server, dash: str) -> None:
    assert cli.main([f"{dash}guest-from-anywhere", f"{dash}salvage"]) == 0
    assert server.config == Config(guest_from_anywhere=True, salvage=True)


def test_without_options_there_are_the_defaults(server: Server) -> None:
    assert cli.main([]) == 0
    assert server.config == Config()


def test_the_file_overrides_the_command_line_and_one_line_says_so(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "dispatchd.json"
    file.write_text(json.dumps({"amqp-port": 2, "admin-port": 3, "bind": "::1", "debug-port": 6}))
    argv = ["-amqp-port=1", "-admin-port=4", "-debug-port=6", "-log-level=warning", f"-config-file={file}"]
    assert cli.main(argv) == 0
    assert server.config == Config(amqp_port=2, admin_port=3, debug_port=6, bind="::1", log_level="warning")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{file} says otherwise and overrides --amqp-port, --admin-port")
    assert " WARNING dispatchd.cli: " in line


def test_log_level(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-log-level", "error"]) == 0
    logging.getLogger("x").warning("unheard")
    logging.getLogger("x").error("heard")
    logging.getLogger().handlers[0].flush()
    assert capsys.readouterr().err.endswith(" ERROR   x: heard\n")


def test_a_configuration_file_must_exist_unless_it_may_be_missing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing.json")
    assert cli.main(["--config-file-if-exists", missing]) == 0
    assert server.config == Config()
    server.config = None
    assert cli.main(["--config-file-if-exists", missing, "--config-file", missing]) == 78
    assert server.config is None
    assert capsys.readouterr().err == f"dispatchd: {missing}: can't be read: No such file or directory\n"


def test_an_optional_file_that_exists_is_read(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "dispatchd.json"
    file.write_text('{"amqp-port": 7}')
    assert cli.main(["-config-file-if-exists", str(file)]) == 0
    assert server.config == Config(amqp_port=7)


def test_a_mistake_in_a_value_is_one_line_and_status_78(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-coalesce-interval", "200"]) == 78
    assert server.config is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('dispatchd: option --coalesce-interval: found "200", expected ')


def test_what_keeps_the_broker_from_starting_is_one_line_and_status_1(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.error = StartError("port 5672 is in use")
    assert cli.main([]) == 1
    assert capsys.readouterr().err == "dispatchd: port 5672 is in use\n"


@pytest.mark.parametrize("argv", [["--amqp"], ["--strict-mode"], ["-amqp-port"], ["unknown"]])
def test_what_is_not_understood_is_refused(server: Server, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2
    assert server.config is None


@pytest.mark.parametrize("dash", ["-", "--"])
def test_version_says_compiled_or_pure(dash: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([f"{dash}version"])
    assert stopped.value.code == 0
    how = "compiled" if dispatchd.is_compiled() else "pure"
    assert capsys.readouterr().out == f"dispatchd {dispatchd.__version__} ({how})\n"


def typed(monkeypatch: pytest.MonkeyPatch, octets: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))


@pytest.mark.parametrize(
    ("octets", "password"),
    [
        (b"secret\n", b"secret"),
        (b"secret\r\nmore\n", b"secret"),
        (b"no end", b"no end"),
        (b" s\xe4 \n", b" s\xe4 "),
        (b"x" * 72 + b"\n", b"x" * 72),
    ],
)
def test_hash_password_reads_the_first_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], octets: bytes, password: bytes
) -> None:
    typed(monkeypatch, octets)
    assert cli.main(["hash-password", "--rounds", "4"]) == 0
    hashed = base64.b64decode(capsys.readouterr().out, validate=False)
    assert hashed.startswith(b"$2b$04$")
    assert bcrypt.checkpw(password, hashed)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "the password is empty"),
        (b"\n", "the password is empty"),
        ("ä".encode() * 37, "the password has 74 bytes; bcrypt reads no more than 72"),
    ],
)
def test_hash_password_refuses_what_bcrypt_cannot_tell_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], octets: bytes, reason: str
) -> None:
    typed(monkeypatch, octets)
    assert cli.main(["hash-password"]) == 1
    assert capsys.readouterr() == ("", f"dispatchd: {reason}\n")


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("again", "status"), [("sécret", 0), ("other", 1)])
def test_hash_password_asks_twice_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], again: str, status: int
) -> None:
    answers = iter(["sécret", again])

    def answer(*_prompt: Any) -> str:
        return next(answers)

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(b"not this\n")))
    monkeypatch.setattr(getpass, "getpass", answer)
    assert cli.main(["hash-password", "-rounds", "4"]) == status
    shown = capsys.readouterr()
    if status == 0:
        assert bcrypt.checkpw("sécret".encode(), base64.b64decode(shown.out))
    else:
        assert shown == ("", "dispatchd: the two passwords are not the same\n")


@pytest.mark.parametrize("rounds", ["3", "32", "x"])
def test_hash_password_refuses_rounds_that_bcrypt_does_not_have(rounds: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["hash-password", "--rounds", rounds])
    assert stopped.value.code == 2


def test_the_module_runs_the_command_line_and_a_user_made_by_it_is_a_user_of_the_file(tmp_path: Path) -> None:
    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dispatchd", *arguments]
        return subprocess.run(
            command, check=False, input=stdin, capture_output=True, text=True, timeout=30, cwd=tmp_path
        )

    hashed = run("hash-password", "-rounds=4", stdin="secret\n")
    assert (hashed.returncode, hashed.stderr) == (0, "")
    file = tmp_path / "dispatchd.json"
    users = {"users": {"alice": {"password_bcrypt_base64": hashed.stdout.strip()}}}
    file.write_text(json.dumps({**users, "amqp-port": "x"}))
    refused = run("-config-file", str(file))
    assert (refused.returncode, refused.stdout) == (78, "")
    assert refused.stderr.startswith(f'dispatchd: {file}: key "amqp-port": found "x", expected ')
