import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybridqa.errors import (
    AdapterError,
    CorruptAdapterError,
    StaleDocumentError,
    StoreError,
    UnknownAdapterError,
)
from hybridqa.stores.adapter_cache import AdapterCache
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.stores.peft_folder import read_peft
from hybridqa.testing import commit_document
from hybridqa.types import (
    Adapter,
    AdapterRecord,
    AdapterState,
    Document,
    Internalized,
    LoraLayer,
)

MODULE = "model.layers.0.mlp.down_proj"
SIZE = (4 * 64 + 32 * 4) * 2
"""Bytes of the factors that `internalized` makes."""


def internalized(seed: int = 0, rank: int = 4) -> Internalized:
    generator = torch.Generator().manual_seed(seed)
    layer = LoraLayer(
        down=torch.randn(rank, 64, generator=generator).bfloat16(),
        up=torch.randn(32, rank, generator=generator).bfloat16(),
    )
    adapter = Adapter(id="unpublished", layers={MODULE: layer}, model_fingerprint="model")
    task = Adapter(id="e" * 64, layers={}, model_fingerprint="model")
    return Internalized(
        adapter=adapter, task_adapter=task, rank=rank, energy=0.9, shares=((0, 10),), seconds=0.1
    )


def document(text: str = "one", document_id: str = "../a.md") -> Document:
    return Document(id=document_id, text=text, title="A", source="/docs/a.md")


def ingest(catalog: Catalog, text: str = "one", document_id: str = "../a.md") -> None:
    commit_document(catalog, document(text, document_id))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    ingest(catalog)
    yield catalog
    catalog.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapters").mkdir()
    return tmp_path / "adapters"


@pytest.fixture
def store(catalog: Catalog, folder: Path) -> AdapterStore:
    return AdapterStore(folder, catalog, "some/base")


def reopened(store: AdapterStore, catalog: Catalog) -> AdapterStore:
    """A store with nothing in memory yet."""
    return AdapterStore(store.folder, catalog, "some/base")


def publish(store: AdapterStore, seed: int = 0, text: str = "one") -> AdapterRecord:
    return store.publish(internalized(seed), document(text), "associative", "hypernetwork")


def same(adapter: Adapter, made: Internalized) -> bool:
    expected = made.adapter.layers
    return adapter.layers.keys() == expected.keys() and all(
        torch.equal(adapter.layers[name].down, expected[name].down)
        and torch.equal(adapter.layers[name].up, expected[name].up)
        for name in expected
    )


def test_a_published_adapter_is_live_and_loads_bit_for_bit(
    store: AdapterStore, catalog: Catalog
) -> None:
    record = publish(store)

    assert catalog.adapters() == [record]
    assert record.state is AdapterState.LIVE
    assert record.task_adapter_id == "e" * 64
    assert record.size_bytes == SIZE
    assert record.content_hash == document().content_hash
    adapter = reopened(store, catalog).load(record)
    assert adapter.id == record.id
    assert adapter.model_fingerprint == "model"
    assert same(adapter, internalized())
    assert read_peft(store.folder / record.id).keys() == {MODULE}
    assert store.size_bytes > SIZE


def test_equal_factors_of_two_documents_are_two_adapters(
    store: AdapterStore, catalog: Catalog
) -> None:
    ingest(catalog, "one", "b.md")
    first = publish(store)
    second = store.publish(internalized(), document("one", "b.md"), "associative", "hypernetwork")

    assert first.id != second.id
    store.delete(first)
    assert same(reopened(store, catalog).load(second), internalized())


def test_publishing_again_makes_live_again(store: AdapterStore, catalog: Catalog) -> None:
    first = publish(store, seed=1)
    publish(store, seed=2)
    assert catalog.adapter(first.id).state is AdapterState.RETIRED

    again = publish(store, seed=1)

    assert again.id == first.id
    assert [record.id for record in catalog.adapters(state=AdapterState.LIVE)] == [first.id]
    assert same(store.load(again), internalized(1))


def test_publishing_again_mends_a_damaged_folder(store: AdapterStore, catalog: Catalog) -> None:
    record = publish(store)
    (store.folder / record.id / "adapter_model.safetensors").write_bytes(b"damaged")

    publish(store)

    assert same(reopened(store, catalog).load(record), internalized())
    assert [path.name for path in store.folder.iterdir()] == [record.id]


def test_an_adapter_of_an_old_text_is_not_published(store: AdapterStore, catalog: Catalog) -> None:
    ingest(catalog, "two")
    with pytest.raises(StaleDocumentError):
        publish(store)
    catalog.delete("../a.md")
    with pytest.raises(StaleDocumentError):
        publish(store, text="two")
    assert list(store.folder.iterdir()) == []
    assert catalog.adapters() == []


class ChangesMeanwhile(Catalog):
    """A catalog whose document changes between the writing of the folder and of the row."""

    def put_adapter(self, record: AdapterRecord) -> list[str]:
        ingest(self, "two")
        return super().put_adapter(record)


