"""The suites, each with where it comes from, how it is run, and what may differ between the two brokers.

Not here, because no package that can be had carries their tests: pika, bunny, RabbitMQ's C client. What they came to by
hand is in docs/compatibility.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compat.suites.packages import Debian, Npm, Packages, PyPI
from compat.suites.results import Outcomes, go, junit, lines

PLUGINS = Path(__file__).with_name("plugins")


@dataclass(frozen=True)
class Suite:
    """In `command`, {here} is the folder with the packages, {out} one for what this run writes.

    `results` is the file in {out} that `read` reads. Fewer than `at_least` tests that pass on RabbitMQ mean that the
    suite did not run as it should. `exceptions` are tests that only RabbitMQ passes, each with the reason.
    """

    name: str
    packages: Packages
    command: tuple[str, ...]
    at_least: int
    results: str = "junit.xml"
    read: Callable[[Path], Outcomes] = junit
    seconds: float = 120
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def filled_in(self, here: Path, out: Path) -> list[str]:
        return [word.replace("{here}", str(here)).replace("{out}", str(out)) for word in self.command]


def pytest(*options: str, **environment: str) -> tuple[str, ...]:
    """pytest of a suite's own environment, in its source."""
    variables = [f"PYTHONPATH={PLUGINS}", *(f"{name}={value}" for name, value in environment.items())]
    runner = ("{here}/env/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml={out}/junit.xml")
    return ("env", "--chdir={here}/source", "PYTHONDONTWRITEBYTECODE=1", *variables, *runner, *options)


WAITING = ("pytest-timeout==2.4.0", "pytest-xdist==3.8.0")
"""For suites that mostly wait: several tests at once, and an end for each."""
AIORMQ_NOT = [
    f"--deselect=tests/{name}"
    for name in (
        # Races between the client's own tasks when it closes: they fail now and then with either broker.
        "test_connection.py::test_closing_waiter_cancellation",
        "test_connection_futures.py::test_connection_close_during_publish_drain",
    )
]
AIO_PIKA_NOT = [
    f"--ignore=tests/{name}.py"
    for name in (
        "test_amqps",  # TLS
        "test_memory_leak",  # the client's own, and it fails now and then with either broker
        "test_reconnect_channel_snapshot",  # a race as in AIORMQ_NOT
        "test_robust_recovery",  # restarts RabbitMQ in its container
        "test_amqp_robust",  # test_amqp once more, three times over
        "test_amqp_robust_proxy",  # what the client does without a broker
    )
]
NO_DOCKER = ("-p", "no_docker", "--timeout=60", "--numprocesses=4")

GO_SOURCES = "/usr/share/gocode/src"
GO_CLIENT = "github.com/rabbitmq/amqp091-go"

PHP_RUN = """
cp -r {here}/source/tests {out}/tests && cd {out}
rm tests/amqpexchange_publish_confirms.phpt  # waits for ever if the acks of two publishes come as one
NO_INTERACTION=1 TEST_PHP_JUNIT={out}/junit.xml exec php {here}/files/run-tests.php -P -q tests
"""

JAVA_CLASSPATH = ":".join(
    f"/usr/share/java/{jar}.jar" for jar in ("amqp-client", "junit4", "hamcrest-all", "slf4j-api", "slf4j-nop")
)
JAVA_BUILD = f"""
cd source/src/test/java
# These need rabbitmqctl, or libraries that Debian has not.
(cd com/rabbitmq/client/test/functional && rm FunctionalTests.java Policies.java Metrics.java ConnectionRecovery.java)
sed -i 's/@Test public void restarting/public void restarting/' com/rabbitmq/client/test/functional/*.java
# These expect that their next method is sent before the broker's refusal of a publish has come.
sed -i -E 's/@Test (public void (invalidTypeUsed|trailingCharsUsed|tTLMustBe|nonArray))/\\1/' \\
    com/rabbitmq/client/test/functional/TTLHandling.java com/rabbitmq/client/test/functional/CcRoutes.java
ls com/rabbitmq/client/test/functional/*.java > sources
for name in Bug20004Test CloseInMainLoop MultiThreadedChannel QueueingConsumerTests RpcTest SharedThreadPoolTest \\
    server/AlternateExchangeEquivalence server/ChannelLimitNegotiation server/PriorityQueues server/XDeathHeaderGrowth
do echo com/rabbitmq/client/test/$name.java; done >> sources
mkdir classes
javac -nowarn -proc:none -d classes -cp {JAVA_CLASSPATH} -sourcepath . @sources {PLUGINS}/Outcomes.java
grep -vE 'Base|Abstract|TTLHandling|RequeueOnClose' sources | sed 's/.java$//; s,/,.,g' > tests
"""
JAVA_RUN = f"""
cd {{here}}/source/src/test/java
exec java -cp classes:../resources:{JAVA_CLASSPATH} Outcomes {{out}}/outcomes $(cat tests)
"""

