"""Who may import whom: the layout of docs/architecture.md, read from the source without running it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "dispatchd"
MODULES = sorted(ROOT.glob("*/**/*.py"))

# A package and the packages of ours that it may import. The modules beside them compose everything and may import all.
MAY_IMPORT = {
    "amqp": set[str](),
    "model": {"amqp"},
    "store": {"amqp", "model"},
    "actors": {"amqp", "model", "store"},
    "net": {"amqp", "actors"},
    "web": {"amqp", "actors"},
    "perf": {"amqp"},
}
# Libraries and the only packages that may import them. A pure package is told the time.
ONLY_IN = [
    ({"lmdb"}, {"store"}),
    ({"bottle"}, {"web"}),
    (
        {"socket", "ssl", "select", "selectors", "gevent.socket", "gevent.ssl", "gevent.select", "gevent.server"},
        {"net", "perf"},
    ),
    ({"gevent", "time"}, {"store", "actors", "net", "web", "perf"}),
    ({"pykka"}, {"store", "actors", "net", "web"}),
]


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names that a module inside `package` imports, wherever in it the import is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def violations(source: str, package: str) -> set[str]:
    """Return the imports of a module in `package` (such as "dispatchd.model.exchanges") that the design forbids."""
    part = package.split(".")[1]
    found = set()
    for name in imported(ast.parse(source), package):
        top, *rest = name.split(".")
        if top == "dispatchd" and rest and rest[0] not in {part, *MAY_IMPORT[part], "__version__", "is_compiled"}:
            found.add(name)
        for libraries, parts in ONLY_IN:
            if part not in parts and any(f"{name}.".startswith(f"{library}.") for library in libraries):
                found.add(name)
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_module_imports_only_what_the_design_allows(module: Path) -> None:
    package = ".".join(("dispatchd", *module.parent.relative_to(ROOT).parts))
    assert violations(module.read_text(), package) == set()


def test_every_package_is_in_the_design() -> None:
    assert {module.relative_to(ROOT).parts[0] for module in MODULES} <= MAY_IMPORT.keys()


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("amqp", "from dispatchd.model.queue import Queue"),
        ("amqp", "from .. import model"),
        ("model", "import time"),
        ("model.exchanges", "from ...actors.runtime import Actor"),
        ("store", "from dispatchd import actors"),
        ("actors", "def later() -> None:\n    from lmdb import open"),
        ("actors", "from gevent import socket"),
        ("web", "import dispatchd.net.listener"),
        ("net", "import bottle"),
    ],
)
def test_a_forbidden_import_is_found(package: str, source: str) -> None:
    assert violations(source, f"dispatchd.{package}")
