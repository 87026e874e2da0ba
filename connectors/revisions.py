"""When files changed, as git tells it. Only history is read; nothing a repository brings is run.

The working copy is compared by blob hash, not by `git status`, which would run the filters that a
repository's configuration names.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

_TIMEOUT_S = 60
_COMMIT = "\x01"
_HARMLESS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "log.showSignature": "false",
    "log.showRoot": "true",
    "protocol.allow": "never",  # a partial clone would fetch
}


@dataclass(frozen=True, kw_only=True)
class GitHistory:
    """The life of files in one repository, by path relative to its root (posix)."""

    commits: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)
    """Commit times in UTC, newest first, followed through renames below what was asked for."""
    blobs: Mapping[str, str] = field(default_factory=dict)
    """Object id of each file in the last commit."""

    def revisions(self, path: str) -> tuple[datetime, ...]:
        return self.commits.get(path, ())

    def has(self, path: str, data: bytes) -> bool:
        """Whether the last commit holds the file with these contents, newline style aside."""
        blob = self.blobs.get(path)
        return blob is not None and (
            blob == _object_id(data, len(blob))
            or blob == _object_id(data.replace(b"\r\n", b"\n"), len(blob))
        )


def repository_roots(path: Path) -> list[Path]:
    """Return the git working copies that hold `path`, the innermost first."""
    return [folder for folder in (path, *path.parents) if (folder / ".git").exists()]


def read_history(root: Path, paths: Sequence[Path]) -> GitHistory:
    """Return the history of files and folders of a repository.

    An empty history is returned where git is missing, refuses, or knows nothing of them.

    Args:
        root: As from `repository_roots`.
        paths: `root` itself or below it.
    """
    names = [path.relative_to(root).as_posix() for path in paths]
    follow = ["--follow"] if len(paths) == 1 and paths[0].is_file() else []
    log = _git(
        root, "log", "-M", *follow, "--name-status", "-z", f"--format={_COMMIT}%ct", "--", *names
    )
    tree = _git(root, "ls-tree", "-r", "-z", "HEAD", "--", *names)
    blobs = (entry.partition("\t") for entry in tree.split("\0") if entry)
    return GitHistory(
        commits=_parse_log(log), blobs={name: head.split()[-1] for head, _, name in blobs}
    )


def _parse_log(log: str) -> dict[str, tuple[datetime, ...]]:
    """Return times by present path; walks from the newest commit back, renames in reverse."""
    commits: dict[str, list[datetime]] = {}
    present: dict[str, str] = {}  # present name of a file by its name at the commit at hand
    for time, names in _entries(log):
        path = present.get(names[-1], names[-1])
        commits.setdefault(path, []).append(time)
        if len(names) == 2:
            present[names[0]] = path
    return {path: tuple(times) for path, times in commits.items()}


def _entries(log: str) -> Iterator[tuple[datetime, Sequence[str]]]:
    """Yield, for each file of each commit, its time and (old name if renamed, name)."""
    fields = iter(log.split("\0"))
    time = datetime.fromtimestamp(0, UTC)
    for entry in fields:
        entry = entry.removeprefix("\n")
        if entry.startswith(_COMMIT):
            time = datetime.fromtimestamp(int(entry[1:]), UTC)
        elif entry.startswith("R"):
            yield time, (next(fields), next(fields))
        elif entry:
            yield time, (next(fields),)


def _object_id(data: bytes, digits: int) -> str:
    digest = hashlib.sha256() if digits == 64 else hashlib.sha1(usedforsecurity=False)
    digest.update(b"blob %d\0" % len(data))
    digest.update(data)
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str:
    """Return what git prints, empty if it fails."""
    settings = [part for key, value in _HARMLESS.items() for part in ("-c", f"{key}={value}")]
    command = ["git", "--no-pager", "--no-optional-locks", "--literal-pathspecs", *settings]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "none", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return os.fsdecode(done.stdout)
