"""What a prompt that wears an adapter lets point to: the places of the share that is worn."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hybridqa.engines.prompts import Prompts
from hybridqa.stores.adapters import AdapterStore
from hybridqa.stores.catalog import Catalog
from hybridqa.testing import commit_document
from hybridqa.types import (
    Adapter,
    AdapterRecord,
    Document,
    Internalized,
    LoraLayer,
    Places,
)

TEXT = "Tea is at four.\n\nSupper is at six."
HALVES = ((0, 15), (17, 33))
PATH = "model.layers.0.mlp.down_proj"
TASK = Adapter("f" * 64, {}, "model", query={PATH: torch.ones(8, 4)})
PLACES = Places(torch.eye(4, dtype=torch.int8), torch.ones(4), torch.tensor([4, 10, 17, 30]))


@pytest.fixture
def adapters(tmp_path: Path) -> Iterator[AdapterStore]:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    (tmp_path / "adapters").mkdir()
    yield AdapterStore(tmp_path / "adapters", catalog, "base")
    catalog.close()


def published(
    adapters: AdapterStore, tmp_path: Path, places: Places | None = PLACES
) -> AdapterRecord:
    document = Document(id="a.md", text=TEXT, title="A", source="a.md")
    catalog = Catalog(tmp_path / "catalog.sqlite")
    commit_document(catalog, document)
    catalog.close()
    layers = {PATH: LoraLayer(torch.ones(2, 8), torch.ones(4, 2))}
    made = Internalized(
        adapter=Adapter("unpublished", layers, "model", places),
        task_adapter=TASK,
        rank=2,
        energy=1.0,
        shares=HALVES,
        seconds=0.1,
    )
    return adapters.publish(made, document, "associative", "network")


def test_a_quotation_is_pointed_to_within_its_share(adapters: AdapterStore, tmp_path: Path) -> None:
    record = published(adapters, tmp_path)
    prompts = Prompts(adapters, {TASK.id: TASK}, None, 8)

    for number, starts in enumerate([[4, 10], [0, 13]]):
        first, last = HALVES[number]
        pointer = prompts.worn("When?", record, number, TEXT[first:last]).pointer
        assert pointer is not None
        assert pointer.query is TASK.query
        assert pointer.places.starts.tolist() == starts


def test_free_wording_is_not_pointed_to(adapters: AdapterStore, tmp_path: Path) -> None:
    record = published(adapters, tmp_path)

    assert Prompts(adapters, {TASK.id: TASK}, None, 8).worn("?", record, 0, None).pointer is None


@pytest.mark.parametrize(
    ("task", "places"),
    [
        (Adapter(TASK.id, {}, "model"), PLACES),
        (TASK, None),
        (TASK, Places(PLACES.keys[:1], PLACES.scales[:1], PLACES.starts[-1:])),
    ],
)
def test_what_has_no_places_is_not_pointed_to(
    adapters: AdapterStore, tmp_path: Path, task: Adapter, places: Places | None
) -> None:
    record = published(adapters, tmp_path, places)

    prompt = Prompts(adapters, {task.id: task}, None, 8).worn("When?", record, 0, TEXT[:15])

    assert prompt.pointer is None
    assert prompt.quote_from == (TEXT[:15],)
