import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hybridqa.connectors.files import FileSource
from hybridqa.types import Document

DAYS = [datetime(2024, 1, day, tzinfo=UTC) for day in range(1, 10)]


def git(folder: Path, *arguments: str, at: datetime = DAYS[0]) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": at.isoformat(),
        "GIT_COMMITTER_DATE": at.isoformat(),
    }
    settings = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(
        ["git", *settings, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )


def commit(folder: Path, at: datetime, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--message", "A change", at=at)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init")
    commit(folder, DAYS[0], rare="one\ntwo\nthree\nfour\n", often="first\n")
    commit(folder, DAYS[1], often="second\n")
    commit(folder, DAYS[2], often="third\n")
    return folder


def documents(*paths: Path) -> dict[str, Document]:
    return {document.id: document for document in FileSource(paths).documents()}


def test_commits_are_the_revisions(repository: Path) -> None:
    for found in (
        documents(repository),
        documents(repository.parent),
        documents(repository / "often.md", repository / "rare.md"),
        documents(repository / "often.md") | documents(repository / "rare.md"),
    ):
        assert found["often.md"].revisions == (DAYS[2], DAYS[1], DAYS[0])
        assert (found["often.md"].modified_at, found["often.md"].modified_by) == (DAYS[2], "git")
        assert found["rare.md"].revisions == (DAYS[0],)


def test_history_is_followed_through_renames(repository: Path) -> None:
    git(repository, "mv", "rare.md", "odd n\u00e4me.md")
    commit(repository, DAYS[3])
    commit(repository, DAYS[4], **{"odd n\u00e4me": "one\ntwo\nthree\nfour\nfive\n"})

    for path in (repository, repository / "odd n\u00e4me.md"):
        document = documents(path)["odd n\u00e4me.md"]
        assert document.revisions == (DAYS[4], DAYS[3], DAYS[0])


def test_the_file_system_dates_what_is_not_committed(repository: Path) -> None:
    (repository / "often.md").write_text("changed\n")
    (repository / "new.md").write_text("new\n")
    os.utime(repository / "often.md", (DAYS[7].timestamp(),) * 2)

    found = documents(repository)

    assert found["often.md"].modified_at == DAYS[7]
    assert found["often.md"].modified_by == "filesystem"
    assert found["often.md"].revisions == (DAYS[2], DAYS[1], DAYS[0])
    assert found["new.md"].modified_by == "filesystem"
    assert found["new.md"].revisions == ()
    assert found["rare.md"].modified_by == "git"


def test_touched_files_and_other_newlines_are_no_change(repository: Path) -> None:
    (repository / "often.md").write_bytes(b"third\r\n")
    (repository / "rare.md").touch()

    assert {document.modified_by for document in documents(repository).values()} == {"git"}


def test_a_scan_sees_new_commits(repository: Path) -> None:
    source = FileSource([repository])
    list(source.documents())
    commit(repository, DAYS[5], often="fourth\n")

    assert next(source.documents()).revisions[0] == DAYS[5]


def test_the_owner_knows_better_than_git(repository: Path) -> None:
    commit(repository, DAYS[3], often="---\nupdated: 2020-02-02\n---\ntext\n")

    document = documents(repository)["often.md"]

    assert document.modified_at == datetime(2020, 2, 2, tzinfo=UTC)
    assert document.modified_by == "owner"
    assert len(document.revisions) == 4


def test_nothing_of_the_repository_is_run(repository: Path, tmp_path: Path) -> None:
    trap = f"touch {tmp_path / 'sprung'}; cat"
    git(repository, "config", "filter.trap.clean", trap)
    git(repository, "config", "filter.trap.process", trap)
    git(repository, "config", "core.fsmonitor", trap)
    git(repository, "config", "diff.external", trap)
    git(repository, "config", "diff.trap.textconv", trap)
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "gpg.program", trap)
    git(repository, "config", "core.pager", trap)
    (repository / ".gitattributes").write_text("*.md filter=trap diff=trap\n")
    (repository / "often.md").write_text("changed\n")

    documents(repository)

    assert not (tmp_path / "sprung").exists()


def test_a_broken_repository_is_no_error(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: /nowhere\n")
    (tmp_path / "a.md").write_text("text")

    assert documents(tmp_path)["a.md"].modified_by == "filesystem"


def test_a_repository_without_commits_is_no_error(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "a.md").write_text("text")

    assert documents(tmp_path)["a.md"].modified_by == "filesystem"


def test_without_git_the_file_system_tells(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    assert documents(repository)["often.md"].modified_by == "filesystem"
