"""API keys: each belongs to a tenant, and may read or also write. Only their hashes are kept.

Secrets are 256 random bits, so one SHA-256 protects them as well as a slow hash would. The file is
read anew when it changes, and written under a lock of its own: keys are made and revoked while the
service runs.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from filelock import FileLock
from pydantic import AwareDatetime, ConfigDict, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hybridqa.errors import InputError, StoreError, UnknownKeyError
from hybridqa.stores.disk import disk_errors, sync_folder, write_durably

_PREFIX = "hqa"
_MAX_LABEL_CHARS = 200


class Scope(StrEnum):
    """What a key allows; `write` includes `read`."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A key as it is kept."""

    id: str
    tenant: str
    scope: Scope
    label: str
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None = None


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class _Stored:
    key: ApiKey
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


_FILE = TypeAdapter(list[_Stored])


class KeyStore:
    """Keys in one file; usable from several threads and processes."""

    def __init__(self, path: str | Path) -> None:
        """Name the file; it is made with the first key."""
        self._path = Path(path).expanduser().absolute()
        self._lock = threading.Lock()
        self._known: tuple[tuple[int, int, int] | None, dict[str, _Stored]] = (None, {})

    def create(self, tenant: str, scope: Scope, label: str = "") -> tuple[ApiKey, str]:
        """Make a key.

        Returns:
            The key, and its secret, which nobody can tell again.

        Raises:
            InputError: The label is no short line of text.
            StoreError: The file is damaged, or cannot be written.
        """
        if len(label) > _MAX_LABEL_CHARS or not label.isprintable():
            raise InputError(
                f"{label!a:.80} cannot be the label of a key. Use up to {_MAX_LABEL_CHARS} "
                "characters on one line."
            )
        key = ApiKey(
            id=secrets.token_hex(6),
            tenant=tenant,
            scope=scope,
            label=label,
            created_at=datetime.now(UTC),
        )
        secret = f"{_PREFIX}_{key.id}_{secrets.token_urlsafe(32)}"
        with self._changing() as stored:
            stored[key.id] = _Stored(key=key, sha256=_hash(secret))
        return key, secret

    def list(self) -> Sequence[ApiKey]:
        """Return all keys, the oldest first, revoked ones too."""
        return [stored.key for stored in self._read().values()]

    def revoke(self, key_id: str) -> ApiKey:
        """Let a key open nothing any more, from the next request on.

        Raises:
            UnknownKeyError: There is none of that id.
        """
        with self._changing() as stored:
            if key_id not in stored:
                raise UnknownKeyError(key_id)
            found = stored[key_id]
            if found.key.revoked_at is None:
                found = replace(found, key=replace(found.key, revoked_at=datetime.now(UTC)))
                stored[key_id] = found
        return found.key

    def find(self, secret: str) -> ApiKey | None:
        """Return the key of a secret, unless there is none or it is revoked."""
        prefix, _, rest = secret.partition("_")
        stored = self._read().get(rest.partition("_")[0]) if prefix == _PREFIX else None
        if stored is None or stored.key.revoked_at is not None:
            return None
        return stored.key if hmac.compare_digest(stored.sha256, _hash(secret)) else None

    def _read(self) -> dict[str, _Stored]:
        with self._lock, disk_errors("read the API keys", self._path):
            try:
                status = self._path.stat()
            except FileNotFoundError:
                return {}
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if self._known[0] != stamp:
                self._known = (stamp, _parsed(self._path))
            return self._known[1]

    def _changing(self) -> _Change:
        return _Change(self._path)


class _Change:
    """Lends the keys as they are now, and writes them when the block ends without an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path.with_name(path.name + ".lock"))

    def __enter__(self) -> dict[str, _Stored]:
        with disk_errors("change the API keys", self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        try:
            with disk_errors("read the API keys", self._path):
                self._stored = _parsed(self._path) if self._path.exists() else {}
        except BaseException:
            self._lock.release()
            raise
        return self._stored

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with disk_errors("write the API keys", self._path):
                    new = self._path.with_name(self._path.name + ".new")
                    new.unlink(missing_ok=True)
                    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                    write_durably(new, _FILE.dump_json(list(self._stored.values()), indent=1))
                    os.replace(new, self._path)
                    sync_folder(self._path.parent)
        finally:
            self._lock.release()


def _parsed(path: Path) -> dict[str, _Stored]:
    try:
        return {stored.key.id: stored for stored in _FILE.validate_json(path.read_bytes())}
    except ValidationError as exc:
        raise StoreError(
            f"The API keys `{path}` are damaged: {exc.errors()[0]['msg']}. Restore the file from a "
            "backup, or remove it and create new keys."
        ) from exc


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
