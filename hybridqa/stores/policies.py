"""The policies that were put into a home, one file each; the highest number is in force."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hybridqa.errors import PolicyConflictError, StoreError
from hybridqa.stores.disk import disk_errors, replace_durably, sync_folder

KEPT = 100
"""Versions; the oldest are removed."""

_NAME = re.compile(r"[0-9]{6}\.yaml")


@dataclass(frozen=True, kw_only=True)
class StoredPolicy:
    """The text of a policy; nobody has checked it here."""

    version: int
    text: str
    created_at: datetime
    path: Path


class PolicyStore:
    """Policies in a folder; usable from several threads."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made with the first policy."""
        self._folder = folder
        self._lock = threading.Lock()

    def current(self) -> StoredPolicy | None:
        """Return the policy in force, `None` if none was ever put."""
        with self._reading():
            paths = self._paths()
            return _read(paths[-1]) if paths else None

    def versions(self) -> Sequence[StoredPolicy]:
        """Return all that are kept, at most `KEPT`, the oldest first."""
        with self._reading():
            return [_read(path) for path in self._paths()]

    def check(self, expected: int | None) -> None:
        """Raise what `put` would, if another version is in force than expected.

        Raises:
            PolicyConflictError: So it is.
        """
        with self._reading():
            _checked(self._paths(), expected)

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
            paths = self._paths()
            version = _checked(paths, expected)
            self._folder.mkdir(exist_ok=True)
            for old in paths[: 1 - KEPT]:  # first, so that nothing can fail once it is in force
                old.unlink()
            path = self._folder / f"{version + 1:06}.yaml"
            replace_durably(path, text.encode())
            sync_folder(self._folder)
            return _read(path)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Let no file that was listed be removed before it is read."""
        with self._lock, disk_errors("read the policies in", self._folder):
            yield

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))


def _checked(paths: list[Path], expected: int | None) -> int:
    """Return the version in force."""
    version = int(paths[-1].stem) if paths else 0
    if expected is not None and expected != version:
        raise PolicyConflictError(expected, version)
    return version


def _read(path: Path) -> StoredPolicy:
    try:
        text = path.read_bytes().decode()  # line ends as they were put
    except UnicodeDecodeError as exc:
        raise StoreError(
            f"The policy `{path}` is not UTF-8 text. Remove it to go back to the one before."
        ) from exc
    return StoredPolicy(
        version=int(path.stem),
        text=text,
        path=path,
        created_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
    )
