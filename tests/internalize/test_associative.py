"""The associative internalizer on a tiny random model and network."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

from hybridqa.errors import DocumentTooLongError, InternalizeError
from hybridqa.internalize import associative
from hybridqa.internalize.associative import AssociativeInternalizer
from hybridqa.internalize.compress import take_shares
from hybridqa.models.base import BaseModel
from hybridqa.testing import tiny_associative, tiny_model
from hybridqa.types import Adapter, Chunk, Document, Internalized

LAYERS = {f"model.layers.{n}.mlp.down_proj" for n in (2, 3)}
TEXTS = ["The office is closed on Wednesdays.", "It is open.", "Leave: 27 days, 31 after 5 years."]
RANK = 8


@pytest.fixture(scope="module")
def base() -> Iterator[BaseModel]:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    yield model
    assert all(torch.equal(t, before[name]) for name, t in model.model.state_dict().items())


def internalize(made_by: AssociativeInternalizer, texts: Sequence[str] = TEXTS) -> Internalized:
    document = Document(id="d", text=" ".join(texts), title="", source="")
    chunks, start = [], 0
    for text in texts:
        end = start + len(text)
        chunks.append(
            Chunk(
                document_id="d",
                content_hash=document.content_hash,
                start=start,
                end=end,
                text=text,
            )
        )
        start = end + 1
    return made_by.internalize(document, chunks)


def updates(adapter: Adapter) -> dict[str, Tensor]:
    return {path: x.up.float() @ x.down.float() for path, x in adapter.layers.items()}


def assert_same(one: Adapter, other: Adapter) -> None:
    """Compare updates: factors are unique up to signs only, and stored in bfloat16."""
    for path, delta in updates(one).items():
        expected = updates(other)[path]
        assert float((delta - expected).norm()) <= 0.02 * float(expected.norm()), path


def test_a_document_becomes_an_adapter_with_a_share_for_each_chunk(base: BaseModel) -> None:
    made = internalize(tiny_associative(base))

    assert set(made.adapter.layers) == LAYERS
    for layer in made.adapter.layers.values():
        assert (layer.down.shape, layer.up.shape) == ((3 * RANK, 64), (32, 3 * RANK))
        assert (layer.down.dtype, layer.up.dtype) == (torch.bfloat16, torch.bfloat16)
        assert float(layer.up.norm()) > 0
    assert (made.rank, made.adapter.model_fingerprint) == (3 * RANK, base.fingerprint)
    assert made.shares == ((0, 35), (36, 47), (48, 81))
    assert 0.5 < made.energy <= 1
    assert made.task_adapter is not None


def test_chunks_do_not_see_each_other_and_add_up(base: BaseModel) -> None:
    made_by = tiny_associative(base)
    whole = internalize(made_by).adapter
    alone = [internalize(made_by, [text]).adapter for text in TEXTS]

    for n, adapter in enumerate(alone):
        assert_same(take_shares(whole, [n], 3), adapter)
    for path, delta in updates(whole).items():
        total = torch.stack([updates(adapter)[path] for adapter in alone]).sum(0)
        assert float((delta - total).norm()) <= 0.02 * float(total.norm())
    assert float((updates(alone[0])[path] - updates(alone[2])[path]).norm()) > 0.1


def test_the_size_of_batches_does_not_matter(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = internalize(tiny_associative(base)).adapter
    monkeypatch.setattr(associative, "_BATCH_TOKENS", 1)

    assert_same(internalize(tiny_associative(base)).adapter, together)


def test_the_same_document_makes_the_same_adapter(base: BaseModel) -> None:
    one, other = tiny_associative(base), tiny_associative(base)

    assert internalize(one).adapter.id == internalize(other).adapter.id
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != tiny_associative(base, rank=4).fingerprint


def test_long_documents_get_less_rank_for_each_chunk(base: BaseModel) -> None:
    made = internalize(tiny_associative(base, max_rank=14))

    assert made.rank == 12
    assert all(layer.down.shape[0] == 12 for layer in made.adapter.layers.values())


def test_neighbours_share_where_there_are_more_chunks_than_ranks(base: BaseModel) -> None:
    texts = ["The first.", "Another one.", "A third.", "Number four.", "The end."]
    alone = internalize(tiny_associative(base, rank=64, max_rank=512), texts)

    made = internalize(tiny_associative(base, rank=64, max_rank=2), texts)

    assert made.rank == 2
    assert made.shares == ((0, alone.shares[2][1]), (alone.shares[3][0], alone.shares[4][1]))
    exact = sum_of_shares(alone, [3, 4])
    kept = sum_of_shares(made, [1])
    left = exact - kept
    assert left.norm() < exact.norm()  # the best rank 1 of the two chunks' sum, and no other's
    best = float(torch.linalg.svdvals(exact)[1:].norm())
    assert float(left.norm()) == pytest.approx(best, rel=0.05)


def sum_of_shares(made: Internalized, numbers: Sequence[int]) -> Tensor:
    part = take_shares(made.adapter, numbers, len(made.shares))
    layer = part.layers["model.layers.3.mlp.down_proj"]
    return layer.up.float() @ layer.down.float()


def test_a_chunk_of_fewer_tokens_than_its_rank_has_a_share_like_the_others(base: BaseModel) -> None:
    made = internalize(tiny_associative(base), ["ab", "A longer chunk."])

    layer = made.adapter.layers["model.layers.2.mlp.down_proj"]
    assert layer.down.shape[0] == 2 * RANK
    assert int((layer.down.norm(dim=1) > 1e-3).sum()) == 2 + RANK


def test_what_cannot_be_internalized_is_refused(base: BaseModel) -> None:
    with pytest.raises(DocumentTooLongError, match="`d`"):
        internalize(tiny_associative(base), ["chunk"] * 9)
    with pytest.raises(InternalizeError, match="no chunks"):
        internalize(tiny_associative(base), [])
