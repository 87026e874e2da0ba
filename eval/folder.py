"""The folder that a report is written to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hybridqa.errors import InputError
from hybridqa.stores.disk import disk_errors


def prepare_folder(out: Path, report: str) -> None:
    """Make a folder for a report, before anything is spent.

    Args:
        out: The folder; it may hold other things.
        report: Name of the report's file.

    Raises:
        InputError: It is a file, or holds a report already.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"`{out}` is a file. Name a folder for the report.")
    if (out / report).exists():
        raise InputError(f"`{out}` holds a report already. Name a new folder.")
    with disk_errors("create the folder", out):
        out.mkdir(parents=True, exist_ok=True)


def write_files(files: Mapping[Path, bytes]) -> list[Path]:
    """Write the files of a report; return their paths."""
    for path, data in files.items():
        with disk_errors("write the report", path):
            path.write_bytes(data)
    return list(files)
