"""Where a suite comes from: fetched by the registry's own client into a folder of the cache, never into the checkout.

A source is laid out once, in a folder whose name changes with its declaration. `make clean` takes `.venv/suites` away.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CACHE = Path(__file__).parents[3] / ".venv" / "suites"
FETCH_SECONDS = 300


class Unavailable(Exception):  # noqa: N818 - nothing went wrong
    """A registry or a tool that isn't there; the text is the reason for which the suite is skipped."""


class Packages(Protocol):
    """What has to be fetched; equal ones have the same `repr`."""

    def fetch(self, folder: Path) -> None:
        """Lay the sources out in the empty `folder`, with all that is needed to run them. Raises Unavailable."""


def provide(name: str, packages: Packages) -> Path:
    """The folder with a suite's packages, fetched if they have not been. Raises Unavailable."""
    folder = CACHE / f"{name}-{hashlib.sha256(repr(packages).encode()).hexdigest()[:12]}"
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        packages.fetch(folder)
        complete.touch()
    return folder


@dataclass(frozen=True)
class PyPI:
    """A source distribution laid out in `source`, and installed with `more` packages into the environment `env`."""

    name: str
    version: str
    more: tuple[str, ...]

    def fetch(self, folder: Path) -> None:
        asked = f"{self.name}=={self.version}"
        run(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", self.name, asked, "--dest", folder)
        [archive] = folder.glob("*.tar.gz")
        unpack(archive, folder / "source")
        run(sys.executable, "-m", "venv", folder / "env")
        run(folder / "env/bin/pip", "install", archive, *self.more)


@dataclass(frozen=True)
class Npm:
    """A package laid out in `source`, with `more` packages installed beside it."""

    name: str
    version: str
    more: tuple[str, ...]

    def fetch(self, folder: Path) -> None:
        run("npm", "pack", f"{self.name}@{self.version}", folder=folder)
        [archive] = folder.glob("*.tgz")
        unpack(archive, folder / "source")
        run("npm", "install", "--no-save", "--ignore-scripts", *self.more, folder=folder / "source")


@dataclass(frozen=True)
class Debian:
    """Packages installed on the machine, and the original source of another laid out in `source`, if one is named.

    `files` are taken out of packages that are not installed: pairs of a package and a path in it, laid out in `files`.
    `build` is a shell script that runs in the end, in the folder.
    """

    install: tuple[str, ...]
    source: str = ""
    files: tuple[tuple[str, str], ...] = ()
    build: str = ""

    def fetch(self, folder: Path) -> None:
        self._install()
        for package, path in self.files:
            run("apt-get", "download", package, folder=folder)
            [archive] = folder.glob(f"{package}_*.deb")
            run("dpkg-deb", "--extract", archive, folder / "extracted")
            (folder / "files").mkdir(exist_ok=True)
            [found] = (folder / "extracted").glob(path)
            shutil.copy(found, folder / "files")
            shutil.rmtree(folder / "extracted")
        if self.source:
            self._lay_out_source(folder)
        if self.build:
            run("sh", "-euc", self.build, folder=folder)

    def _install(self) -> None:
        missing = [package for package in self.install if not is_installed(package)]
        if not missing:
            return
        if not shutil.which("apt-get") or os.geteuid() != 0:
            raise Unavailable(f"root has to do it: apt-get install {' '.join(missing)}")
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "--yes", "--no-install-recommends", *missing)

    def _lay_out_source(self, folder: Path) -> None:
        """What the machine's own lists of packages say of sources, asked with lists of our own: nothing is changed."""
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "sources.list").write_text(sources_list())
        settings = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": folder / "lists",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
        }
        options = [f"--option={name}={value}" for name, value in settings.items()]
        run("apt-get", *options, "update", "-qq")
        try:
            run("apt-get", *options, "source", "--download-only", "--tar-only", self.source, folder=folder)
        except Unavailable:
            # A source can have several archives, and the registry not all of them: the first has the tests.
            if not [*folder.glob("*.orig.tar.*")]:
                raise
        [archive] = folder.glob("*.orig.tar.*")
        unpack(archive, folder / "source")
        shutil.rmtree(folder / "lists")


def sources_list() -> str:
    """Lines for the sources of what this machine installs binary packages from."""
    places = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    lines = [f"deb-src {place}" for place in dict.fromkeys(places.splitlines()) if "debian" in place]
    if not lines:
        raise Unavailable("this machine installs nothing from Debian")
    return "\n".join(lines) + "\n"


def is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"


def unpack(archive: Path, folder: Path) -> None:
    """Without the folder that the sources in such an archive are in."""
    with tarfile.open(archive) as file:
        file.extractall(folder.with_name("unpacked"), filter="data")
    [inner] = (each for each in folder.with_name("unpacked").iterdir() if each.is_dir())
    inner.rename(folder)
    shutil.rmtree(folder.with_name("unpacked"))


def run(*command: str | Path, folder: Path | None = None) -> str:
    """What it prints. Raises Unavailable with the end of that if the tool is not there, fails or doesn't end."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", PIP_DISABLE_PIP_VERSION_CHECK="1")
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    words = [str(word) for word in command]
    try:
        ended = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=FETCH_SECONDS, check=True
        )
    except FileNotFoundError:
        raise Unavailable(f"there is no {words[0]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(words)}: no end within {FETCH_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{' '.join(words)}: {(error.stderr or error.stdout).strip()[-300:]}") from None
    return ended.stdout
