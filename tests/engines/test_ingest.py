import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridqa.engines.ingest import IngestStatus
from hybridqa.errors import (
    InternalizeError,
    SourceError,
    StaleDocumentError,
    StoreError,
    UnknownDocumentError,
)
from hybridqa.protocols import ChunkIndex, IndexedChunk
from hybridqa.stores.edge_index import RESERVE_BYTES, EdgeIndex
from hybridqa.testing import FakeEmbedder, FakeInternalizer, FakeSystem, written_text
from hybridqa.types import AdapterState, Chunk, Document, DocumentRecord, Internalized, content_hash

OLD = "The gate code is walnut. " + "Rain fell on the old town for days. " * 12
NEW = "The gate code is birch. " + "Snow fell on the old town for days. " * 12


def document(text: str = OLD, id: str = "manual.md", **more: Any) -> Document:
    return Document(id=id, text=text, title="Manual", source=f"/docs/{id}", **more)


def answer(system: FakeSystem, question: str = "What is the gate code?") -> str:
    return system.answerer().ask(question).text


class But:
    """A collaborator, but for some of its methods."""

    def __init__(self, inner: object, **methods: Any) -> None:
        self._inner = inner
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def fail(*args: Any, **kwargs: Any) -> None:
    raise StoreError("The disk is full.")


class Crash(BaseException):
    """Ends the process: nothing can be tidied up."""


def crash(*args: Any, **kwargs: Any) -> None:
    raise Crash


def test_a_new_document_is_indexed_internalized_and_answerable(system: FakeSystem) -> None:
    done = system.ingestor().ingest(document(), FakeInternalizer())

    assert done.status is IngestStatus.ADDED
    assert done.record == system.catalog.get("manual.md")
    assert done.record.chunks == system.index.count("manual.md") > 1
    assert done.adapter is not None
    assert done.internalized
    assert "walnut" in written_text(system.adapters.load(done.adapter))
    assert answer(system) == "The gate code is walnut."
    assert system.catalog.pending() == []


def test_an_unchanged_document_is_skipped(system: FakeSystem) -> None:
    first = system.ingestor().ingest(document(), FakeInternalizer())
    system.embedder = None  # type: ignore[assignment]  # would be needed to index anything
    never = FakeInternalizer(error=AssertionError("internalized again"))

    again = system.ingestor().ingest(document(), never)

    assert again.status is IngestStatus.UNCHANGED
    assert again.adapter == first.adapter
    assert not again.internalized
    assert again.record == first.record


def test_what_is_known_of_an_unchanged_text_is_updated(system: FakeSystem) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())
    noon = system.now
    system.now += timedelta(days=3)

    done = system.ingestor().ingest(document(modified_at=noon, modified_by="git"))

    assert done.status is IngestStatus.UNCHANGED
    assert system.catalog.get("manual.md").document.modified_at == noon
    assert system.catalog.get("manual.md").ingested_at == noon
    assert len(system.catalog.adapters(state=AdapterState.LIVE)) == 1


def test_a_changed_document_is_replaced_and_its_adapter_retired(system: FakeSystem) -> None:
    first = system.ingestor().ingest(document(), FakeInternalizer())
    system.now += timedelta(days=3)

    done = system.ingestor().ingest(document(NEW), FakeInternalizer())

    assert done.status is IngestStatus.CHANGED
    assert done.retired == 1
    assert done.record.first_ingested_at < done.record.ingested_at
    assert system.index.revisions() == {("manual.md", content_hash(NEW))}
    live = system.catalog.adapters(state=AdapterState.LIVE)
    assert live == [done.adapter]
    assert live[0].id != (first.adapter and first.adapter.id)
    assert answer(system) == "The gate code is birch."
    assert system.catalog.pending() == []


def test_a_changed_document_has_no_adapter_where_none_is_made(system: FakeSystem) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())

    done = system.ingestor().ingest(document(NEW), None)

    assert (done.adapter, done.retired) == (None, 1)
    assert system.catalog.adapters(state=AdapterState.LIVE) == []


