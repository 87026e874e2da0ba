"""What a hypernetwork made is a beginning: some steps bring the student closer to the teacher."""

from collections.abc import Sequence

import pytest
import torch

from hybridqa.internalize.compress import take_shares
from hybridqa.internalize.distillation import own_lessons
from hybridqa.internalize.lessons import loss
from hybridqa.internalize.refinement import RefinementInternalizer
from hybridqa.models.base import BaseModel
from hybridqa.testing import FakeAsker, tiny_model
from hybridqa.types import Adapter, Chunk, Document, Internalized, LoraLayer

TEXT = "The Mistrel pump was built in Korvhaven in 1987. Anna Brandt designed its bronze impeller."
MORE = "The Fenn valve was cast in Aldermoor in 1999. Piet Sorel tested its rubber gasket."
BLANK = "- - -"


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return tiny_model()


class Beginning:
    """An internalizer of random shares, one for each chunk."""

    name = "associative"

    def __init__(self, base: BaseModel, fingerprint: str = "ab" * 32) -> None:
        self.fingerprint = fingerprint
        self._base = base
        names = [n for n, m in base.model.named_modules() if isinstance(m, torch.nn.Linear)]
        self.path = [name for name in names if name.endswith("down_proj")][-1]
        self.task_adapter = Adapter("task", {}, base.fingerprint)

    def internalize(self, document: Document, chunks: Sequence[Chunk]) -> Internalized:
        generator, rank = torch.Generator().manual_seed(3), 2 * len(chunks)
        weight = self._base.model.get_submodule(self.path).weight
        down = torch.randn(rank, weight.shape[1], generator=generator) * 0.05
        up = torch.randn(weight.shape[0], rank, generator=generator) * 0.05
        layers = {self.path: LoraLayer(down.bfloat16(), up.bfloat16())}
        return Internalized(
            adapter=Adapter("begun", layers, self._base.fingerprint),
            task_adapter=self.task_adapter,
            rank=rank,
            energy=0.9,
            shares=tuple((chunk.start, chunk.end) for chunk in chunks),
            seconds=0.1,
        )


def given(*texts: str) -> tuple[Document, list[Chunk]]:
    document = Document(id="a.md", text="\n\n".join(texts), title="", source="a.md")
    starts = [document.text.index(text) for text in texts]
    return document, [
        Chunk(
            document_id="a.md",
            content_hash=document.content_hash,
            start=start,
            end=start + len(text),
            text=text,
        )
        for start, text in zip(starts, texts, strict=True)
    ]


def refining(base: BaseModel, steps: int = 25, seed: int = 0) -> RefinementInternalizer:
    return RefinementInternalizer(
        Beginning(base), FakeAsker(), base, None, steps, 6, seed, learning_rate=5e-2
    )


def test_each_share_comes_closer_to_the_teacher(base: BaseModel) -> None:
    document, chunks = given(TEXT, MORE)
    begun = Beginning(base).internalize(document, chunks)

    made = refining(base).internalize(document, chunks)

    assert (made.shares, made.rank, made.energy) == (begun.shares, begun.rank, begun.energy)
    assert made.task_adapter is not None
    for number, chunk in enumerate(chunks):
        lessons = own_lessons(base, FakeAsker(), None, [chunk], 6, number)
        entropy = [-(x.probabilities * x.probabilities.log()).sum(-1) for x in lessons]
        floor = float(torch.cat(entropy).mean())
        before, after = (
            float(loss(base, [take_shares(adapter, [number], 2)], lessons)) - floor
            for adapter in (begun.adapter, made.adapter)
        )
        assert 0 < after < 0.9 * before


def test_a_share_that_nothing_can_be_asked_of_stays_as_it_was(base: BaseModel) -> None:
    document, chunks = given(TEXT, BLANK)
    begun = Beginning(base).internalize(document, chunks).adapter

    made = refining(base, steps=2).internalize(document, chunks).adapter

    path = Beginning(base).path
    first, second = (take_shares(made, [n], 2).layers[path] for n in range(2))
    assert not torch.equal(first.down, take_shares(begun, [0], 2).layers[path].down)
    assert torch.equal(second.down, take_shares(begun, [1], 2).layers[path].down)
    assert torch.equal(second.up, take_shares(begun, [1], 2).layers[path].up)
    assert made.layers.keys() == {path}


def test_equal_fingerprints_make_equal_adapters(base: BaseModel) -> None:
    document, chunks = given(TEXT)
    one, again, other = refining(base, 3), refining(base, 3), refining(base, 3, seed=1)

    made = [each.internalize(document, chunks).adapter.id for each in (one, again, other)]

    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert made[0] == made[1] != made[2]
    beginning = Beginning(base, "cd" * 32)
    assert (
        RefinementInternalizer(beginning, FakeAsker(), base, None, 3, 6).fingerprint
        != one.fingerprint
    )