SUITES = [
    Suite(
        "py-amqp",
        PyPI("amqp", "5.4.2", more=("pytest==8.0.0", "pytest-rerunfailures==14.0")),
        pytest("t/integration", "-k", "not tls"),
        at_least=40,
    ),
    Suite(
        "kombu",
        PyPI("kombu", "5.7.0", more=("amqp==5.4.2", "pytest==9.1.1", "pytest-rerunfailures==16.7")),
        pytest("t/integration/test_py_amqp.py"),
        at_least=40,
    ),
    Suite(
        "amqpstorm",
        PyPI("amqpstorm", "3.1.4", more=("pytest==9.1.1", "requests==2.34.2")),
        pytest(
            *("-c", "/dev/null", "--rootdir=.", "-p", "no_management", "amqpstorm/tests/functional"),
            "--ignore=amqpstorm/tests/functional/management",
            "--ignore=amqpstorm/tests/functional/ssl",
            "--ignore=amqpstorm/tests/functional/test_web_based.py",
            AMQP_HOST="127.0.0.1",
            AMQP_USERNAME="guest",
            AMQP_PASSWORD="guest",
            AMQP_URI="amqp://guest:guest@127.0.0.1:5672/%2F",
        ),
        at_least=80,
    ),
    Suite(
        "aiormq",
        PyPI("aiormq", "7.2.4", more=("pamqp==4.0.1", "aiomisc-pytest==2.0.0", "pytest==9.1.1", *WAITING)),
        pytest("tests", *NO_DOCKER, *AIORMQ_NOT, "-m", "not slow", "-k", "not amqps and not amqp-named"),
        at_least=250,
        seconds=400,
    ),
    Suite(
        "aio-pika",
        PyPI(
            "aio-pika",
            "10.2.1",
            more=(
                "aiormq==7.2.4",
                "pamqp==4.0.1",
                "aiomisc-pytest==2.0.0",
                "pytest==9.1.1",
                *WAITING,
                "shortuuid==1.0.13",
            ),
        ),
        pytest("tests", *NO_DOCKER, "--dist=loadfile", *AIO_PIKA_NOT),
        at_least=300,
        seconds=400,
    ),
    Suite(
        "amqplib",
        Npm("amqplib", "2.2.0", more=("claire@0.4.1",)),
        (
            *("env", "--chdir={here}/source", "node", "--test", "--test-timeout=10000"),
            *("--test-reporter=junit", "--test-reporter-destination={out}/junit.xml"),
        ),
        at_least=300,
    ),
    Suite(
        "amqp091-go",
        Debian(
            install=("golang-go", "golang-github-rabbitmq-amqp091-go-dev", "golang-uber-goleak-dev"),
            build=f"export GO111MODULE=off GOPATH=/usr/share/gocode; go test -c -tags integration -o tests {GO_CLIENT}",
        ),
        (
            "sh",
            "-c",
            f"cd /usr/share/gocode/src/{GO_CLIENT} && go tool test2json {{here}}/tests -test.v > {{out}}/go.json",
        ),
        at_least=110,
        results="go.json",
        read=go,
    ),
    Suite(
        "php-amqp",  # over RabbitMQ's C client
        Debian(
            install=("php-cli", "php-amqp"),
            source="php-amqp",
            files=(("php8.2-dev", "usr/lib/php/*/build/run-tests.php"),),
        ),
        ("sh", "-c", PHP_RUN),
        at_least=150,
        seconds=300,
        exceptions={
            "tests/bug_gh155_direct_reply_to.phpt (#155 RabbitMQ's Direct reply-to (related to consume multiple))": (
                "it looks at the form of a reply address, which is opaque to clients: here there is no dot in it"
            ),
        },
    ),
    Suite(
        "rabbitmq-java-client",
        Debian(
            install=("default-jdk-headless", "librabbitmq-client-java", "junit4", "libhamcrest-java", "libslf4j-java"),
            source="rabbitmq-java-client",
            build=JAVA_BUILD,
        ),
        ("sh", "-c", JAVA_RUN),
        at_least=280,
        results="outcomes",
        read=lines,
        seconds=400,
    ),
]
