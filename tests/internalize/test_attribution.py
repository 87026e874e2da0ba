"""Where an answer came from: a tiny random network, against the sums written out."""

import pytest
import torch

from hybridqa.internalize.associative import AssociativeInternalizer
from hybridqa.internalize.attribution import attribute
from hybridqa.models.base import BaseModel
from hybridqa.models.generator import TorchGenerator
from hybridqa.protocols import Prompt
from hybridqa.testing import tiny_associative, tiny_model
from hybridqa.types import Chunk, Document

TEXTS = ["The office is closed on Wednesdays.", "It is open.", "Leave: 27 days, 31 after 5 years."]
DOCUMENT = Document(id="d", text="\n".join(TEXTS), title="", source="")


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return tiny_model()


def chunks() -> list[Chunk]:
    starts = [DOCUMENT.text.index(text) for text in TEXTS]
    return [
        Chunk(
            document_id="d",
            content_hash=DOCUMENT.content_hash,
            start=start,
            end=start + len(text),
            text=text,
        )
        for start, text in zip(starts, TEXTS, strict=True)
    ]


def prompt(made_by: AssociativeInternalizer) -> Prompt:
    adapter = made_by.internalize(DOCUMENT, chunks()).adapter
    return Prompt(question="When is it closed?", adapters=[made_by.task_adapter, adapter])


def test_every_place_has_its_share(base: BaseModel) -> None:
    made_by = tiny_associative(base)

    (places,) = attribute(base, made_by, [prompt(made_by)], "27 days", chunks())

    length = len(base.plain_ids(" 27 days"))
    tokens = [base.plain_tokens(text) for text in TEXTS]
    assert len(places) == sum(len(ids) - 1 for ids, _ in tokens)
    assert sum(place.score for place in places) == pytest.approx(1)
    assert [p.score for p in places] == sorted((p.score for p in places), reverse=True)
    expected = {
        chunk.text[spans[n][0] : spans[min(n + length, len(ids)) - 1][1]].strip()
        for chunk, (ids, spans) in zip(chunks(), tokens, strict=True)
        for n in range(1, len(ids))
    }
    assert {DOCUMENT.text[place.start : place.end] for place in places} == expected


def test_shares_are_by_likeness_to_the_keys_before_each_place(base: BaseModel) -> None:
    made_by = tiny_associative(base)
    asked = prompt(made_by)
    asked_ids = torch.tensor([TorchGenerator(base).prompt_ids(asked)])

    (places,) = attribute(base, made_by, [asked], "x", chunks())

    # Wear the sum of the updates as weights, and look at what enters the target layers.
    inputs: dict[int, torch.Tensor] = {}
    plain = tiny_model()
    weights = dict(plain.model.named_modules())
    for adapter in asked.adapters:
        for path, layer in adapter.layers.items():
            weights[path].weight.data += layer.up.float() @ layer.down.float()  # type: ignore[operator]
    for n in made_by.layers:
        weights[f"model.layers.{n}.mlp.down_proj"].register_forward_pre_hook(
            lambda _, args, n=n: inputs.__setitem__(n, args[0])  # type: ignore[misc]
        )
    with torch.no_grad():
        plain.model(input_ids=asked_ids)
    sequences = [base.plain_ids(text) for text in TEXTS]
    total = torch.zeros(sum(len(ids) - 1 for ids in sequences))
    for number, n in enumerate(made_by.layers):
        rows = []
        for ids in sequences:
            (keys,) = made_by.keys([ids])
            rows.append(keys[number][:-1] @ inputs[n][0, -1] * made_by.sharpness[number])
        total += torch.cat(rows).log_softmax(0) / len(made_by.layers)
    expected = total.softmax(0).sort(descending=True).values
    found = torch.tensor([place.score for place in places])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_a_text_of_one_token_has_no_place(base: BaseModel) -> None:
    made_by = tiny_associative(base)
    document = Document(id="d", text="a", title="", source="")
    chunk = Chunk(document_id="d", content_hash=document.content_hash, start=0, end=1, text="a")

    assert len(base.plain_ids("a")) == 1
    assert attribute(base, made_by, [Prompt(question="What?")], "a", [chunk]) == [[]]
