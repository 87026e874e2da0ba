"""Bring the store in line with a folder: what is new, changed, unchanged or gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hybridqa.engines.ingest import Ingested
from hybridqa.errors import SourceError
from hybridqa.stores.catalog import Catalog
from hybridqa.types import Document


class FolderSource(Protocol):
    """A source of files, some given by name and some found in folders."""

    def scan(self) -> Sequence[Path]: ...

    def read(self, path: Path) -> Document: ...

    def is_named(self, path: Path) -> bool:
        """Tell whether the file was named, rather than found in a folder."""
        ...

    def covers(self, source: str) -> bool:
        """Tell whether `scan` would list the file of a document if it were still there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Synced:
    """What became of all files."""

    ingested: Sequence[Ingested]
    skipped: Sequence[str]
    """Messages about files found in folders that cannot be read."""
    removed: Sequence[str]
    """Ids of documents whose files are gone."""


Progress = Callable[[int, int, Path | None], None]
"""Called with files done, files in all, and the file that comes next."""


def sync(
    source: FolderSource,
    catalog: Catalog,
    ingest: Callable[[Document], Ingested],
    delete: Callable[[str], object],
    progress: Progress = lambda done, total, path: None,
) -> Synced:
    """Ingest all files and delete documents whose files are gone from the given folders.

    A bad file found in a folder is skipped and told; a bad file that was named is an error, and
    then nothing is changed.

    Args:
        source: Of the files.
        catalog: Tells which documents are known.
        ingest: Takes in a document; not called before all named files have been read.
        delete: Deletes a document by its id.
        progress: Called before each file, and at the end.

    Raises:
        SourceError: A named file cannot be read, or another source's document has its id.
    """
    paths = source.scan()
    named = {path: _read(source, catalog, path) for path in paths if source.is_named(path)}
    ingested, skipped = [], []
    for done, path in enumerate(paths):
        progress(done, len(paths), path)
        try:
            document = named.pop(path, None) or _read(source, catalog, path)
        except SourceError as exc:
            skipped.append(str(exc))
            continue
        ingested.append(ingest(document))
    if not ingested:
        raise SourceError(f"None of {len(paths)} files could be read. {' '.join(skipped)}")
    present = {str(path) for path in paths}
    removed = []
    for summary in catalog.summaries():
        if source.covers(summary.source) and summary.source not in present:
            delete(summary.id)
            removed.append(summary.id)
    progress(len(paths), len(paths), None)
    return Synced(ingested=tuple(ingested), skipped=tuple(skipped), removed=tuple(removed))


def _read(source: FolderSource, catalog: Catalog, path: Path) -> Document:
    document = source.read(path)
    known = catalog.find(document.id)
    if known and known.document.source != document.source and Path(known.document.source).exists():
        raise SourceError(
            f"`{document.source}` would have the id `{document.id}`, which belongs to "
            f"`{known.document.source}`. Give a folder above both with `--root DIR`."
        )
    return document
