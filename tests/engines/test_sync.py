from pathlib import Path

import pytest

from hybridqa.connectors.files import FileSource
from hybridqa.engines.ingest import IngestStatus
from hybridqa.engines.sync import Synced, sync
from hybridqa.errors import SourceError
from hybridqa.testing import FakeInternalizer, FakeSystem


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a.md").write_text("The gate code is walnut.")
    (docs / "b.txt").write_text("The bell rings at noon.")
    return docs


def run(system: FakeSystem, root: Path, *paths: Path) -> Synced:
    ingestor, internalizer = system.ingestor(), FakeInternalizer()
    return sync(
        FileSource(paths, root=root),
        system.catalog,
        lambda document: ingestor.ingest(document, internalizer),
        ingestor.delete,
    )


def ids(system: FakeSystem) -> list[str]:
    return [summary.id for summary in system.catalog.summaries()]


def test_a_folder_is_brought_in_line(system: FakeSystem, docs: Path) -> None:
    run(system, docs, docs)
    (docs / "a.md").write_text("The gate code is birch.")
    (docs / "b.txt").unlink()
    (docs / "c.txt").write_text("The boat leaves at one.")

    synced = run(system, docs, docs)

    states = {done.record.document.id: done.status for done in synced.ingested}
    assert states == {"a.md": IngestStatus.CHANGED, "c.txt": IngestStatus.ADDED}
    assert synced.removed == ("b.txt",)
    assert ids(system) == ["a.md", "c.txt"]
    assert system.index.count("b.txt") == 0
    assert {adapter.document_id for adapter in system.catalog.adapters()} == {"a.md", "c.txt"}


def test_files_elsewhere_are_left_alone(system: FakeSystem, docs: Path) -> None:
    run(system, docs, docs)
    (docs / "b.txt").unlink()

    assert run(system, docs, docs / "a.md").removed == ()
    assert ids(system) == ["a.md", "b.txt"]


def test_progress_names_each_file(system: FakeSystem, docs: Path) -> None:
    told: list[tuple[int, int, str | None]] = []
    ingestor = system.ingestor()

    sync(
        FileSource([docs], root=docs),
        system.catalog,
        ingestor.ingest,
        ingestor.delete,
        lambda done, total, path: told.append((done, total, path and path.name)),
    )

    assert told == [(0, 2, "a.md"), (1, 2, "b.txt"), (2, 2, None)]


def test_a_bad_file_in_a_folder_is_skipped_and_its_document_kept(
    system: FakeSystem, docs: Path
) -> None:
    run(system, docs, docs)
    (docs / "b.txt").write_bytes(b"\0\1\2binary")

    synced = run(system, docs, docs)

    assert [done.record.document.id for done in synced.ingested] == ["a.md"]
    assert len(synced.skipped) == 1
    assert "b.txt` holds NUL bytes" in synced.skipped[0]
    assert ids(system) == ["a.md", "b.txt"]
    assert system.answerer().ask("When rings the bell?").text == "The bell rings at noon."


def test_a_bad_file_that_is_named_changes_nothing(system: FakeSystem, docs: Path) -> None:
    bad = docs / "z.txt"
    bad.write_bytes(b"\0\1\2binary")

    with pytest.raises(SourceError, match=r"z\.txt` holds NUL bytes"):
        run(system, docs, docs / "a.md", bad)

    assert ids(system) == []


def test_where_nothing_can_be_read_nothing_is_deleted(system: FakeSystem, docs: Path) -> None:
    run(system, docs, docs)
    (docs / "a.md").write_bytes(b"\0")
    (docs / "b.txt").unlink()

    with pytest.raises(SourceError, match="None of 1 files could be read"):
        run(system, docs, docs)

    assert ids(system) == ["a.md", "b.txt"]


def test_a_folder_that_vanished_deletes_nothing(system: FakeSystem, docs: Path) -> None:
    run(system, docs, docs)
    docs.rename(docs.with_name("moved"))

    with pytest.raises(SourceError, match="cannot be found"):
        run(system, docs, docs)

    assert ids(system) == ["a.md", "b.txt"]


def test_an_id_that_another_file_has_is_refused(
    system: FakeSystem, docs: Path, tmp_path: Path
) -> None:
    run(system, docs, docs)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.md").write_text("The gate code is birch.")

    with pytest.raises(SourceError, match=r"would have the id `a\.md`.*--root"):
        run(system, other, other / "a.md")

    assert system.catalog.get("a.md").document.text == "The gate code is walnut."


def test_a_file_that_moved_may_take_its_id_along(system: FakeSystem, docs: Path) -> None:
    run(system, docs, docs)
    moved = docs.rename(docs.with_name("moved"))

    run(system, moved, moved)

    assert system.catalog.get("a.md").document.source == str(moved / "a.md")
