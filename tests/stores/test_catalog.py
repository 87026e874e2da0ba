import dataclasses
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from hybridqa.errors import (
    InputError,
    StaleDocumentError,
    StoreError,
    UnknownAdapterError,
    UnknownDocumentError,
)
from hybridqa.stores.catalog import Catalog
from hybridqa.types import (
    AdapterRecord,
    AdapterState,
    Document,
    DocumentRecord,
    DocumentSignals,
    Signal,
    content_hash,
)

LIVE, RETIRED = AdapterState.LIVE, AdapterState.RETIRED
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))


def document_record(text: str, document_id: str = "a.md") -> DocumentRecord:
    return DocumentRecord(
        document=Document(id=document_id, text=text, title="A", source=f"/docs/{document_id}"),
        signals=DocumentSignals(volatility=Signal(value=0.25), citation_need=Signal(value=1.0)),
        chunks=3,
        ingested_at=NOON,
        first_ingested_at=NOON,
    )


def adapter_record(text: str, number: int = 1, document_id: str = "a.md") -> AdapterRecord:
    return AdapterRecord(
        id=f"{number:064x}",
        document_id=document_id,
        content_hash=content_hash(text),
        model_fingerprint="model",
        internalizer="associative",
        internalizer_fingerprint="hypernetwork",
        task_adapter_id=None,
        rank=8,
        energy=0.97,
        shares=((0, 10),),
        good_shares=1,
        size_bytes=1000,
        seconds=0.5,
        created_at=NOON,
        state=LIVE,
    )


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.sqlite")


def ingest(catalog: Catalog, text: str, document_id: str = "a.md") -> list[str]:
    record = document_record(text, document_id)
    catalog.begin(document_id, record.document.content_hash)
    return catalog.commit(record)


def test_a_document_comes_back_as_it_was_given(catalog: Catalog, tmp_path: Path) -> None:
    record = DocumentRecord(
        document=Document(
            id="straße/a b.md",
            text="Zeile\r\n\x00 lone \udc80 𝄞",
            title="it's \udcff",
            source="/tmp/\udcff.md",
            modified_at=NOON,
            modified_by="git",
            revisions=(NOON, NOON - timedelta(days=3)),
            metadata={"stability": "stable", "quote": '"'},
        ),
        signals=DocumentSignals(
            volatility=Signal(value=0.1, reasons=("two revisions", "a law")),
            citation_need=Signal(value=0.9),
        ),
        chunks=7,
        ingested_at=NOON,
        first_ingested_at=NOON - timedelta(days=1),
    )
    catalog.begin(record.document.id, record.document.content_hash)
    catalog.commit(record)
    catalog.close()

    again = Catalog(tmp_path / "catalog.sqlite")
    assert again.get(record.document.id) == record
    assert again.list() == [record]
    (summary,) = again.summaries()
    assert summary.title == record.document.title
    assert summary.content_hash == record.document.content_hash
    assert summary.modified_at == NOON
    assert summary.size_bytes == len(record.document.text.encode(errors="surrogatepass"))


def test_an_adapter_comes_back_as_it_was_given(catalog: Catalog) -> None:
    ingest(catalog, "one")
    record = replace(adapter_record("one"), task_adapter_id="f" * 64)
    catalog.put_adapter(record)

    assert catalog.adapter(record.id) == record


def test_what_is_not_there_is_named(catalog: Catalog) -> None:
    assert catalog.find("no.md") is None
    assert catalog.live_hash("no.md") is None
    for call in (catalog.get, catalog.delete):
        with pytest.raises(UnknownDocumentError, match=r"no\.md"):
            call("no.md")
    with pytest.raises(UnknownDocumentError):
        catalog.touch(document_record("one"))
    for ask in (catalog.adapter, catalog.retire, catalog.remove_adapter):
        with pytest.raises(UnknownAdapterError, match="0" * 64):
            ask("0" * 64)


def test_a_commit_replaces_the_text_and_retires_the_old_adapters(catalog: Catalog) -> None:
    ingest(catalog, "one")
    catalog.put_adapter(adapter_record("one"))

    retired = ingest(catalog, "two")

    assert retired == [adapter_record("one").id]
    assert catalog.get("a.md").document.text == "two"
    assert catalog.adapters("a.md", LIVE) == []
    assert catalog.adapters("a.md", RETIRED) == [replace(adapter_record("one"), state=RETIRED)]
    assert catalog.live_adapters("a.md", content_hash("one"), "model") == []
    assert catalog.pending() == [("a.md", content_hash("one"))]  # Its chunks are still there.