def test_a_document_can_change_back(system: FakeSystem) -> None:
    for text in (OLD, NEW, OLD):
        system.ingestor().ingest(document(text), FakeInternalizer())

    assert system.index.revisions() == {("manual.md", content_hash(OLD))}
    [live] = system.catalog.adapters(state=AdapterState.LIVE)
    assert live.content_hash == content_hash(OLD)


def test_nothing_is_left_of_a_deleted_document(system: FakeSystem, tmp_path: Path) -> None:
    secret = "The secret word is xylophone-7731-quartz. "
    system.ingestor().ingest(document("Nothing to see. " * 9, id="other.md"))
    for text in (secret + OLD, secret + NEW):
        system.ingestor().ingest(document(text), FakeInternalizer())

    removed = system.ingestor().delete("manual.md")

    assert len(removed) == 2
    assert system.index.count("manual.md") == 0
    assert system.index.revisions() == {("other.md", content_hash("Nothing to see. " * 9))}
    assert system.catalog.adapters() == []
    assert list((tmp_path / "adapters").iterdir()) == []
    assert system.catalog.pending() == []
    kept = [path for path in tmp_path.iterdir() if path.name.startswith("catalog")]
    assert len(kept) >= 1
    assert not [path for path in kept if b"xylophone-7731-quartz" in path.read_bytes()]
    assert system.answerer().ask("What is the secret word?").abstained
    with pytest.raises(UnknownDocumentError, match=r"manual\.md"):
        system.ingestor().delete("manual.md")


def test_text_that_is_only_space_is_refused(system: FakeSystem) -> None:
    with pytest.raises(SourceError, match=r"`manual\.md` has no text"):
        system.ingestor().ingest(document(" \n\t "))

    assert system.catalog.summaries() == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("part", "method"),
    [("embedder", "embed"), ("index", "add"), ("catalog", "begin"), ("catalog", "commit")],
)
def test_a_failure_leaves_the_former_revision_answerable(
    system: FakeSystem, part: str, method: str, known: bool
) -> None:
    if known:
        system.ingestor().ingest(document(), FakeInternalizer())
    whole = getattr(system, part)
    setattr(system, part, But(whole, **{method: fail}))

    with pytest.raises(StoreError, match="The disk is full"):
        system.ingestor().ingest(document(NEW), FakeInternalizer())

    setattr(system, part, whole)
    former = {("manual.md", content_hash(OLD))} if known else set()
    assert system.index.revisions() == former
    assert set(system.catalog.live_hashes().items()) == former
    assert len(system.catalog.adapters(state=AdapterState.LIVE)) == len(former)
    assert system.catalog.pending() == []
    assert answer(system) == ("The gate code is walnut." if known else "")
    done = system.ingestor().ingest(document(NEW), FakeInternalizer())
    assert done.status is (IngestStatus.CHANGED if known else IngestStatus.ADDED)


def half_written(index: ChunkIndex, then: Callable[[], None]) -> Callable[..., None]:
    def add(chunks: Iterable[IndexedChunk]) -> None:
        index.add(list(chunks)[:1])
        then()

    return add


