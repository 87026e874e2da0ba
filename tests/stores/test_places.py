"""Places beside adapters' PEFT files: bit for bit, or refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hybridqa.errors import CorruptAdapterError
from hybridqa.models.places import packed
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.stores.places import PLACES_FILE, tensors_of
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
PLACES = packed(
    [torch.rand(5, 4)], [(0, 3), (4, 6), (7, 9)], [True] * 3, [True, False, True], "ab" * 32
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
    for name in ("states", "scales", "spans", "begins", "closes", "pieces"):
        assert torch.equal(getattr(found, name), getattr(PLACES, name))
    assert found.locator == PLACES.locator
    assert record.size_bytes == (2 * 8 + 4 * 2) * 4 + 5 * (4 + 4 + 8 + 2) + 8 + 32


def test_other_places_make_another_adapter(folder: Path, catalog: Catalog) -> None:
    moved = replace(PLACES, spans=PLACES.spans + 1)
    others = replace(PLACES, locator="cd" * 32)

    ids = {publish(folder, catalog, places).id for places in (None, PLACES, moved, others)}

    assert len(ids) == 4


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
        named = tensors_of(Adapter("", LAYERS, "model", PLACES))
        save_file({**named, "scales": PLACES.scales[:2]}, path)

    with pytest.raises(CorruptAdapterError, match=r"Ingest document `a\.md` again"):
        AdapterStore(folder, catalog, "base").load(record)