def test_a_commit_of_the_same_text_keeps_its_adapters(catalog: Catalog) -> None:
    ingest(catalog, "one")
    catalog.put_adapter(adapter_record("one"))

    assert ingest(catalog, "one") == []
    assert catalog.adapters(state=LIVE) == [adapter_record("one")]


def test_a_commit_leaves_other_documents_adapters_alone(catalog: Catalog) -> None:
    ingest(catalog, "one")
    ingest(catalog, "one", "b.md")
    catalog.put_adapter(adapter_record("one", 1))
    catalog.put_adapter(adapter_record("one", 2, "b.md"))

    ingest(catalog, "two")

    assert catalog.adapters(state=LIVE) == [adapter_record("one", 2, "b.md")]


def test_the_first_ingestion_is_remembered(catalog: Catalog) -> None:
    ingest(catalog, "one")
    later = replace(
        document_record("two"),
        ingested_at=NOON + timedelta(days=1),
        first_ingested_at=NOON + timedelta(days=1),
    )
    catalog.begin("a.md", content_hash("two"))
    catalog.commit(later)

    assert catalog.get("a.md") == replace(later, first_ingested_at=NOON)


def test_a_revision_must_be_begun(catalog: Catalog) -> None:
    with pytest.raises(StaleDocumentError, match="not begun"):
        catalog.commit(document_record("one"))
    assert catalog.list() == []


def test_of_two_revisions_written_at_once_the_first_commit_wins(catalog: Catalog) -> None:
    catalog.begin("a.md", content_hash("one"))
    ingest(catalog, "two")  # Its clean-up may have removed chunks of "one".

    with pytest.raises(StaleDocumentError):
        catalog.commit(document_record("one"))
    assert catalog.get("a.md").document.text == "two"


def test_a_document_deleted_while_it_is_written_stays_deleted(catalog: Catalog) -> None:
    ingest(catalog, "one")
    catalog.begin("a.md", content_hash("two"))
    catalog.delete("a.md")

    with pytest.raises(StaleDocumentError):
        catalog.commit(document_record("two"))
    assert catalog.find("a.md") is None
    # The chunks of both may be there.
    assert set(catalog.pending()) == {("a.md", content_hash(text)) for text in ("one", "two")}
    catalog.abandon("a.md", content_hash("two"))
    catalog.abandon("a.md", content_hash("one"))
    assert catalog.pending() == []


def test_a_deleted_document_can_be_ingested_again(catalog: Catalog) -> None:
    ingest(catalog, "one")
    catalog.begin("a.md", content_hash("two"))
    catalog.delete("a.md")

    ingest(catalog, "two")

    assert catalog.get("a.md").document.text == "two"


def test_pending_revisions_survive_a_restart(catalog: Catalog, tmp_path: Path) -> None:
    catalog.begin("a.md", content_hash("one"))
    catalog.begin("a.md", content_hash("one"))
    catalog.begin("b.md", content_hash("two"))
    catalog.close()

    again = Catalog(tmp_path / "catalog.sqlite")
    assert again.pending() == [("a.md", content_hash("one")), ("b.md", content_hash("two"))]


def test_touch_changes_what_is_known_but_not_the_text(catalog: Catalog) -> None:
    ingest(catalog, "one")
    catalog.put_adapter(adapter_record("one"))
    record = document_record("one")
    touched = replace(record, document=replace(record.document, modified_at=NOON, title="B"))

    catalog.touch(touched)

    assert catalog.get("a.md") == touched
    assert catalog.adapters(state=LIVE) == [adapter_record("one")]
    with pytest.raises(StaleDocumentError):
        catalog.touch(document_record("two"))


def test_live_hashes(catalog: Catalog) -> None:
    ingest(catalog, "one")
    ingest(catalog, "two", "b.md")

    assert catalog.live_hashes() == {"a.md": content_hash("one"), "b.md": content_hash("two")}
    assert catalog.live_hashes(["b.md", "no.md"]) == {"b.md": content_hash("two")}
    assert catalog.live_hashes([]) == {}


def test_delete_takes_adapters_along_and_leaves_no_text_on_the_disk(
    catalog: Catalog, tmp_path: Path
) -> None:
    secret = "the launch code is 4711 " * 500
    ingest(catalog, secret)
    catalog.put_adapter(adapter_record(secret))
    assert any(b"4711" in path.read_bytes() for path in tmp_path.iterdir())

    assert catalog.delete("a.md") == [adapter_record(secret).id]
    assert catalog.adapters() == []
    assert not any(b"4711" in path.read_bytes() for path in tmp_path.iterdir())


