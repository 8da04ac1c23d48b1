"""What counts of a mapped file is let go of, and nothing else."""

import mmap
import re
from pathlib import Path

import pytest

from dispatchd.store import mapping
from dispatchd.store.mapping import Mapping

SIZE = 4 << 20


def resident(file: Path) -> int:
    """KiB of the file's mapping that count to this process."""
    area = Path("/proc/self/smaps").read_text().split(str(file))[1]
    found = re.search(r"^Rss:\s+(\d+) kB", area, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mapped file"
    file.write_bytes(bytes(range(256)) * (SIZE // 256))
    return file


def test_pages_of_a_file_are_let_go_of_and_come_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        monkeypatch.setattr(mapping, "LOOK_SECONDS", 0)
        trimmed = Mapping(file)
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        assert resident(file) == SIZE >> 10
        trimmed.trim()
        assert resident(file) == SIZE >> 10, "so little may stay"
        monkeypatch.setattr(mapping, "MOST_RESIDENT", 0)
        monkeypatch.setattr(mapping, "LOOK_SECONDS", 60)
        trimmed.trim()
        assert resident(file) == SIZE >> 10, "it looked just now"
        monkeypatch.setattr(mapping, "LOOK_SECONDS", 0)
        trimmed.trim()
        assert resident(file) == 0
        assert mapped[:] == file.read_bytes()


def test_a_file_that_is_not_mapped_is_no_matter(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "MOST_RESIDENT", 0)
    Mapping(file).trim()
    Mapping(file.with_name("missing")).trim()
