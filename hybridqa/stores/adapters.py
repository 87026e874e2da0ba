"""Document adapters on disk and in memory, content-addressed.

Publishing: write into a temporary folder, sync, rename to `<id>/`, then add the manifest row. A
crash leaves at most a folder without a row, which `sweep` removes. An adapter's id is the hash of
its factors, base model and source text, so loading verifies a folder by computing it again.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from hybridqa.errors import (
    AdapterError,
    CorruptAdapterError,
    StaleDocumentError,
    UnknownAdapterError,
)
from hybridqa.stores.adapter_cache import AdapterCache, held_bytes
from hybridqa.stores.catalog import Catalog
from hybridqa.stores.disk import disk_errors, sync_folder
from hybridqa.stores.peft_config import CONFIG_FILE
from hybridqa.stores.peft_folder import (
    WEIGHTS_FILE,
    adapter_id,
    document_origin,
    read_peft,
    write_peft,
)
from hybridqa.stores.places import PLACES_FILE, read_places, tensors_of, write_places
from hybridqa.types import Adapter, AdapterRecord, AdapterState, Document, Internalized

_ID = re.compile("[0-9a-f]{64}")
_TEMPORARY = ".tmp-"


class AdapterStore:
    """One PEFT folder per adapter, a row per adapter in the catalog, and a cache in memory.

    Usable from several threads; `Home` keeps other processes out.
    """

    def __init__(
        self,
        folder: str | Path,
        catalog: Catalog,
        base_model_name: str,
        cache_bytes: int = 256 * 2**20,
    ) -> None:
        """Open the store; `sweep` it once at start.

        Args:
            folder: Exists, and belongs to this store alone.
            catalog: Keeps the manifest.
            base_model_name: Written into the folders for PEFT users; hub id or path.
            cache_bytes: Upper bound for factors kept in memory.
        """
        self.folder = Path(folder)
        self._catalog = catalog
        self._base_model_name = base_model_name
        self._cache = AdapterCache(cache_bytes)
        self._writing = threading.RLock()

    def publish(
        self,
        internalized: Internalized,
        document: Document,
        internalizer: str,
        internalizer_fingerprint: str,
    ) -> AdapterRecord:
        """Store an adapter and make it live: durable when this returns, or not there at all.

        Args:
            internalized: Its adapter gets a new id, whatever id it carries.
            document: The revision that was internalized.
            internalizer: Name; a live adapter of the same document and name is retired.
            internalizer_fingerprint: Of its weights and settings.

        Raises:
            StaleDocumentError: The document has changed or gone meanwhile.
            AdapterError: The factors are not a valid adapter.
            StoreError: The disk is full or cannot be written.
        """
        adapter, task_adapter = internalized.adapter, internalized.task_adapter
        content_hash = document.content_hash
        if self._catalog.live_hash(document.id) != content_hash:  # Before any writing.
            raise StaleDocumentError(
                f"Document `{document.id}` changed or went while it was being internalized. The "
                "adapter was dropped; ingest the document again to make a new one."
            )
        record = AdapterRecord(
            id=adapter_id(
                adapter.layers,
                adapter.model_fingerprint,
                document_origin(document.id, content_hash),
                tensors_of(adapter),
            ),
            document_id=document.id,
            content_hash=content_hash,
            model_fingerprint=adapter.model_fingerprint,
            internalizer=internalizer,
            internalizer_fingerprint=internalizer_fingerprint,
            task_adapter_id=task_adapter.id if task_adapter else None,
            rank=internalized.rank,
            energy=internalized.energy,
            shares=tuple(internalized.shares),
            good_shares=internalized.good_shares,
            size_bytes=held_bytes(adapter),
            seconds=internalized.seconds,
            created_at=datetime.now(UTC),
            state=AdapterState.LIVE,
        )
        with self._writing:
            is_new = self._write_folder(record, adapter)
            try:
                self._catalog.put_adapter(record)
            except BaseException:
                if is_new:
                    self._discard(record.id)
                raise
        return record

    def load(self, record: AdapterRecord) -> Adapter:
        """Return an adapter on the CPU, from memory or else from disk, verified.

        Raises:
            CorruptAdapterError: The folder is missing or not what was published.
        """
        folder = self._path(record.id)
        cached = self._cache.get(record.id)
        if cached is not None:
            return cached
        adapter = _read_verified(folder, record)
        # Between reading and keeping it, the adapter may have been deleted.
        self._cache.put(adapter, still_wanted=folder.is_dir)
        return adapter

    def retire(self, record: AdapterRecord) -> AdapterRecord:
        """Take an adapter out of use; it can still be loaded. Returns its new record."""
        return self._catalog.retire(record.id)

    def delete(self, record: AdapterRecord) -> None:
        """Remove an adapter's row, folder and cache entry. Deleting twice is fine."""
        self._path(record.id)
        with self._writing:
            # `Catalog.delete` of its document may have removed the row before.
            with suppress(UnknownAdapterError):
                self._catalog.remove_adapter(record.id)
            self._discard(record.id)

    def discard(self, adapter_id: str) -> None:
        """Remove folder and cache entry of an adapter whose row is gone already."""
        self._path(adapter_id)
        with self._writing:
            self._discard(adapter_id)

    def sweep(self) -> list[str]:
        """Remove what a crash left: folders without a row, rows without a folder, leftovers.

        Only what this store names its folders is touched.

        Returns:
            Names of the folders and ids of the rows that are gone.
        """
        removed = []
        with self._writing, disk_errors("sweep the adapters in", self.folder):
            known = {record.id for record in self._catalog.adapters()}
            found = set()
            for path in sorted(self.folder.iterdir()):
                if path.name in known and path.is_dir() and not path.is_symlink():
                    found.add(path.name)
                elif _ID.fullmatch(path.name) or path.name.startswith(_TEMPORARY):
                    _remove(path)
                    removed.append(path.name)
            for vanished in sorted(known - found):
                self._catalog.remove_adapter(vanished)
                self._cache.drop(vanished)
                removed.append(vanished)
        return removed

    @property
    def size_bytes(self) -> int:
        """Space that all adapters' files take."""
        with disk_errors("measure", self.folder):
            return sum(
                file.stat().st_size
                for folder in self.folder.iterdir()
                if _ID.fullmatch(folder.name)
                for file in folder.iterdir()
            )

    def _path(self, adapter_id: str) -> Path:
        """Return an adapter's folder; an id never leads out of the store."""
        if not _ID.fullmatch(adapter_id):
            raise CorruptAdapterError(
                f"{adapter_id!r:.80} is no adapter id: 64 hexadecimal digits are. "
                "Check what wrote the record."
            )
        return self.folder / adapter_id

    def _write_folder(self, record: AdapterRecord, adapter: Adapter) -> bool:
        """Put the folder in place; return whether it was not there, intact, before."""
        target = self._path(record.id)
        if os.path.lexists(target):
            try:
                _read_verified(target, record)
            except CorruptAdapterError:
                self._discard(record.id)
            else:
                return False
        temporary = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        with disk_errors("write the adapter", target):
            try:
                write_peft(temporary, adapter.layers, self._base_model_name)
                if adapter.places:
                    write_places(temporary, adapter.places)
                os.rename(temporary, target)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            try:
                sync_folder(self.folder)
            except BaseException:
                self._discard(record.id)
                raise
        return True

    def _discard(self, adapter_id: str) -> None:
        path = self._path(adapter_id)
        with disk_errors("remove the adapter", path):
            if os.path.lexists(path):
                # Renamed first: a half-removed folder is then never taken for an adapter.
                leftover = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
                os.rename(path, leftover)
                self._cache.drop(adapter_id)
                _remove(leftover)
        self._cache.drop(adapter_id)


def _read_verified(folder: Path, record: AdapterRecord) -> Adapter:
    """Return the adapter in a folder if it is, bit for bit, the one that was published."""
    short = record.id[:12]
    remedy = f"Ingest document `{record.document_id}` again to make a new one."
    parts = (folder, *(folder / name for name in (CONFIG_FILE, WEIGHTS_FILE, PLACES_FILE)))
    if any(part.is_symlink() for part in parts):
        raise CorruptAdapterError(f"Adapter `{short}` has links in `{folder}`. {remedy}")
    try:
        layers, places = read_peft(folder), read_places(folder)
    except AdapterError as exc:
        raise CorruptAdapterError(f"Adapter `{short}` cannot be read: {exc} {remedy}") from exc
    origin = document_origin(record.document_id, record.content_hash)
    adapter = Adapter(record.id, layers, record.model_fingerprint, places)
    found = adapter_id(layers, record.model_fingerprint, origin, tensors_of(adapter))
    if found != record.id:
        raise CorruptAdapterError(
            f"Adapter `{short}` is not what was published: its files hash to `{found[:12]}`. "
            f"{remedy}"
        )
    return adapter


def _remove(path: Path) -> None:
    """Remove a folder; of a link, only the link."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