def test_an_adapter_of_another_text_is_refused(catalog: Catalog) -> None:
    ingest(catalog, "one")
    catalog.put_adapter(adapter_record("one"))
    with pytest.raises(StaleDocumentError, match="has changed"):
        catalog.put_adapter(adapter_record("two", 2))
    with pytest.raises(StaleDocumentError, match="no longer there"):
        catalog.put_adapter(adapter_record("one", 2, "b.md"))
    assert catalog.adapters() == [adapter_record("one")]


def test_a_new_adapter_replaces_those_of_its_internalizer_only(catalog: Catalog) -> None:
    ingest(catalog, "one")
    first, second = adapter_record("one", 1), adapter_record("one", 2)
    distilled = replace(adapter_record("one", 3), internalizer="distillation")
    catalog.put_adapter(first)
    catalog.put_adapter(distilled)

    assert catalog.put_adapter(second) == [first.id]
    assert catalog.live_adapters("a.md", content_hash("one"), "model") == [second, distilled]
    assert catalog.live_adapters("a.md", content_hash("one"), "other model") == []
    assert catalog.adapters("a.md", RETIRED) == [replace(first, state=RETIRED)]

    catalog.put_adapter(first)  # Rolled back to.
    assert catalog.live_adapters("a.md", content_hash("one"), "model") == [first, distilled]


def test_retired_and_removed_adapters(catalog: Catalog) -> None:
    ingest(catalog, "one")
    record = adapter_record("one")
    catalog.put_adapter(record)

    assert catalog.retire(record.id) == replace(record, state=RETIRED)
    assert catalog.live_adapters("a.md", content_hash("one"), "model") == []
    catalog.remove_adapter(record.id)
    assert catalog.adapters() == []


def test_an_id_can_be_shortened_while_it_is_unique(catalog: Catalog) -> None:
    ingest(catalog, "one")
    first = replace(adapter_record("one"), id="abcdef01" + "0" * 56)
    second = replace(first, id="abcdef01" + "f" * 56)
    catalog.put_adapter(first)
    catalog.put_adapter(second)

    assert catalog.adapter("abcdef01f") == second
    with pytest.raises(InputError, match="2 adapters"):
        catalog.adapter("abcdef01")
    for unknown in ("abcdef0", "abcdef01%", "abcdef02", "ABCDEF01F", ""):
        with pytest.raises(UnknownAdapterError):
            catalog.adapter(unknown)