def test_a_disk_that_is_nearly_full_is_refused_in_time(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=RESERVE_BYTES - 1))

        with pytest.raises(StoreError, match=r"67,108,863 bytes left.*Free some disk space"):
            system.ingestor().ingest(document(NEW))

        assert answer(system) == "The gate code is walnut."
        system.ingestor().delete("manual.md")  # makes room
    assert system.index.count() == 0


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_ingest import *
system = FakeSystem(Path(sys.argv[1]))
system.ingestor().ingest(document(), FakeInternalizer())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    system.ingestor().ingest(document(NEW), FakeInternalizer())
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(answer(system))
print(system.ingestor().ingest(document(NEW), FakeInternalizer()).status)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_disk_that_fills_while_publishing_leaves_the_former_revision(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    error, former, status = done.stdout.splitlines()
    assert "cannot be used" in error
    assert "free space" in error
    assert former == "The gate code is walnut."
    assert status == "changed"


def test_half_written_chunks_are_removed(system: FakeSystem) -> None:
    system.ingestor().ingest(document())
    index = system.index
    system.index = But(index, add=half_written(index, fail))

    with pytest.raises(StoreError, match="The disk is full"):
        system.ingestor().ingest(document(NEW))

    assert index.revisions() == {("manual.md", content_hash(OLD))}


def test_what_cannot_be_tidied_now_is_tidied_at_the_next_start(system: FakeSystem) -> None:
    system.ingestor().ingest(document())
    index = system.index
    system.index = But(index, add=half_written(index, fail), remove=fail)

    with pytest.raises(StoreError):
        system.ingestor().ingest(document(NEW))

    system.index = index
    assert len(index.revisions()) == 2
    assert answer(system) == "The gate code is walnut."
    system.ingestor().recover()
    assert index.revisions() == {("manual.md", content_hash(OLD))}
    assert system.catalog.pending() == []


def test_an_interrupt_after_the_commit_keeps_the_new_text(system: FakeSystem) -> None:
    system.ingestor().ingest(document())
    catalog = system.catalog

    def commit(record: DocumentRecord) -> None:
        catalog.commit(record)
        raise KeyboardInterrupt

    system.catalog = But(catalog, commit=commit)  # type: ignore[assignment]

    with pytest.raises(KeyboardInterrupt):
        system.ingestor().ingest(document(NEW))

    assert system.index.revisions() == {("manual.md", content_hash(NEW))}
    assert answer(system) == "The gate code is birch."


@pytest.mark.parametrize(("crash_in", "survivor"), [("add", OLD), ("remove", NEW)])
def test_chunks_that_a_crash_left_are_removed_at_the_next_start(
    system: FakeSystem, crash_in: str, survivor: str
) -> None:
    system.ingestor().ingest(document())
    index = system.index
    add = half_written(index, crash) if crash_in == "add" else index.add
    system.index = But(index, add=add, remove=crash)
    with pytest.raises(Crash):
        system.ingestor().ingest(document(NEW))
    system.index = index
    assert len(index.revisions()) == 2

    system.ingestor().recover()

    assert index.revisions() == {("manual.md", content_hash(survivor))}
    assert system.catalog.live_hashes() == {"manual.md": content_hash(survivor)}
    assert system.catalog.pending() == []


def test_a_crash_while_deleting_leaves_nothing_after_the_next_start(
    system: FakeSystem, tmp_path: Path
) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())
    index = system.index
    system.index = But(index, remove=crash)
    with pytest.raises(Crash):
        system.ingestor().delete("manual.md")
    system.index = index
    assert index.count() > 0
    assert answer(system) == ""

    system.ingestor().recover()

    assert index.count() == 0
    assert list((tmp_path / "adapters").iterdir()) == []
    assert system.catalog.pending() == []


def test_an_internalizer_that_fails_leaves_the_new_text_to_retrieval(system: FakeSystem) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())
    failing = FakeInternalizer(error=InternalizeError("No question survived."))

    done = system.ingestor().ingest(document(NEW), failing)

    assert done.warning == "No question survived."
    assert done.adapter is None
    assert system.catalog.adapters(state=AdapterState.LIVE) == []
    assert answer(system) == "The gate code is birch."


def test_an_internalizer_that_breaks_leaves_the_new_text_to_retrieval(system: FakeSystem) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())

    with pytest.raises(RuntimeError, match="out of memory"):
        system.ingestor().ingest(
            document(NEW), FakeInternalizer(error=RuntimeError("out of memory"))
        )

    assert answer(system) == "The gate code is birch."
    assert system.catalog.adapters(state=AdapterState.LIVE) == []


