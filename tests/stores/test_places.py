"""Places and queries beside adapters' PEFT files: bit for bit, or refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hybridqa.errors import CorruptAdapterError
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.stores.peft_folder import write_peft
from hybridqa.stores.places import PLACES_FILE, QUERY_FILE, write_query
from hybridqa.stores.task_adapters import load_task_adapter
from hybridqa.testing import commit_document
from hybridqa.types import (
    Adapter,
    AdapterRecord,
    Document,
    Internalized,
    LoraLayer,
    Places,
)

DOCUMENT = Document(id="a.md", text="Tea is at four.", title="A", source="a.md")
LAYERS = {"model.layers.0.mlp.down_proj": LoraLayer(torch.ones(2, 8), torch.ones(4, 2))}
PLACES = Places(
    torch.arange(12, dtype=torch.int8).reshape(3, 4), torch.rand(3), torch.tensor([4, 7, 10])
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    commit_document(catalog, DOCUMENT)
    yield catalog
    catalog.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adapters").mkdir()
    return tmp_path / "adapters"


def publish(folder: Path, catalog: Catalog, places: Places | None) -> AdapterRecord:
    made = Internalized(
        adapter=Adapter("unpublished", LAYERS, "model", places),
        task_adapter=None,
        rank=2,
        energy=1.0,
        shares=((0, 15),),
        seconds=0.1,
    )
    return AdapterStore(folder, catalog, "base").publish(made, DOCUMENT, "associative", "network")


def test_places_are_kept_with_the_adapter(folder: Path, catalog: Catalog) -> None:
    record = publish(folder, catalog, PLACES)

    found = AdapterStore(folder, catalog, "base").load(record).places

    assert found is not None
    for name in ("keys", "scales", "starts"):
        assert torch.equal(getattr(found, name), getattr(PLACES, name))
    assert record.size_bytes == (2 * 8 + 4 * 2) * 4 + 3 * (4 + 4 + 8)


def test_other_places_make_another_adapter(folder: Path, catalog: Catalog) -> None:
    moved = replace(PLACES, starts=PLACES.starts + 1)

    ids = {publish(folder, catalog, places).id for places in (None, PLACES, moved)}

    assert len(ids) == 3


@pytest.mark.parametrize("damage", ["gone", "cut", "other", "shape"])
def test_damaged_places_are_noticed(folder: Path, catalog: Catalog, damage: str) -> None:
    record = publish(folder, catalog, PLACES)
    path = folder / record.id / PLACES_FILE
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "other":
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    else:
        save_file({"keys": PLACES.keys, "scales": PLACES.scales[:2]}, path)

    with pytest.raises(CorruptAdapterError, match=r"Ingest document `a\.md` again"):
        AdapterStore(folder, catalog, "base").load(record)


def test_a_task_adapter_comes_with_its_query(tmp_path: Path) -> None:
    write_peft(tmp_path / "plain", LAYERS, "base")
    write_peft(tmp_path / "pointing", LAYERS, "base")
    query = {"model.layers.1.mlp.down_proj": torch.rand(8, 4)}
    write_query(tmp_path / "pointing", query)

    plain = load_task_adapter(tmp_path / "plain", "model")
    pointing = load_task_adapter(tmp_path / "pointing", "model")

    assert plain.query is None
    assert pointing.query is not None
    assert torch.equal(pointing.query["model.layers.1.mlp.down_proj"], next(iter(query.values())))
    assert plain.id != pointing.id  # what was made for one does not fit the other


def test_a_query_of_several_widths_is_refused(tmp_path: Path) -> None:
    write_peft(tmp_path / "task", LAYERS, "base")
    save_file({"a": torch.rand(8, 4), "b": torch.rand(8, 5)}, tmp_path / "task" / QUERY_FILE)

    with pytest.raises(CorruptAdapterError, match="do not have one width"):
        load_task_adapter(tmp_path / "task", "model")
