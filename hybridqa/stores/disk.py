"""Writing files that survive a crash, and saying plainly why a disk refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridqa.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `StoreError` that says what failed and what to do.

    Args:
        doing: Completes "Cannot ...", e.g. `write the adapter`.
        path: Named in the message.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            remedy = "Free some disk space (or raise the quota) and try again."
        elif exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            remedy = "Make it writable for this user, or choose another home with `--home DIR`."
        else:
            remedy = "Check the disk, or choose another home with `--home DIR`."
        reason = exc.strerror or str(exc)
        raise StoreError(f"Cannot {doing} `{path}`: {reason}. {remedy}") from exc


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it. The folder's entry needs `sync_folder`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, by way of one beside it that ends in `.new`."""
    new = path.with_name(path.name + ".new")
    write_durably(new, data)
    os.replace(new, path)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's entries (new names, renames)."""
    if os.name == "nt":  # Windows cannot open folders; its renames are journalled.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
