"""The policies that were put into a home, one file each; the highest number is in force."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hybridqa.errors import PolicyConflictError, StoreError
from hybridqa.stores.disk import disk_errors, replace_durably, sync_folder

KEPT = 100
"""Versions; the oldest are removed."""

_NAME = re.compile(r"(\d{6})\.yaml")


@dataclass(frozen=True, kw_only=True)
class StoredPolicy:
    """The text of a policy; nobody has checked it here."""

    version: int
    text: str
    created_at: datetime


class PolicyStore:
    """Policies in a folder; usable from several threads."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first policy."""
        self._folder = folder
        self._lock = threading.Lock()

    def current(self) -> StoredPolicy | None:
        """Return the policy in force, `None` if none was ever put."""
        versions = self.versions()
        return versions[-1] if versions else None

    def versions(self) -> Sequence[StoredPolicy]:
        """Return all that are kept, the oldest first."""
        with disk_errors("read the policies in", self._folder):
            if not self._folder.is_dir():
                return []
            found = sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))
            return [_read(path) for path in found]

    def put(self, text: str, expected: int | None = None) -> StoredPolicy:
        """Put a policy in force.

        Args:
            text: YAML that was checked.
            expected: The version that it is meant to replace, 0 for none; `None` replaces any.

        Raises:
            PolicyConflictError: Another version is in force.
            StoreError: The disk is full or cannot be written.
        """
        with self._lock, disk_errors("write the policy into", self._folder):
            current = self.current()
            version = current.version if current else 0
            if expected is not None and expected != version:
                raise PolicyConflictError(expected, version)
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{version + 1:06}.yaml"
            replace_durably(path, text.encode())
            sync_folder(self._folder)
            for old in self.versions()[:-KEPT]:
                (self._folder / f"{old.version:06}.yaml").unlink()
            return _read(path)


def _read(path: Path) -> StoredPolicy:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise StoreError(
            f"The policy `{path}` is not UTF-8 text. Remove it to go back to the one before."
        ) from exc
    return StoredPolicy(
        version=int(path.stem),
        text=text,
        created_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
    )
