"""A store for what only has to leave memory."""

from __future__ import annotations

from typing import ClassVar

from dispatchd.model.journal import Changes
from dispatchd.model.stored_entries import StoredEntry
from dispatchd.store.data_file import LMDB_LOCK_FILE
from dispatchd.store.headroom import adds
from dispatchd.store.interface import Dropped, StoreError
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.tables import Tables


class ScratchStore(LmdbStore):
    """An LMDB store that is never synced, made when it is needed, and gone when it is empty."""

    _is_synced: ClassVar[bool] = False

    def _begin_with_what_is_there(self) -> None:
        self._remove()

    def _open(self) -> Tables:
        if not self._data.exists():
            self._create()
        return super()._open()

    def _commit(self, changes: Changes, *, is_awaited: bool) -> Dropped:
        if self._tables is None and not adds(changes):
            return Dropped([], [])
        dropped = super()._commit(changes, is_awaited=False)
        if not self.statistics()["entries"]:
            self._tables = None
            self._remove()
        return dropped

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        """See `Store.read`. A queue asks both stores, also while there is no file here."""
        try:
            return super().read(queue_id, positions)
        except StoreError:
            if self._data.exists():
                raise
            return []

    def shared(self, queue_id: int, positions: list[int]) -> list[int]:
        """See `Store.shared`."""
        try:
            return super().shared(queue_id, positions)
        except StoreError:
            if self._data.exists():
                raise
            return []

    def _remove(self) -> None:
        """Others need the room: the file alone would stay as large as it ever was."""
        for file in (self._data, self._directory / LMDB_LOCK_FILE):
            file.unlink(missing_ok=True)