def test_a_text_that_changes_while_the_folder_is_written_leaves_nothing(
    catalog: Catalog, tmp_path: Path, folder: Path
) -> None:
    changing = ChangesMeanwhile(tmp_path / "catalog.sqlite")
    with pytest.raises(StaleDocumentError):
        publish(AdapterStore(folder, changing, "some/base"))
    assert list(folder.iterdir()) == []
    assert changing.adapters() == []
    changing.close()


def test_values_that_are_no_numbers_are_not_published(
    store: AdapterStore, catalog: Catalog
) -> None:
    made = internalized()
    made.adapter.layers[MODULE].up[3, 1] = torch.nan
    with pytest.raises(AdapterError, match="NaN"):
        store.publish(made, document(), "associative", "hypernetwork")
    assert list(store.folder.iterdir()) == []
    assert catalog.adapters() == []


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from test_adapter_store import *
home = Path(sys.argv[1])
store = AdapterStore(home / "adapters", Catalog(home / "catalog.sqlite"), "some/base")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    store.publish(internalized(rank=2000), document(), "associative", "hypernetwork")
except StoreError as error:
    print(error)
assert list(store.folder.iterdir()) == []
publish(store)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs file size limits")
def test_a_full_disk_leaves_neither_folder_nor_row(
    catalog: Catalog, folder: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Cannot write the adapter" in done.stdout
    assert "Free some disk space" in done.stdout
    assert len(catalog.adapters()) == len(list(folder.iterdir())) == 1


CRASHING = """
import os, sys
sys.path.insert(0, sys.argv[2])
from test_adapter_store import *

class Crashes(Catalog):
    def put_adapter(self, record):
        os._exit(9)

home = Path(sys.argv[1])
publish(AdapterStore(home / "adapters", Crashes(home / "catalog.sqlite"), "some/base"))
"""


def test_a_crash_between_folder_and_row_is_swept(
    store: AdapterStore, catalog: Catalog, tmp_path: Path
) -> None:
    kept = publish(store, seed=1)
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, str(tmp_path), str(Path(__file__).parent)]
    )
    assert done.returncode == 9
    orphans = {path.name for path in store.folder.iterdir()} - {kept.id}
    assert len(orphans) == 1
    assert catalog.adapters() == [kept]

    assert store.sweep() == sorted(orphans)
    assert [path.name for path in store.folder.iterdir()] == [kept.id]
    assert store.sweep() == []
    assert same(store.load(kept), internalized(1))


