"""Documents from files and folders of this machine."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from hybridqa.connectors.parsers import PARSERS, parse
from hybridqa.connectors.revisions import GitHistory, read_history, repository_roots
from hybridqa.errors import SourceError
from hybridqa.types import Document

SUFFIXES = tuple(PARSERS)
_SUFFIX_LIST = ", ".join(SUFFIXES)


class FileSource:
    """A `Source` of text, Markdown, reStructuredText, HTML, PDF and Word files.

    A file's id is its path relative to `root`, if that holds it, else to its git repository (the
    outermost), else to the current folder, else absolute. So it does not matter whether the file
    or a folder above it was named.

    `documents()` stops at the first bad file. To go on after it, call `read` on each of `scan()`.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        root: str | Path | None = None,
        max_bytes: int = 20_000_000,
    ) -> None:
        """Keep the arguments; nothing is read yet.

        Args:
            paths: Files, and folders to be searched with all folders below. In folders, hidden
                files, other kinds of files and links that lead out are skipped.
            root: Folder that ids are relative to.
            max_bytes: Larger files are errors.

        Raises:
            SourceError: A path is empty.
        """
        paths = list(paths)
        if "" in paths:  # `Path("")` would be the current folder
            raise SourceError("A path is empty. Give the path of a file or folder.")
        self._paths = [_absolute(Path(path).expanduser()) for path in paths]
        self._root = None if root is None else _absolute(Path(root).expanduser())
        self._max_bytes = max_bytes
        self._histories: dict[Path, GitHistory] = {}

    def documents(self) -> Iterator[Document]:
        for path in self.scan():
            yield self.read(path)

    def scan(self) -> list[Path]:
        """Return the absolute paths of all files, ordered by document id. Opens none of them.

        Raises:
            SourceError: A path is missing, a named file is of an unknown kind, a folder cannot be
                listed or holds nothing to read, or two files have the same id.
        """
        self._histories.clear()
        found: dict[str, Path] = {}
        for path in self._paths:
            for file in _files_below(path) if path.is_dir() else [_supported(path)]:
                other = found.setdefault(self.document_id(file), file)
                if other != file:
                    raise SourceError(
                        f"`{file}` and `{other}` have the same document id "
                        f"`{self.document_id(file)}`. Give a `root` folder above both."
                    )
        return [found[key] for key in sorted(found)]

    def document_ids(self) -> list[str]:
        """Return the ids of all documents, ordered; nothing is parsed. Raises as `scan` does."""
        return [self.document_id(path) for path in self.scan()]

    def document_id(self, path: Path) -> str:
        """Return the id that the file has, or had before it was deleted."""
        for anchor in (self._root, *repository_roots(path.parent)[-1:], Path.cwd()):
            if anchor and path.is_relative_to(anchor):
                return _readable(path.relative_to(anchor))
        return _readable(path)

    def is_named(self, path: Path) -> bool:
        """Whether a file of `scan()` was given by name rather than found in a folder."""
        return path in self._paths

    def covers(self, source: str) -> bool:
        """Whether `scan()` would list the file `source` (of a `Document`) if it was still there.

        A document that is covered, but not among `document_ids()`, was deleted at its source.
        """
        return any(folder in Path(source).parents for folder in self._paths if folder.is_dir())

    def read(self, path: Path) -> Document:
        """Return the document of a file.

        Raises:
            SourceError: It is missing, too large, broken, encrypted, not UTF-8 or has no text.
        """
        path = _supported(_absolute(path))
        data, changed = self._load(path)
        parsed = parse(path.suffix.lower(), data, str(path))
        revisions, is_committed = self._revisions(path, data)
        modified_at, modified_by = changed, "filesystem"
        if parsed.word.updated:
            modified_at, modified_by = parsed.word.updated, "owner"
        elif revisions and is_committed:
            modified_at, modified_by = revisions[0], "git"
        return Document(
            id=self.document_id(path),
            text=parsed.text,
            title=" ".join((parsed.word.title or path.stem).split()),
            source=str(path),
            modified_at=modified_at,
            modified_by=modified_by,
            revisions=revisions,
            metadata=parsed.word.metadata,
        )

    def _load(self, path: Path) -> tuple[bytes, datetime]:
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(self._max_bytes + 1)
        except OSError as exc:
            raise SourceError(
                f"`{path}` cannot be read: {exc.strerror}. Check its permissions."
            ) from exc
        if len(data) > self._max_bytes:
            raise SourceError(
                f"`{path}` has {max(status.st_size, len(data))} bytes, limit {self._max_bytes}. "
                "Split it, or give `FileSource` a larger `max_bytes`."
            )
        return data, datetime.fromtimestamp(status.st_mtime, UTC)

    def _revisions(self, path: Path, data: bytes) -> tuple[Sequence[datetime], bool]:
        """Return commit times, newest first, and whether the last one left the file as it is."""
        roots = repository_roots(path.parent)
        if not roots:
            return (), False
        name = path.relative_to(roots[0]).as_posix()
        history = self._history(roots[0], path)
        return history.revisions(name), history.has(name, data)

    def _history(self, root: Path, path: Path) -> GitHistory:
        """Return the history of all that was named in a repository, read once after each scan."""
        named = {p if p.is_relative_to(root) else root for p in self._paths if _nested(p, root)}
        if not any(path.is_relative_to(p) for p in named):
            return read_history(root, [path])
        if root not in self._histories:
            self._histories[root] = read_history(root, sorted(named))
        return self._histories[root]


