"""Pointing: where a quotation begins is chosen by places, and by nothing else."""

from dataclasses import replace

import pytest
import torch

from hybridqa.models.base import BaseModel
from hybridqa.models.batching import BatchingGenerator
from hybridqa.models.capture import last_inputs
from hybridqa.models.generator import TorchGenerator
from hybridqa.models.places import packed, part, shares
from hybridqa.protocols import Pointer, Prompt
from hybridqa.testing import tiny_model
from hybridqa.types import Places

TEXT = "Tea is at four. Supper is at six."
PATHS = ["model.layers.2.mlp.down_proj", "model.layers.3.mlp.down_proj"]
ASKED = Prompt(question="When is supper?", quote_from=(TEXT,), max_tokens=12)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return tiny_model()


def pointing(base: BaseModel, likeliest: list[int]) -> Pointer:
    """Return a pointer that likes these characters of the text, in this order, for `ASKED`."""
    ids = torch.tensor([TorchGenerator(base).prompt_ids(ASKED)])
    with torch.no_grad(), last_inputs(base.model, PATHS) as inputs:
        base.model(input_ids=ids)
    wanted = torch.zeros(8)
    wanted[0] = 1.0
    query = {
        path: torch.outer(x[0] / (x[0] @ x[0]), wanted) / len(PATHS) for path, x in inputs.items()
    }
    keys = torch.zeros(len(TEXT), 8)
    for rank, character in enumerate(likeliest):
        keys[character, 0] = 40.0 - 0.5 * rank
    places = packed(keys, list(range(len(TEXT))))
    return Pointer(query=query, places=places)


def test_shares_are_those_of_the_exact_products() -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(30, 16, generator=generator)
    query = {p: torch.randn(64, 16, generator=generator) / 8 for p in PATHS}
    entering = {p: torch.randn(64, generator=generator) for p in PATHS}
    pointer = Pointer(query=query, places=packed(keys, list(range(30))))

    found = shares(pointer, entering)

    exact = (keys @ sum(entering[p] @ query[p] for p in PATHS)).softmax(0)
    assert pointer.places.keys.dtype == torch.int8
    torch.testing.assert_close(found, exact, atol=0.02, rtol=0.1)
    assert float(found.sum()) == pytest.approx(1)


def test_the_part_of_a_text_counts_from_its_beginning() -> None:
    places = packed(torch.eye(5), [0, 4, 7, 9, 12])

    inside = part(places, 4, 12)

    assert inside.starts.tolist() == [0, 3, 5]
    assert torch.equal(inside.keys, places.keys[1:4])
    assert len(part(places, 20, 30).starts) == 0


@pytest.mark.parametrize("word", ["Tea", "four", "Supper", "six"])
def test_the_answer_begins_where_it_is_pointed_to(base: BaseModel, word: str) -> None:
    pointer = pointing(base, [TEXT.index(word)])

    (made,) = TorchGenerator(base).generate([replace(ASKED, pointer=pointer)])

    assert made.span is not None
    assert made.span[1] == TEXT.index(word)
    assert TEXT[slice(*made.span[1:])].startswith(word)
    assert made.pointed is not None
    assert made.pointed > 0.99


def test_where_no_word_begins_the_next_place_is_taken(base: BaseModel) -> None:
    pointer = pointing(base, [TEXT.index("upper"), TEXT.index("six")])

    (made,) = TorchGenerator(base).generate([replace(ASKED, pointer=pointer)])

    assert made.span is not None
    assert made.span[1] == TEXT.index("six")
    assert made.pointed == pytest.approx(0.378, abs=0.02)  # 1 / (1 + exp(0.5))


def test_requests_with_and_without_pointers_share_a_batch(base: BaseModel) -> None:
    pointed = replace(ASKED, pointer=pointing(base, [TEXT.index("six")]))
    free = replace(ASKED, quote_from=None)
    generator = TorchGenerator(base)

    together = generator.generate([ASKED, pointed, free])

    alone = [generator.generate([prompt])[0] for prompt in (ASKED, pointed, free)]
    assert [m.text for m in together] == [m.text for m in alone]
    assert [m.pointed is None for m in together] == [True, False, True]


def test_the_service_points_the_same_way_whether_or_not_it_knows_the_prompt(
    base: BaseModel,
) -> None:
    pointed = replace(ASKED, pointer=pointing(base, [TEXT.index("Supper")]))
    (expected,) = TorchGenerator(base).generate([pointed])
    batching = BatchingGenerator(TorchGenerator(base))
    try:
        for _ in range(2):
            (made,) = batching.generate([pointed])
            assert (made.text, made.span) == (expected.text, expected.span)
            assert made.pointed == pytest.approx(expected.pointed, rel=1e-3)
    finally:
        batching.close()


def test_where_no_place_is_likely_the_model_chooses(base: BaseModel) -> None:
    pointer = pointing(base, [])  # all places alike

    (made,) = TorchGenerator(base).generate([replace(ASKED, pointer=pointer)])

    assert made.pointed is None
    assert made.text == TorchGenerator(base).generate([ASKED])[0].text


def test_without_places_the_model_chooses(base: BaseModel) -> None:
    none = Places(torch.zeros(0, 8, dtype=torch.int8), torch.zeros(0), torch.zeros(0).long())
    pointer = replace(pointing(base, []), places=none)

    (made,) = TorchGenerator(base).generate([replace(ASKED, pointer=pointer)])

    assert made.pointed is None
    assert made.text == TorchGenerator(base).generate([ASKED])[0].text
