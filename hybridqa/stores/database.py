"""A SQLite file with a schema version, used by several threads through one connection.

One connection behind a lock is enough: the catalog's statements take microseconds, and commits
wait for the disk whatever the number of connections.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hybridqa.errors import StoreError

_REMEDIES = {
    sqlite3.SQLITE_FULL: "Free some disk space (or raise the quota) and try again.",
    sqlite3.SQLITE_IOERR: "Check the disk and its free space, then try again.",
    sqlite3.SQLITE_NOTADB: "Restore it from a backup, or choose another home with `--home DIR`.",
    sqlite3.SQLITE_CORRUPT: "Restore it from a backup, or ingest into a new home (`--home DIR`).",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for this user.",
    sqlite3.SQLITE_CANTOPEN: "Make the file and its folder readable and writable for this user.",
    sqlite3.SQLITE_BUSY: "Close the other program that has it open.",
    sqlite3.SQLITE_LOCKED: "Close the other program that has it open.",
}


class Database:
    """Opens or creates the file; hands out a connection for one read or one transaction."""

    def __init__(
        self, path: Path, application_id: int, schema: str, upgrades: Sequence[str] = ()
    ) -> None:
        """Open `path`, creating the tables in a new file and upgrading those of an older one.

        Args:
            path: Its folder exists.
            application_id: Stamped into the file, so that foreign files are told apart.
            schema: SQL statements, each ended by a semicolon: version 1.
            upgrades: A statement from each version to the next.

        Raises:
            StoreError: Unreadable, foreign, damaged, or written by a newer version.
        """
        self.path = path
        self._lock = threading.RLock()
        with self._errors():
            self._connection = sqlite3.connect(
                path, timeout=5.0, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors():
                self._prepare(application_id, [schema, *upgrades])
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, application_id: int, versions: Sequence[str]) -> None:
        """Refuse what is not ours before anything is written, then set up the connection."""
        version = len(versions)
        found_id = self._pragma("application_id")
        found_version = self._pragma("user_version")
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        is_new = found_id == 0 and found_version == 0 and tables == 0
        if not is_new and found_id != application_id:
            raise StoreError(
                f"`{self.path}` is a SQLite file of another program (application id {found_id}, "
                f"expected {application_id}). Move it away, or choose another home with "
                "`--home DIR`."
            )
        if found_version > version:
            raise StoreError(
                f"`{self.path}` has schema {found_version}, but this version of hybridqa reads "
                f"schemas up to {version}. Upgrade hybridqa, or choose another home with "
                "`--home DIR`."
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        # Deleted text is overwritten, not just unlinked.
        self._connection.execute("PRAGMA secure_delete = ON")
        if found_version < version:
            with self.write() as connection:
                missing = versions[self._pragma("user_version") :]  # none, if another was faster
                for statement in ";".join(missing).split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {application_id}")
                connection.execute(f"PRAGMA user_version = {version}")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for statements that see one consistent state."""
        with self._lock, self._errors():
            yield self._connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one transaction: all of it is durable, or none of it."""
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # Some errors have rolled back already.
                    self._connection.execute("ROLLBACK")
                raise

    def forget(self) -> None:
        """Move the log into the file and empty it: what was deleted is then on no page."""
        with self._lock, self._errors():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file. Closing twice is fine; any other use afterwards is an error."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # Low byte: the primary code.
            remedy = _REMEDIES.get(code, "If this persists, report it with the message above.")
            raise StoreError(f"The database `{self.path}` cannot be used: {exc}. {remedy}") from exc
        except UnicodeEncodeError as exc:
            raise StoreError(
                f"{exc.object!r:.200} cannot be stored in `{self.path}`: it has characters that "
                "no encoding can hold (lone surrogates). Rename the source."
            ) from exc
