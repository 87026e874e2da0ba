"""The home directory: one folder that holds everything, open in one process at a time.

DIR/
├── format            version of this layout
├── lock              held while a process has the home open
├── catalog.sqlite    documents and the adapters' manifest
├── index/            chunks, where the index is embedded
├── questions.jsonl   what was asked, and how it was answered; before it questions.1.jsonl
└── adapters/         one PEFT folder per adapter
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from hybridqa.errors import HomeInUseError, StoreError
from hybridqa.stores.disk import disk_errors, replace_durably, sync_folder

FORMAT_VERSION = 1


class Home:
    """A locked home directory. Close it, or use it as a context manager."""

    def __init__(self, path: str | Path) -> None:
        """Create the layout where it is missing and lock it.

        Raises:
            HomeInUseError: It is open already, in another process or in this one.
            StoreError: It cannot be written, is something else, or a newer version wrote it.
        """
        self.path = Path(path).expanduser().absolute()
        self.catalog_path = self.path / "catalog.sqlite"
        self.index_path = self.path / "index"
        self.adapters_path = self.path / "adapters"
        with disk_errors("create the home directory", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        # Before locking: where no file can be created, the lock may look taken.
        with (
            disk_errors("write to the home directory", self.path),
            tempfile.TemporaryFile(dir=self.path),
        ):
            pass
        # Not thread-local: whichever thread closes the home must release the lock.
        self._lock = FileLock(self.path / "lock", thread_local=False)
        try:
            with disk_errors("lock the home directory", self.path):
                try:
                    self._lock.acquire(timeout=0)
                except Timeout as exc:  # An `OSError` itself.
                    raise HomeInUseError(str(self.path)) from exc
        except NotImplementedError as exc:
            raise StoreError(
                f"The file system of `{self.path}` has no file locks. "
                "Choose a home on a local disk with `--home DIR`."
            ) from exc
        try:
            with disk_errors("write to the home directory", self.path):
                self._prepare()
        except BaseException:
            self._lock.release()
            raise

    def _prepare(self) -> None:
        """Check or write the format version, then create the folders."""
        format_path = self.path / "format"
        if format_path.exists():
            _check_version(format_path)
        else:
            # The format comes first: a home of ours never lacks it, not even after a crash, so
            # folders without it belong to somebody else, and sweeping them would destroy work.
            for ours in (self.catalog_path, self.index_path, self.adapters_path):
                if ours.exists():
                    raise StoreError(
                        f"`{self.path}` is not a hybridqa home: it has `{ours.name}`, but no "
                        "`format` file. Choose an empty or new directory with `--home DIR`."
                    )
            replace_durably(format_path, f"{FORMAT_VERSION}\n".encode())
        self.index_path.mkdir(exist_ok=True)
        self.adapters_path.mkdir(exist_ok=True)
        sync_folder(self.path)

    def close(self) -> None:
        """Release the lock. Closing twice is fine."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check_version(format_path: Path) -> None:
    found = format_path.read_bytes()[:32].strip()
    if not found.isdigit():
        raise StoreError(
            f"`{format_path}` should hold a version number, but reads {found!r}. Choose another "
            f"home with `--home DIR`, or write `{FORMAT_VERSION}` into it if you edited it."
        )
    if int(found) > FORMAT_VERSION:
        raise StoreError(
            f"The home `{format_path.parent}` has format {int(found)}, but this version of "
            f"hybridqa reads formats up to {FORMAT_VERSION}. Upgrade hybridqa, or choose another "
            "home with `--home DIR`."
        )
