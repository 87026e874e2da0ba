"""Long texts: of an exact length, and with a sentence at the right place."""

import random

import pytest

from hybridqa.errors import InputError
from hybridqa.eval.filler import Filler, FillerKind, planted
from hybridqa.testing import tiny_model


@pytest.mark.parametrize("kind", list(FillerKind))
def test_a_text_has_as_many_tokens_as_asked(kind: FillerKind) -> None:
    base = tiny_model()
    filler = Filler(base, kind)

    for tokens in (1, 100, 30_000):
        assert len(base.plain_ids(filler.text(tokens, random.Random(1)))) == tokens
    assert filler.text(500, random.Random(1)) == filler.text(500, random.Random(1))
    with pytest.raises(InputError, match="at least 1 token, got 0"):
        filler.text(0, random.Random(1))


def test_prose_comes_again_only_when_all_was_used() -> None:
    filler = Filler(tiny_model())
    text = filler.text(filler.distinct_tokens, random.Random(2))
    paragraphs = text.split("\n\n")

    assert len(paragraphs) == len(set(paragraphs)) > 50
    assert not any("|" in paragraph for paragraph in paragraphs)
    assert filler.text(5000, random.Random(2)) != filler.text(5000, random.Random(3))


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (0.0, "X! One is here. Two is there. Three"),
        (0.4, "One is here. X! Two is there. Three"),
        (0.7, "One is here. Two is there. X! Three"),
        (1.0, "One is here. Two is there. Three X!"),
    ],
)
def test_a_sentence_is_planted_between_two_others(depth: float, expected: str) -> None:
    assert planted("One is here. Two is there. Three", "X!", depth) == expected


def test_paragraphs_stay_apart() -> None:
    assert planted("One.\n\nTwo.", "X!", 0.5) == "One.\n\nX! Two."