def test_sweep_removes_leftovers_and_rows_without_a_folder_but_nothing_foreign(
    store: AdapterStore, catalog: Catalog, tmp_path: Path
) -> None:
    vanished = publish(store)
    for file in (store.folder / vanished.id).iterdir():
        file.unlink()
    (store.folder / vanished.id).rmdir()
    (store.folder / ".tmp-half").mkdir()
    (store.folder / ".tmp-half" / "adapter_config.json").touch()
    (store.folder / "README.txt").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    (store.folder / ("a" * 64)).symlink_to(tmp_path / "elsewhere")

    assert set(store.sweep()) == {vanished.id, ".tmp-half", "a" * 64}
    assert catalog.adapters() == []
    assert [path.name for path in store.folder.iterdir()] == ["README.txt"]
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_every_flipped_byte_and_every_cut_is_noticed(store: AdapterStore, catalog: Catalog) -> None:
    record = publish(store)
    path = store.folder / record.id / "adapter_model.safetensors"
    sound = path.read_bytes()
    header = int.from_bytes(sound[:8], "little")
    for position in (0, 9, 40, 8 + header, 8 + header + 300, len(sound) - 1):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 1]) + sound[position + 1 :])
        with pytest.raises(CorruptAdapterError, match=record.id[:12]):
            reopened(store, catalog).load(record)
    for length in (0, 7, 100, len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(CorruptAdapterError, match=r"Ingest document `\.\./a\.md` again"):
            reopened(store, catalog).load(record)
    path.write_bytes(sound)
    assert same(reopened(store, catalog).load(record), internalized())


def test_a_changed_scaling_is_noticed(store: AdapterStore, catalog: Catalog) -> None:
    record = publish(store)
    path = store.folder / record.id / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 4', '"lora_alpha": 8'))
    with pytest.raises(CorruptAdapterError, match="not what was published"):
        reopened(store, catalog).load(record)


def test_another_adapters_files_are_noticed(store: AdapterStore, catalog: Catalog) -> None:
    first, second = publish(store, seed=1), publish(store, seed=2)
    for file in (store.folder / first.id).iterdir():
        (store.folder / second.id / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CorruptAdapterError, match="not what was published"):
        reopened(store, catalog).load(second)


def test_a_record_that_claims_another_model_or_text_is_noticed(
    store: AdapterStore, catalog: Catalog
) -> None:
    record = publish(store)
    for lie in (
        replace(record, model_fingerprint="other"),
        replace(record, content_hash="0" * 64),
        replace(record, document_id="b"),
    ):
        with pytest.raises(CorruptAdapterError, match="not what was published"):
            reopened(store, catalog).load(lie)


def test_links_are_refused(store: AdapterStore, catalog: Catalog, tmp_path: Path) -> None:
    record = publish(store)
    (store.folder / record.id).rename(tmp_path / "moved")
    (store.folder / record.id).symlink_to(tmp_path / "moved")
    with pytest.raises(CorruptAdapterError, match="links"):
        reopened(store, catalog).load(record)

    store.delete(record)
    assert (tmp_path / "moved" / "adapter_config.json").exists()


@pytest.mark.parametrize("bad", ["../../etc", "a" * 63, "A" * 64, "", "a" * 64 + "\n", "/" * 64])
def test_ids_never_lead_out_of_the_store(store: AdapterStore, bad: str) -> None:
    record = replace(publish(store), id=bad)
    for call in (store.load, store.delete):
        with pytest.raises(CorruptAdapterError, match="no adapter id"):
            call(record)
    with pytest.raises(CorruptAdapterError, match="no adapter id"):
        store.discard(bad)
    assert len(list(store.folder.iterdir())) == 1


def test_deleting_removes_row_folder_and_memory(store: AdapterStore, catalog: Catalog) -> None:
    record = publish(store)
    store.load(record)

    store.delete(record)

    assert catalog.adapters() == []
    assert list(store.folder.iterdir()) == []
    assert store.size_bytes == 0
    with pytest.raises(CorruptAdapterError, match="cannot be read"):
        store.load(record)
    store.delete(record)


def test_the_adapters_of_a_deleted_document_are_discarded_by_id(
    store: AdapterStore, catalog: Catalog
) -> None:
    record = publish(store)
    store.load(record)
    for adapter_id in catalog.delete("../a.md"):
        store.discard(adapter_id)

    assert list(store.folder.iterdir()) == []
    with pytest.raises(CorruptAdapterError):
        store.load(record)


def test_a_retired_adapter_can_still_be_loaded(store: AdapterStore, catalog: Catalog) -> None:
    record = publish(store)

    retired = store.retire(record)

    assert retired == replace(record, state=AdapterState.RETIRED) == catalog.adapter(record.id)
    assert same(store.load(retired), internalized())
    with pytest.raises(UnknownAdapterError):
        store.retire(replace(record, id="f" * 64))


def test_memory_keeps_the_adapters_used_last(catalog: Catalog, folder: Path) -> None:
    store = AdapterStore(folder, catalog, "some/base", cache_bytes=2 * SIZE)
    one, two, three = (publish(store, seed) for seed in range(3))
    first = store.load(one)
    second = store.load(two)
    assert store.load(one) is first

    store.load(three)  # Pushes out the second, which was used longest ago.

    assert store.load(one) is first
    assert store.load(two) is not second


def test_an_adapter_larger_than_the_memory_still_loads(catalog: Catalog, folder: Path) -> None:
    store = AdapterStore(folder, catalog, "some/base", cache_bytes=SIZE - 1)
    record = publish(store)
    assert store.load(record) is not store.load(record)


def test_readers_and_a_regenerating_writer_do_not_disturb_each_other(
    store: AdapterStore, catalog: Catalog
) -> None:
    publish(store)
    done = threading.Event()
    wrong: list[object] = []
    loads: list[str] = []

    def read() -> None:
        while not done.is_set():
            live = catalog.get("../a.md").document
            for record in catalog.live_adapters(live.id, live.content_hash, "model"):
                try:
                    adapter = store.load(record)
                except CorruptAdapterError as error:
                    if catalog.live_hash(live.id) == live.content_hash:
                        wrong.append(error)  # Only a replaced text may take its adapter along.
                    continue
                loads.append(adapter.id)
                if record.content_hash != live.content_hash or adapter.id != record.id:
                    wrong.append(record)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    try:
        for number in range(30):
            record = publish(store, number, "one" if number == 0 else f"text {number}")
            ingest(catalog, f"text {number + 1}")
            store.delete(record)
    finally:
        done.set()
        for thread in readers:
            thread.join()

    assert wrong == []
    assert loads
    assert list(store.folder.iterdir()) == []


def test_two_threads_may_publish_the_same_adapter(store: AdapterStore, catalog: Catalog) -> None:
    threads = [threading.Thread(target=publish, args=(store,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (record,) = catalog.adapters()
    assert same(reopened(store, catalog).load(record), internalized())


def test_a_vanished_store_folder_is_named(catalog: Catalog, tmp_path: Path) -> None:
    store = AdapterStore(tmp_path / "gone", catalog, "some/base")
    with pytest.raises(StoreError, match=r"sweep the adapters in `.*gone`"):
        store.sweep()


def test_an_adapter_deleted_while_it_was_read_is_not_kept_in_memory() -> None:
    cache = AdapterCache(limit_bytes=SIZE)
    adapter = internalized().adapter

    cache.put(adapter, still_wanted=lambda: False)
    assert cache.get(adapter.id) is None
    cache.put(adapter, still_wanted=lambda: True)
    assert cache.get(adapter.id) is adapter