def test_another_internalizer_makes_another_adapter(system: FakeSystem) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())

    done = system.ingestor().ingest(document(), FakeInternalizer(fingerprint="trained longer"))

    assert done.status is IngestStatus.UNCHANGED
    assert done.internalized
    assert done.adapter is not None
    assert done.adapter.internalizer_fingerprint == "trained longer"


def test_a_damaged_adapter_is_made_anew(system: FakeSystem, tmp_path: Path) -> None:
    first = system.ingestor().ingest(document(), FakeInternalizer()).adapter
    assert first is not None
    system.close()
    weights = tmp_path / "adapters" / first.id / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    reopened = FakeSystem(tmp_path)

    done = reopened.ingestor().ingest(document(), FakeInternalizer())

    assert done.internalized
    assert done.adapter is not None
    assert "walnut" in written_text(reopened.adapters.load(done.adapter))
    reopened.close()


def test_an_index_that_was_lost_is_filled_again(system: FakeSystem) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())
    system.index.remove("manual.md")

    done = system.ingestor().ingest(document(), FakeInternalizer())

    assert done.status is IngestStatus.REINDEXED
    assert done.retired == 0
    assert answer(system) == "The gate code is walnut."
    assert system.ingestor().ingest(document()).status is IngestStatus.UNCHANGED


def test_an_unchanged_document_is_cut_anew_where_chunks_have_another_size(
    system: FakeSystem,
) -> None:
    system.ingestor().ingest(document(), FakeInternalizer())
    system.chunker = type(system.chunker)(system.chunker._tokenizer, max_tokens=80)

    done = system.ingestor().ingest(document(), FakeInternalizer())

    assert done.status is IngestStatus.REINDEXED
    assert system.index.count("manual.md") == done.record.chunks
    assert system.catalog.get("manual.md").chunks == done.record.chunks


def test_documents_with_equal_texts_do_not_share_their_fate(system: FakeSystem) -> None:
    system.ingestor().ingest(document(id="a.md"), FakeInternalizer())
    system.ingestor().ingest(document(id="b.md"), FakeInternalizer())

    system.ingestor().delete("a.md")

    assert system.index.revisions() == {("b.md", content_hash(OLD))}
    assert answer(system) == "The gate code is walnut."


def test_an_embedder_of_another_size_is_refused(system: FakeSystem, tmp_path: Path) -> None:
    system.ingestor().ingest(document())
    system.close()

    with pytest.raises(StoreError, match=r"embedder.*`index\.embedder`"):
        EdgeIndex(tmp_path / "index", FakeEmbedder(32, "another"))

    reopened = FakeSystem(tmp_path)
    assert answer(reopened) == "The gate code is walnut."
    reopened.close()


class Slow(FakeInternalizer):
    """Takes as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.free = threading.Event(), threading.Event()

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        self.begun.set()
        assert self.free.wait(10)
        return super().internalize(document, chunks)


def test_nobody_waits_for_the_internalizing_of_another_document(system: FakeSystem) -> None:
    ingestor, slow = system.ingestor(), Slow()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingestor.ingest, document(), slow)
        assert slow.begun.wait(10)

        ingestor.ingest(document(NEW, id="other.md"))
        ingestor.delete("other.md")

        assert not running.done()
        slow.free.set()
        assert running.result().internalized


@pytest.mark.parametrize("change", ["ingest", "delete"])
def test_an_adapter_of_a_text_that_went_meanwhile_is_dropped(
    system: FakeSystem, change: str
) -> None:
    ingestor, slow = system.ingestor(), Slow()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingestor.ingest, document(), slow)
        assert slow.begun.wait(10)
        if change == "ingest":
            ingestor.ingest(document(NEW))
        else:
            ingestor.delete("manual.md")
        slow.free.set()

        with pytest.raises(StaleDocumentError):
            running.result()
    assert system.catalog.adapters() == []
