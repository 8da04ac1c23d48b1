from pathlib import Path

import pytest

from dispatchd.perf.address import Address, parse_address
from dispatchd.perf.options import Load, OptionError, load_of, perf_parser


def load(*argv: str) -> Load:
    return load_of(perf_parser().parse_args(argv))


def test_without_options_it_is_perftests_load() -> None:
    assert load("--id", "test") == Load()


def test_every_test_has_a_name() -> None:
    assert load().id.startswith("test-")


@pytest.mark.parametrize(
    "argv",
    [
        (
            "-h amqp://u:p@h:1/v -d id -x 2 -y 3 -q 4 -s 50 -r 6.5 -R 7 -c 8 -ct 9 -f persistent mandatory -A 3 -z 11"
            " -C 12 -D 13 -u a,b -qa x-max-length=5,x-queue-mode=lazy -ad false -e ex -t topic -k key -p -i 2"
        ),
        (
            "--uri amqp://u:p@h:1/v --id id --producers 2 --consumers 3 --qos 4 --size 50 --rate 6.5 --consumer-rate 7"
            " --confirm 8 --confirm-timeout 9 --flag persistent --flag mandatory --multi-ack-every 3 --time 11"
            " --pmessages 12 --cmessages 13 --queue a,b --queue-args x-max-length=5,x-queue-mode=lazy"
            " --auto-delete false --exchange ex --type topic --routing-key key --predeclared --interval 2"
        ),
        (
            "-hamqp://u:p@h:1/v -did -x2 -y3 -q4 -s50 -r6.5 -R7 -c8 -ct 9 -f persistent -f mandatory -A3 -z11 -C12 -D13"
            " -ua,b -qa=x-max-length=5,x-queue-mode=lazy -ad=false -eex -ttopic -kkey -p -i2"
        ),
    ],
)
def test_names_are_perftests(argv: str) -> None:
    assert load(*argv.split()) == Load(
        id="id",
        uri=Address("h", 1, "u", "p", "v"),
        producers=2,
        consumers=3,
        qos=4,
        size=50,
        rate=6.5,
        consumer_rate=7,
        confirm=8,
        confirm_timeout=9,
        flag=("persistent", "mandatory"),
        multi_ack_every=3,
        time=11,
        pmessages=12,
        cmessages=13,
        queue=("a", "b"),
        queue_args={"x-max-length": 5, "x-queue-mode": "lazy"},
        auto_delete=False,
        exchange="ex",
        type="topic",
        routing_key="key",
        predeclared=True,
        interval=2,
    )


def test_queues_by_a_pattern_and_files() -> None:
    found = load("-qp", "perf-%03d", "-qpf", "1", "-qpt", "3", "-a", "--json", "a.json", "--plot", "b.svg")
    assert (found.queue_pattern, found.queue_pattern_from, found.queue_pattern_to) == ("perf-%03d", 1, 3)
    assert (found.autoack, found.json, found.plot) == (True, Path("a.json"), Path("b.svg"))


def test_an_exchange_without_a_name_has_that_of_its_type() -> None:
    assert load("-t", "topic").exchange == "topic"
    assert load("-e", "amq.default", "-u", "q").exchange == ""


@pytest.mark.parametrize(("argv", "every"), [("", 1), ("-A 10", 10), ("-a", 0)])
def test_acks(argv: str, every: int) -> None:
    assert load(*argv.split()).ack_every == every


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("-x 0 -y 0", "expected producers or consumers, got none"),
        ("-qp q-%d", "go together"),
        ("-qpf 1 -qpt 2", "go together"),
        ("-qp q-%d -qpf 2 -qpt 1", "expected --queue-pattern-to to be 2 or more, got 1"),
        ("-qp q -qpf 1 -qpt 2", "with one number in it"),
        ("-qp %d-%d -qpf 1 -qpt 2", "with one number in it"),
        ("-u q -qp q-%d -qpf 1 -qpt 2", "got both"),
        ("-a -A 5", "got both"),
        ("-q 5 -A 6", "--multi-ack-every 6 would wait for ever with --qos 5"),
        ("-p", "--predeclared needs --queue"),
        ("-e=", "the default exchange needs"),
        ("-e= -u a,b", "the default exchange needs"),
    ],
)
def test_what_does_not_go_together(argv: str, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        load(*argv.split())


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("-x two", "expected a whole number, got 'two'"),
        ("-s 11", "expected 12 to 1073741824 octets, got '11'"),
        ("-c 0", "expected a whole number from 1, got '0'"),
        ("-r 0", "expected a number from 0.001 to 1e9, got '0'"),
        ("-z nan", "expected a number from 0.001 to 1e9, got 'nan'"),
        ("-q 65536", "expected a whole number up to 65535"),
        ("-f durable", "invalid choice: 'durable'"),
        ("-qa x-max-length", "expected key=value, got 'x-max-length'"),
        ("-ad maybe", "expected true or false, got 'maybe'"),
        ("-h amqps://localhost", "amqps is not supported, only amqp"),
        ("-k " + "k" * 256, "expected a name of at most 255 octets, got one of 256"),
        ("-X 2", "unrecognized arguments: -X 2"),
    ],
)
def test_a_value_that_cannot_be_is_explained(argv: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        load(*argv.split())
    assert exit.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("amqp://", Address("localhost", 5672, "guest", "guest", "/")),
        ("amqp://host", Address("host")),
        ("amqp://host/", Address("host")),
        ("amqp://host:1234/%2f", Address("host", 1234)),
        ("amqp://me:p%40ss@10.0.0.1/my%20host", Address("10.0.0.1", 5672, "me", "p@ss", "my host")),
        ("amqp://[::1]:5673/v", Address("::1", 5673, vhost="v")),
    ],
)
def test_uris(uri: str, address: Address) -> None:
    assert parse_address(uri) == address


@pytest.mark.parametrize(
    "uri", ["localhost", "http://localhost", "amqps://localhost", "amqp://h/a/b", "amqp://h?heartbeat=1", "amqp://h:x"]
)
def test_what_is_no_uri_of_a_broker(uri: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_address(uri)
