"""The files of the page: read once, packed once, and not sent again to who has them."""

from __future__ import annotations

import gzip
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import bottle
import gevent

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {
    ".html": "text/html; charset=UTF-8",
    ".js": "text/javascript; charset=UTF-8",
    ".css": "text/css; charset=UTF-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=UTF-8",
    ".sha256": "text/plain; charset=UTF-8",
}


class Kept(NamedTuple):
    """A file as it was when it was last changed: for an editable checkout, where that happens, it is read again."""

    changed_at: int
    tag: str
    content: bytes
    packed: bytes


class Files:
    """Sends what is in a folder, and of that what is of a type that the page has."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder.resolve()
        self._kept: dict[Path, Kept] = {}

    def send(self, name: str) -> bytes:
        """The file, packed for who takes that, or 304 without it. Raises 404."""
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder) or path.suffix not in TYPES:
            raise bottle.HTTPError(404, "there is no such file")
        kept = gevent.get_hub().threadpool.apply(_load, (path, self._kept.get(path)))
        if kept is None:
            raise bottle.HTTPError(404, "there is no such file")
        self._kept[path] = kept
        request, response = bottle.request, bottle.response
        response.content_type = TYPES[path.suffix]
        response.set_header("Cache-Control", "no-cache")
        response.set_header("ETag", kept.tag)
        response.set_header("Vary", "Accept-Encoding")
        if kept.tag in request.get_header("If-None-Match", ""):
            response.status = 304
            return b""
        if "gzip" in request.get_header("Accept-Encoding", ""):
            response.set_header("Content-Encoding", "gzip")
            return kept.packed
        return kept.content


def _load(path: Path, kept: Kept | None) -> Kept | None:
    try:
        changed_at = path.stat().st_mtime_ns
        if kept is not None and kept.changed_at == changed_at:
            return kept
        content = path.read_bytes()
    except (OSError, ValueError):
        return None
    return Kept(changed_at, f'"{sha256(content).hexdigest()[:32]}"', content, gzip.compress(content, mtime=0))