def _files_below(folder: Path) -> list[Path]:
    """Return what there is to read in a folder, each file once, whatever links lead to it."""

    def fail(exc: OSError) -> None:  # to skip it would look as if its documents were deleted
        raise SourceError(
            f"Folder `{exc.filename}` cannot be listed: {exc.strerror}. Check its permissions."
        ) from exc

    files: list[Path] = []
    links: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if name.startswith((".", "~$")) or path.suffix.lower() not in PARSERS:
                continue  # `~$` begins the lock files of Word
            (links if path.is_symlink() else files).append(path)
    seen = set(files)
    for link in sorted(links):
        target = Path(os.path.realpath(link))
        if target not in seen and target.is_relative_to(folder) and target.is_file():
            seen.add(target)
            files.append(link)
    files = [path for path in files if _is_regular(path)]
    if not files:
        raise SourceError(
            f"Folder `{folder}` holds no file to ingest. Put one there of these kinds: "
            f"{_SUFFIX_LIST}."
        )
    return files


def _supported(path: Path) -> Path:
    """Return `path` if it is a file of a known kind."""
    try:
        str(path).encode()
        mode = path.stat().st_mode
    except UnicodeEncodeError as exc:
        raise SourceError(f"`{str(path)!a}` is not UTF-8. Rename the file.") from exc
    except (OSError, ValueError) as exc:
        raise SourceError(
            f"`{path}` cannot be found: {exc}. Give the path of a file or folder."
        ) from exc
    if not stat.S_ISREG(mode):
        raise SourceError(f"`{path}` is no regular file. Give the path of a file or folder.")
    if path.suffix.lower() not in PARSERS:
        raise SourceError(
            f"`{path}` is of the kind `{path.suffix or 'without suffix'}`, which cannot be read. "
            f"Convert it to one of {_SUFFIX_LIST}."
        )
    return path


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:  # a dangling link, or just deleted
        return False
    except OSError:  # reading it will tell
        return True


def _absolute(path: Path) -> Path:
    """Return the path without links, but for a link to a file: its name here is what users know."""
    try:
        real = Path(os.path.realpath(path))
        return real if real.is_dir() else Path(os.path.realpath(path.parent), path.name)
    except ValueError:  # a NUL; `scan` will tell
        return path


def _nested(a: Path, b: Path) -> bool:
    return a.is_relative_to(b) or b.is_relative_to(a)


def _readable(path: Path) -> str:
    """Return a path as an id: posix, composed Unicode, control characters percent-encoded."""
    text = unicodedata.normalize("NFC", path.as_posix())
    return "".join(c if c.isprintable() else quote(c, errors="surrogateescape") for c in text)