def test_no_reader_ever_sees_a_new_text_with_an_old_adapter(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = Catalog(path)
    ingest(catalog, "text 0")
    done = threading.Event()
    wrong: list[object] = []
    seen: set[str] = set()

    def through_the_catalog() -> None:
        while not done.is_set():
            record = catalog.get("a.md")
            hash_ = record.document.content_hash
            for adapter in catalog.live_adapters("a.md", hash_, "model"):
                seen.add(adapter.id)
                if adapter.content_hash != hash_:
                    wrong.append((record, adapter))

    def through_another_connection() -> None:
        with sqlite3.connect(path) as reader:
            while not done.is_set():
                wrong.extend(
                    reader.execute(
                        "SELECT * FROM adapters JOIN documents ON documents.id = document_id "
                        "WHERE state = 'live' AND adapters.content_hash <> documents.content_hash"
                    )
                )
        reader.close()

    targets = [through_the_catalog, through_the_catalog, through_another_connection]
    readers = [threading.Thread(target=target) for target in targets]
    for thread in readers:
        thread.start()
    try:
        for number in range(1, 60):
            catalog.put_adapter(adapter_record(f"text {number - 1}", number))
            ingest(catalog, f"text {number}")
            assert catalog.adapters(state=LIVE) == []
    finally:
        done.set()
        for thread in readers:
            thread.join()

    assert wrong == []
    assert seen


def test_late_adapters_lose_against_concurrent_commits(catalog: Catalog) -> None:
    ingest(catalog, "text 0")
    refused: list[int] = []

    def publish() -> None:
        for number in range(1, 100):
            text = catalog.get("a.md").document.text
            try:
                catalog.put_adapter(adapter_record(text, number))
            except StaleDocumentError:
                refused.append(number)

    thread = threading.Thread(target=publish)
    thread.start()
    number = 0
    while thread.is_alive():
        number += 1
        ingest(catalog, f"text {number}")
        live = catalog.adapters(state=LIVE)
        assert [record.content_hash for record in live] in ([], [content_hash(f"text {number}")])
    thread.join()


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from test_catalog import *
catalog = Catalog(sys.argv[1])
ingest(catalog, "text 0")
for number in range(1, 10**6):
    catalog.put_adapter(adapter_record(f"text {number - 1}", number))
    ingest(catalog, f"text {number}")
    print(number, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_committed(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    process.kill()
    rest, _ = process.communicate()
    last = int((lines + rest.splitlines())[-1])

    catalog = Catalog(path)
    text = catalog.get("a.md").document.text
    assert text in (f"text {last}", f"text {last + 1}")
    live = catalog.adapters(state=LIVE)
    assert all(record.content_hash == content_hash(text) for record in live)
    assert len(catalog.adapters()) >= last


def test_a_full_database_refuses_and_keeps_the_old_state(catalog: Catalog) -> None:
    ingest(catalog, "one")
    catalog.put_adapter(adapter_record("one"))
    with catalog._database.read() as db:  # SQLite's own "database or disk is full".
        db.execute("PRAGMA max_page_count = 40")
    huge = document_record("two" * 100_000)

    catalog.begin("a.md", huge.document.content_hash)
    with pytest.raises(StoreError, match=r"disk is full.*Free some disk space"):
        catalog.commit(huge)

    assert catalog.get("a.md") == document_record("one")
    assert catalog.adapters(state=LIVE) == [adapter_record("one")]
    assert catalog.pending() == [("a.md", huge.document.content_hash)]
    ingest(catalog, "three")


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_catalog import *
catalog = Catalog(sys.argv[1])
ingest(catalog, "one")
catalog.put_adapter(adapter_record("one"))
huge = document_record("two" * 1_000_000)
catalog.begin("a.md", huge.document.content_hash)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
try:
    catalog.commit(huge)
except StoreError as error:
    print(error)
assert catalog.get("a.md") == document_record("one")
assert catalog.adapters(state=LIVE) == [adapter_record("one")]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
catalog.commit(huge)
assert catalog.get("a.md") == huge
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_write_that_the_system_refuses_changes_nothing_and_can_be_repeated(
    tmp_path: Path,
) -> None:
    path = tmp_path / "catalog.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"`{path}` cannot be used" in done.stdout


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"hello, I am no database" * 100)
    with pytest.raises(StoreError, match=r"not a database.*backup"):
        Catalog(path)
    assert path.read_bytes().startswith(b"hello")


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE documents (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Catalog(path)
    assert path.read_bytes() == before


def test_a_catalog_of_an_older_version_is_upgraded(catalog: Catalog, tmp_path: Path) -> None:
    ingest(catalog, "The warranty lasts 24 months.")
    record = adapter_record("The warranty lasts 24 months.")
    record = dataclasses.replace(record, good_shares=3)
    catalog.put_adapter(record)
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite") as older:
        older.execute("ALTER TABLE adapters DROP COLUMN good_shares")
        older.execute("PRAGMA user_version = 1")
    older.close()

    for _ in range(2):  # the second time, nothing is left to be done
        again = Catalog(tmp_path / "catalog.sqlite")
        assert again.adapters() == [dataclasses.replace(record, good_shares=1)]
        again.close()


def test_a_newer_schema_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    catalog.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite") as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(StoreError, match=r"schema 99.*up to 2\. Upgrade"):
        Catalog(tmp_path / "catalog.sqlite")


def test_damage_is_reported_not_returned(catalog: Catalog, tmp_path: Path) -> None:
    ingest(catalog, "The warranty lasts 24 months. " * 1000)
    catalog.close()
    path = tmp_path / "catalog.sqlite"
    data = path.read_bytes()
    middle = data.index(b"24 months", len(data) // 2)
    path.write_bytes(data[:middle] + b"36" + data[middle + 2 :])

    again = Catalog(path)
    with pytest.raises(StoreError, match=r"`a\.md` is damaged"):
        again.get("a.md")
    again.close()

    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    again = Catalog(path)
    with pytest.raises(StoreError, match=r"malformed.*backup"):
        again.list()
    again.close()


def test_a_closed_catalog_says_so(catalog: Catalog) -> None:
    catalog.close()
    catalog.close()
    with pytest.raises(StoreError, match="closed"):
        catalog.list()


def test_an_id_that_no_encoding_holds_is_refused(catalog: Catalog) -> None:
    with pytest.raises(StoreError, match="lone surrogates"):
        catalog.begin("caf\udce9.md", "0" * 64)
    ingest(catalog, "one")


def test_times_keep_their_zone(catalog: Catalog) -> None:
    ingest(catalog, "one")
    found = catalog.get("a.md").ingested_at
    assert found.utcoffset() == timedelta(hours=2)
    assert found.astimezone(UTC) == NOON
